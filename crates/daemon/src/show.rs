//! `streamd config`: the configuration as the daemons see it.

use std::io::Write;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::{Definition, keys};

use crate::configuration::Settings;

/// Prints every key, or the value of one.
pub fn show(settings: &Settings, key: Option<&str>) -> Result<(), CodedError> {
    let text = match key {
        None => keys::ALL.iter().map(|definition| line(settings, definition)).collect(),
        Some(key) => {
            let definition = keys::ALL
                .iter()
                .find(|definition| definition.spellings().any(|known| known == key));
            let definition = definition.ok_or_else(|| {
                CodedError::new(ErrorCode::UnknownConfigurationKey, format!("unknown key `{key}`"))
                    .with_hint("`streamd config` lists every key")
            })?;
            value(settings, definition)
                .map(|(value, _)| format!("{value}\n"))
                .unwrap_or_default()
        }
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(CodedError::caused(
            ErrorCode::OutputFailed,
            "the output cannot be written",
            &error,
        )),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn line(settings: &Settings, definition: &'static Definition) -> String {
    match value(settings, definition) {
        Some((value, origin)) => format!("{}: {value}  # {origin}\n", definition.key),
        None => format!("#{}:  # {}\n", definition.key, definition.fallback.shown()),
    }
}

/// The value that holds: as it is set, or as it follows from other settings.
fn value(settings: &Settings, definition: &'static Definition) -> Option<(String, String)> {
    if let Some((value, origin)) = settings.configuration.value_of(definition) {
        return Some((value.to_owned(), origin.to_string()));
    }
    let directories = &settings.directories;
    let path = |path: &std::path::Path| path.display().to_string();
    let derived = match definition.key {
        key if key == keys::WORKING_DIRECTORY.key() => path(&directories.working),
        key if key == keys::LOG_DIRECTORY.key() => path(&directories.log),
        key if key == keys::PID_DIRECTORY.key() => path(&directories.pid),
        key if key == keys::TEMPORARY_DIRECTORY.key() => path(&directories.temporary),
        key if key == keys::HA_STORAGE_DIRECTORY.key() => directories.ha_storage.clone(),
        key if key == keys::CHECKPOINTS_DIRECTORY.key() => directories.checkpoints.clone(),
        _not_derived => return None,
    };
    Some((derived, "the default".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamd_core::options::{Configuration, Directories};

    #[test]
    fn a_directory_that_follows_from_another_is_shown_as_it_is_used() {
        let configuration = Configuration::default()
            .with_arguments(["process.working-dir=/w"])
            .unwrap();
        let directories = Directories::of(&configuration, |_| None).unwrap();
        let settings = Settings {
            configuration,
            directories,
        };
        assert_eq!(
            line(&settings, keys::LOG_DIRECTORY.definition),
            "env.log.dir: /w/log  # the default\n"
        );
        assert_eq!(
            line(&settings, keys::WORKING_DIRECTORY.definition),
            "process.working-dir: /w  # `-D`\n"
        );
        assert_eq!(
            line(&settings, keys::SAVEPOINTS_DIRECTORY.definition),
            "#execution.checkpointing.savepoint-dir:  # (the command must name one)\n"
        );
    }
}
