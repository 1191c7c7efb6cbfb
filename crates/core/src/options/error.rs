//! What can be wrong with a configuration, and where.

use std::fmt;

use super::endpoint::EndpointError;
use super::location::{KNOWN_SCHEMES, LocationError};
use crate::error::{CodedError, ErrorCode};

/// A configuration that is refused: where, which key, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigurationError {
    /// Where it stands.
    pub place: Place,
    /// The key, as it is spelled there; `None` if the whole source is at fault.
    pub key: Option<String>,
    /// Why.
    pub problem: Problem,
}

/// Where a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A line of a file; 0 if no line is to blame.
    File {
        /// Its path, for people.
        path: String,
        /// From 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// `-D …`, as it was given.
    Argument(String),
}

/// Why a setting is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No such key.
    #[error("unknown key")]
    UnknownKey {
        /// The nearest key that there is.
        nearest: Option<&'static str>,
    },
    /// A key of Flink's that makes no sense here, or not yet.
    #[error("this key is not supported")]
    Unsupported(&'static str),
    /// Not of the key's type, or out of its bounds.
    #[error("expected {expected}, found `{found}`")]
    WrongType {
        /// What was expected.
        expected: String,
        /// The value.
        found: String,
    },
    /// A value of Flink's that makes no sense here.
    #[error("expected {expected}, found `{found}`")]
    RefusedValue {
        /// What was expected.
        expected: String,
        /// The value.
        found: String,
        /// Why it is refused, and what to write instead.
        reason: &'static str,
    },
    /// No such place.
    #[error(transparent)]
    Location(LocationError),
    /// No such server, or one that must not be spoken to.
    #[error(transparent)]
    Endpoint(EndpointError),
    /// A secret that is none; it is not repeated.
    #[error("expected a secret of at most 1024 characters on one line")]
    MalformedSecret,
    /// A secret where every process of the machine can read it.
    #[error("the key holds a secret, and what stands on a command line is seen by everybody on the machine")]
    SecretArgument,
    /// No value.
    #[error("the key has no value")]
    Empty,
    /// A value that is no single value.
    #[error("expected one value, found {0}")]
    NotScalar(&'static str),
    /// A value where a block of keys was expected.
    #[error("expected a block of keys, found a value")]
    NotABlock,
    /// Said twice, under one spelling or two.
    #[error("the key is set twice, the first time as `{first}`")]
    Duplicate {
        /// The first spelling.
        first: String,
    },
    /// A key that a job cannot set.
    #[error("the key belongs to the cluster: a job cannot set it")]
    ClusterKey,
    /// `-D` without `key=value`.
    #[error("expected `key=value`")]
    NotAnAssignment,
    /// No YAML.
    #[error("no valid YAML: {0}")]
    Syntax(String),
    /// Too long to be a configuration.
    #[error("the file is longer than {0} bytes")]
    TooLarge(usize),
    /// Not text.
    #[error("the file is not UTF-8")]
    NotUtf8,
    /// The file cannot be read.
    #[error("cannot read the file: {0}")]
    Unreadable(String),
}

impl ConfigurationError {
    /// The error as a person meets it.
    pub fn coded(&self) -> CodedError {
        CodedError::new(self.code(), self.to_string()).with_hint(self.hint())
    }

    fn code(&self) -> ErrorCode {
        match self.problem {
            Problem::UnknownKey { .. } | Problem::Unsupported(_) => ErrorCode::UnknownConfigurationKey,
            Problem::NotAnAssignment | Problem::SecretArgument => ErrorCode::InvalidArgument,
            Problem::Endpoint(EndpointError::Insecure(_)) => ErrorCode::InsecureStorageEndpoint,
            Problem::WrongType { .. }
            | Problem::RefusedValue { .. }
            | Problem::Location(_)
            | Problem::Endpoint(_)
            | Problem::MalformedSecret
            | Problem::Empty
            | Problem::NotScalar(_)
            | Problem::NotABlock
            | Problem::Duplicate { .. }
            | Problem::ClusterKey
            | Problem::Syntax(_)
            | Problem::TooLarge(_)
            | Problem::NotUtf8
            | Problem::Unreadable(_) => ErrorCode::InvalidConfiguration,
        }
    }

    /// What to do about it: every problem has an answer.
    fn hint(&self) -> String {
        let answer = match &self.problem {
            Problem::UnknownKey { nearest: Some(key) } => return format!("did you mean `{key}`?"),
            Problem::WrongType { found, expected } if expected.starts_with("a duration") && is_number(found) => {
                return format!("add the unit: `{found} ms`, `{found} s` or `{found} min`");
            }
            Problem::UnknownKey { nearest: None } => "docs/reference/configuration.md lists every key",
            Problem::Unsupported(reason) | Problem::RefusedValue { reason, .. } => reason,
            Problem::WrongType { .. } => "correct it, or leave it out to have the default",
            Problem::Location(LocationError::UnknownScheme { .. }) => {
                return format!("the schemes are `{}`", KNOWN_SCHEMES.join("`, `"));
            }
            Problem::Location(location) => hint_at(location),
            Problem::Endpoint(EndpointError::Insecure(_)) => {
                "write `https://`: plain HTTP is for servers on this machine, like `http://127.0.0.1:9000`"
            }
            Problem::Endpoint(_) => "write `https://HOST:PORT`, and put keys under their own keys",
            Problem::MalformedSecret => "is the line the right one?",
            Problem::SecretArgument => "write it into conf/streamd.yaml, and let nobody else read that file",
            Problem::Empty => "give it a value, or remove the line",
            Problem::Duplicate { .. } => "keep one of the two",
            Problem::ClusterKey => "set it in the configuration of the daemons, conf/streamd.yaml",
            Problem::NotAnAssignment => "for example `-D execution.checkpointing.interval=10s`",
            Problem::NotScalar(_) | Problem::NotABlock => "a line is `key: value`",
            Problem::Syntax(_) => "a line is `key: value`; indent with spaces, not with tabs",
            Problem::TooLarge(_) | Problem::NotUtf8 => "is it the right file?",
            Problem::Unreadable(_) => "`--conf` and `STREAMD_CONF_DIR` name the directory of streamd.yaml",
        };
        answer.to_owned()
    }
}

fn hint_at(location: &LocationError) -> &'static str {
    match location {
        LocationError::Relative(_) => "write the whole path, from the root",
        LocationError::UnknownScheme { .. } => "docs/how-to/use-object-storage.md lists the schemes",
        LocationError::NoStore(_) => "write `s3://BUCKET/PATH`",
        LocationError::Credentials(_) => "put keys into conf/streamd.yaml or the provider's environment variables",
        LocationError::Host(_) => "write `file:///PATH`, or the path alone",
        LocationError::Unsafe(_) => "write the path that it leads to",
        LocationError::OfOneProcess(_) => "name a folder that every machine of the cluster sees, or an object store",
        LocationError::NotAPath(_) => "write the path alone, from the root",
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if let Some(key) = &self.key {
            write!(f, "`{}`: ", printable(key))?;
        }
        f.write_str(&printable(&self.problem.to_string()))
    }
}

impl std::error::Error for ConfigurationError {}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line: 0 } => f.write_str(path),
            Self::File { path, line } => write!(f, "{path}:{line}"),
            Self::Environment(name) => write!(f, "environment variable `{name}`"),
            Self::Argument(argument) => write!(f, "`-D {}`", printable(argument)),
        }
    }
}

/// At most 200 characters of what may be hostile, on one line and without escape codes.
fn printable(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { '?' } else { c });
    match text.char_indices().nth(200) {
        None => clean.collect(),
        Some(_) => clean.take(200).chain(['…']).collect(),
    }
}
