//! Where a path of a job leads.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use streamd_core::source::ConnectorError;

use crate::process::MODE;

/// The path from the root. `what` is what it leads to, for messages.
///
/// A relative path of a program that is run by hand begins where its user is. On a cluster it is refused: each process there
/// runs in a directory of its own, which is removed after it, and the output with it.
pub(super) fn from_root(what: &str, path: &Path) -> Result<PathBuf, ConnectorError> {
    resolved(what, path, std::env::var_os(MODE).as_deref())
}

fn resolved(what: &str, path: &Path, mode: Option<&OsStr>) -> Result<PathBuf, ConnectorError> {
    if path.is_relative() && mode.is_some() {
        return Err(ConnectorError::new(format!(
            "the path of the {what} `{}` is relative, and processes of a cluster run elsewhere: give it from the root",
            path.display()
        )));
    }
    std::path::absolute(path)
        .map_err(|cause| ConnectorError::caused(format!("cannot find the {what} `{}`", path.display()), cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_path_is_understood_by_hand_and_refused_on_a_cluster() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(resolved("input", Path::new("a/b"), None).unwrap(), here.join("a/b"));
        for mode in ["describe", "worker"] {
            let mode = Some(OsStr::new(mode));
            assert_eq!(resolved("input", Path::new("/a"), mode).unwrap(), Path::new("/a"));
            let error = resolved("input", Path::new("a/b"), mode).unwrap_err().to_string();
            assert!(
                error.contains("input `a/b` is relative") && error.contains("from the root"),
                "{error}"
            );
        }
    }
}
