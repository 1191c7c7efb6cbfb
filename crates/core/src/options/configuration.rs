//! The configuration of a process or job: every key with its value and where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use super::definition::{ConfigOption, Definition, Fallback, Kind, Scope};
use super::error::{ConfigurationError, Place, Problem};
use super::keys;
use super::legacy::{self, Verdict};
use super::nearest::nearest_key;
use super::value::Setting;
use super::yaml::{self, Listener};

/// The most bytes that a configuration file may have.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Every key with its value. Starts with the defaults; each `with_…` puts one source on top.
///
/// ```
/// use streamd_core::options::{Configuration, keys};
///
/// let file = "execution.checkpointing:\n  interval: 10 s\n  dir: /data/checkpoints\n";
/// let configuration = Configuration::default()
///     .with_file("streamd.yaml", file.as_bytes())?
///     .with_arguments(["jobmanager.rpc.port=0"])?;
/// assert_eq!(configuration.get(keys::JOB_MANAGER_PORT), 0);
/// assert_eq!(configuration.get(keys::CHECKPOINTS_DIRECTORY).as_deref(), Some("file:///data/checkpoints"));
/// # Ok::<(), streamd_core::options::ConfigurationError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// By the key of the definition, in normal form.
    values: BTreeMap<&'static str, (String, Origin)>,
    notices: Vec<String>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file with this path.
    File(String),
    /// The environment variable with this name.
    Environment(&'static str),
    /// `-D`.
    Argument,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("the default"),
            Self::File(path) => f.write_str(path),
            Self::Environment(name) => write!(f, "environment variable `{name}`"),
            Self::Argument => f.write_str("`-D`"),
        }
    }
}

/// Stands in outputs where a secret would.
const HIDDEN: &str = "<secret>";

/// What marks a key as one of a secret, known or not: its value is not repeated in messages.
const SECRET_WORDS: [&str; 5] = ["secret", "password", "token", "key", "credential"];

impl fmt::Debug for Configuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.settings().map(|(key, text, origin)| (key, (text, origin))))
            .finish()
    }
}

impl Configuration {
    /// With the settings of a YAML file on top. `path` is for messages.
    pub fn with_file(mut self, path: &str, file: impl Read) -> Result<Self, ConfigurationError> {
        let refuse = |line, key, problem| ConfigurationError {
            place: Place::File {
                path: path.to_owned(),
                line,
            },
            key,
            problem,
        };
        let text = read_bounded(file).map_err(|problem| refuse(0, None, problem))?;
        let mut layer = Layer {
            origin: Origin::File(path.to_owned()),
            scope: Scope::Cluster,
            settings: BTreeMap::new(),
        };
        yaml::read(&text, &mut layer).map_err(|error| refuse(error.line, error.key, error.problem))?;
        self.put(layer);
        Ok(self)
    }

    /// With the settings of the environment on top; `variable` looks one up. An empty variable sets nothing.
    pub fn with_environment(mut self, variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigurationError> {
        for definition in keys::ALL {
            let Some(name) = definition.environment else { continue };
            let Some(value) = variable(name).filter(|value| !value.is_empty()) else {
                continue;
            };
            let mut layer = Layer {
                origin: Origin::Environment(name),
                scope: Scope::Cluster,
                settings: BTreeMap::new(),
            };
            layer
                .on_setting(definition.key, &value)
                .map_err(|problem| ConfigurationError {
                    place: Place::Environment(name.to_owned()),
                    key: None,
                    problem,
                })?;
            self.put(layer);
        }
        Ok(self)
    }

    /// With `key=value` settings of a command line on top. Of a key that is given twice, the last counts.
    pub fn with_arguments<I: IntoIterator<Item = S>, S: AsRef<str>>(
        mut self,
        arguments: I,
    ) -> Result<Self, ConfigurationError> {
        for argument in arguments {
            self.put(argument_layer(argument.as_ref(), Scope::Cluster)?);
        }
        Ok(self)
    }

    /// With the settings of one job on top. Keys of the cluster are refused.
    pub fn with_job_settings<'a, I>(mut self, settings: I) -> Result<Self, ConfigurationError>
    where
        I: IntoIterator<Item = (&'a String, &'a String)>,
    {
        for (key, value) in settings {
            self.put(argument_layer(&format!("{key}={value}"), Scope::Job)?);
        }
        Ok(self)
    }

    /// The value of an option: as it was set, or its default.
    pub fn get<T: Setting>(&self, option: ConfigOption<T>) -> T {
        T::read(self.text(option.definition)).expect("values are checked when they are set, and defaults by a test")
    }

    /// The value of an option if somebody set it.
    pub fn explicit<T: Setting>(&self, option: ConfigOption<T>) -> Option<T> {
        let (text, _) = self.values.get(option.definition.key)?;
        Some(T::read(Some(text)).expect("values are checked when they are set"))
    }

    /// Who set an option.
    pub fn origin<T: Setting>(&self, option: ConfigOption<T>) -> Origin {
        self.values
            .get(option.definition.key)
            .map_or(Origin::Default, |(_, origin)| origin.clone())
    }

    /// The value of a row of the table in its normal form, and where it comes from; `None` where there is none.
    pub fn value_of(&self, definition: &'static Definition) -> Option<(&str, Origin)> {
        let origin = self
            .values
            .get(definition.key)
            .map_or(Origin::Default, |(_, origin)| origin.clone());
        let text = self.text(definition)?;
        Some((shown(definition, text), origin))
    }

    /// Every key that was set, with its value (hidden if it is a secret) and where that came from, by key.
    pub fn settings(&self) -> impl Iterator<Item = (&'static str, &str, &Origin)> {
        let set = keys::ALL.iter().filter_map(|definition| {
            let (text, origin) = self.values.get(definition.key)?;
            Some((definition.key, shown(definition, text), origin))
        });
        let mut set: Vec<_> = set.collect();
        set.sort_unstable_by_key(|(key, _, _)| *key);
        set.into_iter()
    }

    /// The first secret that a file set, by key, with the path of the file.
    pub fn secret_from_file(&self) -> Option<(&'static str, &str)> {
        let secrets = keys::ALL
            .iter()
            .filter(|definition| matches!(definition.kind, Kind::Secret));
        secrets
            .into_iter()
            .find_map(|definition| match self.values.get(definition.key) {
                Some((_, Origin::File(path))) => Some((definition.key, path.as_str())),
                Some(_) | None => None,
            })
    }

    /// What the user should know: old spellings that were used.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    pub(super) fn text(&self, definition: &'static Definition) -> Option<&str> {
        match (self.values.get(definition.key), definition.fallback) {
            (Some((text, _)), _) => Some(text),
            (None, Fallback::Value(text)) => Some(text),
            (None, Fallback::Unset(_)) => None,
        }
    }

