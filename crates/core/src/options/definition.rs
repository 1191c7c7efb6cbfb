//! What the table says about one configuration key.

use std::marker::PhantomData;
use std::net::IpAddr;

use super::endpoint::check_endpoint;
use super::error::Problem;
use super::location::{absolute_directory, shared_location};
use super::value::{Setting, parse_duration, parse_float, parse_host, parse_integer, parse_size};

/// A configuration key together with the Rust type of its value.
#[derive(Debug)]
pub struct ConfigOption<T> {
    /// What the table says about it.
    pub definition: &'static Definition,
    value: PhantomData<fn() -> T>,
}

// Derived, these would ask the value to be copied, of which there is none here.
impl<T> Clone for ConfigOption<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for ConfigOption<T> {}

impl<T: Setting> ConfigOption<T> {
    pub(super) const fn new(definition: &'static Definition) -> Self {
        Self {
            definition,
            value: PhantomData,
        }
    }

    /// The key, as messages and documents spell it.
    pub const fn key(self) -> &'static str {
        self.definition.key
    }
}

/// A row of the table.
#[derive(Debug)]
pub struct Definition {
    /// The key that documents and messages use.
    pub key: &'static str,
    /// What a value looks like.
    pub kind: Kind,
    /// The value where nothing is set.
    pub fallback: Fallback,
    /// Who may set it.
    pub scope: Scope,
    /// Other spellings that are as good as the key.
    pub aliases: &'static [&'static str],
    /// Spellings of the past: accepted, with a notice.
    pub deprecated: &'static [&'static str],
    /// The environment variable that sets it, if any.
    pub environment: Option<&'static str>,
    /// What it does: Markdown, whole sentences.
    pub doc: &'static str,
}

impl Definition {
    /// The key and every other spelling of it.
    pub fn spellings(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.key)
            .chain(self.aliases.iter().copied())
            .chain(self.deprecated.iter().copied())
    }
}

/// The value of a key that nobody set.
#[derive(Debug, Clone, Copy)]
pub enum Fallback {
    /// This text, as if it stood in the file.
    Value(&'static str),
    /// None; what that means, in a few words.
    Unset(&'static str),
}

/// Who may set a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The daemons and `streamctl`, from their own configuration.
    Cluster,
    /// A job too, with `streamctl run -D key=value`.
    Job,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// A time with its unit; bounds in milliseconds, both included.
    Duration {
        /// The least.
        min_ms: u64,
        /// The most.
        max_ms: u64,
    },
    /// A number of bytes with its unit; both bounds included.
    Size {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A whole number; both bounds included.
    Integer {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A number; both bounds included.
    Float {
        /// The least.
        min: f64,
        /// The most.
        max: f64,
    },
    /// One of these words, in any case.
    Choice(&'static [&'static str]),
    /// A host name or IP address.
    Host,
    /// An IP address.
    Address,
    /// An absolute path of this machine.
    Directory,
    /// An absolute path or a URI of a store.
    Location,
    /// The URL of a server: `https://…`, or `http://…` on this machine.
    Endpoint,
    /// A word or name, shown as it is.
    Text,
    /// What nobody may see: never printed, and not taken from a command line.
    Secret,
}

impl Kind {
    /// The value in its normal form, or what is wrong with it.
    pub(super) fn check(self, text: &str) -> Result<String, Problem> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Problem::Empty);
        }
        match self {
            Self::Duration { min_ms, max_ms } => parse_duration(text)
                .filter(|duration| (u128::from(min_ms)..=u128::from(max_ms)).contains(&duration.as_millis()))
                .map(|_| text.to_owned()),
            Self::Size { min, max } => parse_size(text)
                .filter(|bytes| (min..=max).contains(bytes))
                .map(|_| text.to_owned()),
            Self::Integer { min, max } => parse_integer(text)
                .filter(|number| (min..=max).contains(number))
                .map(|number| number.to_string()),
            Self::Float { min, max } => parse_float(text)
                .filter(|number| (min..=max).contains(number))
                .map(|number| number.to_string()),
            Self::Choice(words) => super::choice::find(words, text).map(str::to_owned),
            Self::Host => parse_host(text).map(str::to_owned),
            Self::Address => text.parse::<IpAddr>().ok().map(|address| address.to_string()),
            Self::Directory => return absolute_directory(text).map_err(Problem::Location),
            Self::Location => return shared_location(text).map_err(Problem::Location),
            Self::Endpoint => {
                check_endpoint(text).map_err(Problem::Endpoint)?;
                Some(text.trim_end_matches('/').to_owned())
            }
            Self::Text => is_plain(text).then(|| text.to_owned()),
            Self::Secret if is_plain(text) => Some(text.to_owned()),
            // Not even a malformed one is repeated.
            Self::Secret => return Err(Problem::MalformedSecret),
        }
        .ok_or_else(|| Problem::WrongType {
            expected: self.expectation(),
            found: text.to_owned(),
        })
    }

    /// What a message says was expected.
    pub fn expectation(self) -> String {
        match self {
            Self::Duration {
                min_ms: 0,
                max_ms: u64::MAX,
            } => "a duration with its unit, like `10 s`".to_owned(),
            Self::Duration {
                min_ms,
                max_ms: u64::MAX,
            } => {
                format!(
                    "a duration with its unit, like `10 s`, of at least {}",
                    super::format_duration(min_ms)
                )
            }
            Self::Duration { min_ms, max_ms } => format!(
                "a duration with its unit, like `10 s`, from {} to {}",
                super::format_duration(min_ms),
                super::format_duration(max_ms)
            ),
            Self::Size { min, max } => format!(
                "a size with its unit, like `128 mb`, from {} to {}",
                super::format_size(min),
                super::format_size(max)
            ),
            Self::Integer { min, max } => format!("a whole number from {min} to {max}"),
            Self::Float { min, max } => format!("a number from {min} to {max}"),
            Self::Choice(words) => format!("one of `{}`", words.join("`, `")),
            Self::Host => "a host name or IP address".to_owned(),
            Self::Address => "an IP address".to_owned(),
            Self::Directory => "an absolute path".to_owned(),
            Self::Location => "an absolute path or the URI of a store".to_owned(),
            Self::Endpoint => "a URL like `https://host:port`".to_owned(),
            Self::Text => "a text of at most 1024 characters on one line".to_owned(),
            Self::Secret => "a secret of at most 1024 characters on one line".to_owned(),
        }
    }

    /// The name of the type in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Duration { .. } => "duration",
            Self::Size { .. } => "size",
            Self::Integer { .. } => "integer",
            Self::Float { .. } => "float",
            Self::Choice(_) => "enum",
            Self::Host => "host",
            Self::Address => "IP address",
            Self::Directory => "path",
            Self::Location => "path or URI",
            Self::Endpoint => "URL",
            Self::Text => "text",
            Self::Secret => "secret",
        }
    }
}

/// Whether a text is on one line and of a sane length.
fn is_plain(text: &str) -> bool {
    text.len() <= 1024 && !text.chars().any(char::is_control)
}

impl Fallback {
    /// What documents show as the default.
    pub fn shown(self) -> String {
        match self {
            Self::Value(text) => format!("`{text}`"),
            Self::Unset(meaning) => format!("({meaning})"),
        }
    }
}
