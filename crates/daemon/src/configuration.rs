//! The configuration of a daemon: file, environment, `-D`.

use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::{CONFIGURATION_FILE, Configuration, ConfigurationError, Directories, Place, Problem};

use crate::arguments::DaemonArguments;

/// The permission of everybody to read a file.
const READABLE_BY_ALL: u32 = 0o004;

/// The settings of a daemon and the directories that they name.
pub struct Settings {
    /// Every key.
    pub configuration: Configuration,
    /// Where files are kept.
    pub directories: Directories,
}

impl Settings {
    /// Reads all sources. Creates nothing.
    pub fn load(arguments: &DaemonArguments) -> Result<Self, CodedError> {
        let configuration = match &arguments.configuration_directory {
            None => Ok(Configuration::default()),
            Some(directory) => with_file(&directory.join(CONFIGURATION_FILE)),
        }
        .and_then(|configuration| configuration.with_environment(variable))
        .and_then(|configuration| configuration.with_arguments(&arguments.settings))
        .map_err(|error| error.coded())?;
        check_secrets(&configuration)?;
        let directories = Directories::of(&configuration, variable)?;
        Ok(Self {
            configuration,
            directories,
        })
    }
}

fn with_file(path: &Path) -> Result<Configuration, ConfigurationError> {
    let shown = path.display().to_string();
    let file = open(path).map_err(|error| ConfigurationError {
        place: Place::File {
            path: shown.clone(),
            line: 0,
        },
        key: None,
        problem: Problem::Unreadable(error.to_string()),
    })?;
    Configuration::default().with_file(&shown, file)
}

/// Opens a regular file: a pipe would keep its reader for ever.
fn open(path: &Path) -> std::io::Result<File> {
    match std::fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(std::io::Error::other("it is no regular file")),
    }
}

/// The variables of this process that are text.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Refuses a file that holds a secret and that everybody on the machine can read.
fn check_secrets(configuration: &Configuration) -> Result<(), CodedError> {
    let Some((key, path)) = configuration.secret_from_file() else {
        return Ok(());
    };
    match std::fs::metadata(path) {
        Ok(meta) if meta.permissions().mode() & READABLE_BY_ALL != 0 => Err(CodedError::new(
            ErrorCode::InvalidConfiguration,
            format!("`{path}` holds the secret `{key}`, and everybody on this machine can read it"),
        )
        .with_hint(format!("chmod o-rwx {path}"))),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