    fn put(&mut self, layer: Layer) {
        for (key, setting) in layer.settings {
            if setting.deprecated {
                let notice = format!("{}: `{}` is an old spelling of `{key}`", layer.origin, setting.spelling);
                self.notices.push(notice);
            }
            self.values.insert(key, (setting.value, layer.origin.clone()));
        }
    }
}

/// A value in its normal form. One of Flink's that is not taken is refused with the reason.
fn checked(definition: &Definition, value: &str) -> Result<String, Problem> {
    definition.kind.check(value).map_err(
        |problem| match (problem, legacy::refused_value(definition.key, value)) {
            (Problem::WrongType { expected, found }, Some(reason)) => Problem::RefusedValue {
                expected,
                found,
                reason,
            },
            (problem, _) => problem,
        },
    )
}

fn shown<'a>(definition: &Definition, text: &'a str) -> &'a str {
    match definition.kind {
        Kind::Secret => HIDDEN,
        _public => text,
    }
}

fn read_bounded(file: impl Read) -> Result<String, Problem> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES).expect("a mebibyte") + 1;
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Problem::Unreadable(error.to_string()))?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(Problem::TooLarge(MAX_FILE_BYTES));
    }
    let text = String::from_utf8(bytes).map_err(|_| Problem::NotUtf8)?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

fn argument_layer(argument: &str, scope: Scope) -> Result<Layer, ConfigurationError> {
    let refuse = |key: Option<&str>, problem| ConfigurationError {
        place: Place::Argument(without_secret(argument)),
        key: key.map(str::to_owned),
        problem,
    };
    let (key, value) = argument
        .split_once('=')
        .map(|(key, value)| (key.trim(), value))
        .filter(|(key, _)| !key.is_empty())
        .ok_or_else(|| refuse(None, Problem::NotAnAssignment))?;
    let mut layer = Layer {
        origin: Origin::Argument,
        scope,
        settings: BTreeMap::new(),
    };
    layer
        .on_setting(key, value)
        .map_err(|problem| refuse(Some(key), problem))?;
    Ok(layer)
}

/// An argument for messages: without its value if its key may be one of a secret, mistyped or not.
fn without_secret(argument: &str) -> String {
    let key = argument.split('=').next().unwrap_or_default().to_ascii_lowercase();
    match SECRET_WORDS.iter().any(|word| key.contains(word)) {
        true if argument.contains('=') => format!("{}=…", &argument[..key.len()]),
        _no_value => argument.to_owned(),
    }
}

/// The settings of one source.
struct Layer {
    origin: Origin,
    /// [`Scope::Job`]: keys of the cluster are refused.
    scope: Scope,
    settings: BTreeMap<&'static str, LayerSetting>,
}

struct LayerSetting {
    spelling: String,
    deprecated: bool,
    value: String,
}

impl Listener for Layer {
    fn is_block(&self, key: &str) -> bool {
        let starts_so = |known: &&str| known.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
        keys::ALL
            .iter()
            .any(|definition| definition.spellings().any(|known| starts_so(&known)))
    }

    fn on_setting(&mut self, key: &str, value: &str) -> Result<(), Problem> {
        let Some(definition) = keys::ALL
            .iter()
            .find(|definition| definition.spellings().any(|known| known == key))
        else {
            return match legacy::verdict(key, value) {
                Some(Verdict::AlwaysSo) => Ok(()),
                Some(Verdict::Refused(reason)) => Err(Problem::Unsupported(reason)),
                None => Err(Problem::UnknownKey {
                    nearest: nearest_key(key),
                }),
            };
        };
        if self.scope == Scope::Job && definition.scope == Scope::Cluster {
            return Err(Problem::ClusterKey);
        }
        if matches!((definition.kind, &self.origin), (Kind::Secret, Origin::Argument)) {
            return Err(Problem::SecretArgument);
        }
        if let Some(earlier) = self.settings.get(definition.key) {
            return Err(Problem::Duplicate {
                first: earlier.spelling.clone(),
            });
        }
        let setting = LayerSetting {
            spelling: key.to_owned(),
            deprecated: definition.deprecated.contains(&key),
            value: checked(definition, value)?,
        };
        self.settings.insert(definition.key, setting);
        Ok(())
    }
}
