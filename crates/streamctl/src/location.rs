//! Places of savepoints, as the user writes them: relative to where the command runs.

use std::path::{Component, Path, PathBuf};

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::{LocationError, shared_location};

use crate::failure::Failure;

/// The place as the job manager understands it: paths become `file://` URIs, relative ones from the working directory.
/// URIs of other stores are passed on, the job manager knows which it opens.
pub fn absolute(text: &str) -> Result<String, Failure> {
    let refuse = |reason: String| {
        Failure::from(
            CodedError::new(ErrorCode::InvalidStorageUri, reason)
                .with_hint("give a path, or a URI like `file:///data/savepoints`"),
        )
    };
    if text.is_empty() {
        return Err(refuse("the path is empty".to_owned()));
    }
    let path = text
        .strip_prefix("file:")
        .filter(|rest| !rest.starts_with('/'))
        .unwrap_or(text);
    let is_path = path.starts_with('/') || !path.contains(':');
    let place = if is_path { resolved(path)? } else { path.to_owned() };
    match shared_location(&place) {
        Ok(uri) => Ok(uri),
        Err(LocationError::UnknownScheme { .. }) if text.contains("://") => Ok(text.to_owned()),
        Err(LocationError::Relative(_) | LocationError::UnknownScheme { .. }) => {
            resolved(path).and_then(|path| shared_location(&path).map_err(|error| refuse(error.to_string())))
        }
        Err(error) => Err(refuse(error.to_string())),
    }
}

/// What to do where a path cannot be completed.
const WHOLE_PATH: &str = "give the path from the root";

/// The path from the root, without `.` and `..`.
fn resolved(path: &str) -> Result<String, Failure> {
    let absolute = std::path::absolute(path)
        .map_err(|error| CodedError::caused(ErrorCode::InvalidStorageUri, format!("the path `{path}`"), &error))
        .map_err(|error| error.with_hint(WHOLE_PATH))?;
    let plain = match absolute.canonicalize() {
        // Only what climbs is looked up: a path that the user named through a link keeps that name.
        Ok(real) if path.contains("..") => real,
        Ok(_) | Err(_) => without_dots(&absolute),
    };
    let text = plain.into_os_string().into_string();
    text.map_err(|_| Failure::usage(format!("the path `{path}` is not UTF-8 from the root"), WHOLE_PATH))
}

fn without_dots(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(component),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_root(text: &str) -> String {
        absolute(text).unwrap_or_else(|failure| format!("{failure:?}"))
    }

    #[test]
    fn relative_places_are_named_from_the_root() {
        let here = std::env::current_dir().unwrap().display().to_string();
        let parent = std::env::current_dir().unwrap().parent().unwrap().display().to_string();
        assert_eq!(at_root("sp"), format!("file://{here}/sp"));
        assert_eq!(at_root("./sp/"), format!("file://{here}/sp"));
        assert_eq!(at_root("../sp"), format!("file://{parent}/sp"));
        assert_eq!(at_root("file:sp"), format!("file://{here}/sp"));
    }

    #[test]
    fn absolute_places_and_uris_stay_what_they_are() {
        assert_eq!(at_root("/data/sp"), "file:///data/sp");
        assert_eq!(at_root("/data/with space"), "file:///data/with%20space");
        assert_eq!(at_root("file:/data/sp/"), "file:///data/sp");
        assert_eq!(at_root("file:///data/sp"), "file:///data/sp");
        assert_eq!(at_root("s3://bucket/sp"), "s3://bucket/sp");
    }

    #[test]
    fn what_names_no_place_is_refused() {
        for bad in ["", "file://host/sp", "/a\u{1b}b", "memory:///sp"] {
            assert!(
                matches!(absolute(bad), Err(Failure::Error(error)) if error.code == ErrorCode::InvalidStorageUri),
                "{bad}"
            );
        }
    }
}
