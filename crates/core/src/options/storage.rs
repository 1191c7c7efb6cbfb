//! What a process must know to reach object stores: settings of the cluster, and what the providers' own tools would read.

use std::collections::BTreeMap;
use std::fmt;

use super::configuration::Configuration;
use super::definition::ConfigOption;
use super::keys;
use super::value::Setting;

/// The beginnings of the environment variables that the providers' own tools read.
const PROVIDERS: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// The beginnings of the keys that are about stores.
const KEYS: [&str; 3] = ["s3.", "gs.", "azure."];

/// The settings of object stores. They hold secrets: nothing of them is printed but their names.
///
/// Keys of the configuration go before variables of the environment.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StorageSettings {
    /// By key of the configuration, in normal form.
    keys: BTreeMap<String, String>,
    /// By name of the variable.
    variables: BTreeMap<String, String>,
}

impl StorageSettings {
    /// What a configuration says, with what the environment says where that is silent.
    pub fn of(configuration: &Configuration, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let about_stores = keys::ALL
            .iter()
            .filter(|definition| KEYS.iter().any(|prefix| definition.key.starts_with(prefix)));
        let keys = about_stores.filter_map(|definition| {
            let text = configuration.text(definition)?;
            Some((definition.key.to_owned(), text.to_owned()))
        });
        let of_a_provider = |(name, _): &(String, String)| PROVIDERS.iter().any(|prefix| name.starts_with(prefix));
        Self {
            keys: keys.collect(),
            variables: environment.into_iter().filter(of_a_provider).collect(),
        }
    }

    /// The value of a key.
    pub fn get<T: Setting>(&self, option: ConfigOption<Option<T>>) -> Option<T> {
        T::read(Some(self.keys.get(option.key())?))
    }

    /// The variables of one provider, by name: `AWS_…`, for one.
    pub fn variables(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let of_it = self.variables.iter().filter(move |(name, _)| name.starts_with(prefix));
        of_it.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Everything, secrets included, for a file that nobody else can read.
    pub fn expose_as_json(&self) -> String {
        serde_json::json!({ "keys": self.keys, "variables": self.variables }).to_string()
    }

    /// What [`expose_as_json`](Self::expose_as_json) has written.
    pub fn from_json(text: &str) -> Option<Self> {
        let mut parts: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(text).ok()?;
        Some(Self {
            keys: parts.remove("keys")?,
            variables: parts.remove("variables")?,
        })
    }
}

impl fmt::Debug for StorageSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.keys.keys().chain(self.variables.keys()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_stores_survive_their_file_and_are_never_printed() {
        let file = "s3.endpoint: http://127.0.0.1:9000\ns3.secret-key: hunter2\nparallelism.default: 3\n";
        let configuration = Configuration::default()
            .with_file("streamd.yaml", file.as_bytes())
            .unwrap();
        let environment = [
            ("AWS_REGION", "eu-west-1"),
            ("AWS_SESSION_TOKEN", "hunter3"),
            ("PATH", "/bin"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let settings = StorageSettings::of(&configuration, environment);
        let read = StorageSettings::from_json(&settings.expose_as_json()).unwrap();
        assert_eq!(read, settings);
        assert_eq!(read.get(keys::S3_SECRET_KEY).unwrap().expose(), "hunter2");
        assert_eq!(read.get(keys::S3_ENDPOINT).as_deref(), Some("http://127.0.0.1:9000"));
        let variables: Vec<_> = read.variables("AWS_").collect();
        assert_eq!(
            variables,
            [("AWS_REGION", "eu-west-1"), ("AWS_SESSION_TOKEN", "hunter3")]
        );
        let printed = format!("{settings:?} {configuration:?}");
        assert!(!printed.contains("hunter"), "{printed}");
        assert!(StorageSettings::from_json("{}").is_none());
    }
}
