//! Everything below a place, with dates and with what the store's own listing hides: for finding what nothing refers to.

use std::fs::Metadata;
use std::path::{Path as FilePath, PathBuf};

use futures::TryStreamExt;
use streamd_core::time::WallTime;

use super::location::Location;
use crate::error::StoreError;

/// How deep folders are walked. streamd's own nest five deep at most; what lies deeper is reported and not entered.
const MAX_DEPTH: usize = 16;

/// Something below a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Surveyed {
    /// Its name, relative to the place.
    pub name: String,
    /// What it is.
    pub kind: SurveyedKind,
    /// Its length in bytes.
    pub length: u64,
    /// When it was last written.
    pub modified: WallTime,
}

/// What lies below a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SurveyedKind {
    /// An object.
    Object,
    /// A symbolic link to something that is no folder, or to nothing; it is not followed.
    Link,
    /// A symbolic link to a folder, which is not followed.
    FolderLink,
    /// A folder too deep to be looked into, a pipe, a file whose name is no text: nothing of streamd's.
    Other,
}

impl Location {
    /// Everything below this folder, in order of name. Symbolic links below it are listed and never followed. Empty where the folder
    /// does not exist.
    pub async fn survey(&self) -> Result<Vec<Surveyed>, StoreError> {
        let mut found = match self.local_path() {
            Some(path) => {
                let walked = tokio::task::spawn_blocking(move || walk(path)).await;
                let walked = walked.unwrap_or_else(|join| Err(std::io::Error::other(join)));
                walked.map_err(|source| StoreError::Unlisted {
                    uri: self.uri(),
                    source,
                })?
            }
            None => self.survey_store().await?,
        };
        found.sort_unstable();
        Ok(found)
    }

    async fn survey_store(&self) -> Result<Vec<Surveyed>, StoreError> {
        let listed: Result<Vec<_>, _> = self.store.list(Some(&self.path)).try_collect().await;
        let objects = match listed {
            Ok(objects) => objects,
            Err(source) => match self.failed("list", source) {
                StoreError::NotFound { .. } => return Ok(Vec::new()),
                error => return Err(error),
            },
        };
        let surveyed = objects.into_iter().filter_map(|meta| {
            Some(Surveyed {
                name: self.relative(&meta.location)?,
                kind: SurveyedKind::Object,
                length: meta.size,
                modified: WallTime(meta.last_modified.timestamp_millis()),
            })
        });
        Ok(surveyed.collect())
    }

    /// Deletes what a survey of this folder found, unless it was replaced by something else; nothing happens where it is gone.
    pub async fn delete_surveyed(&self, found: &Surveyed) -> Result<(), StoreError> {
        let Some(folder) = self.local_path() else {
            return self.child(&found.name)?.delete().await;
        };
        // The store's own deletion does not take the names of its unfinished uploads.
        let path = folder.join(&found.name);
        let removed = tokio::task::spawn_blocking(move || std::fs::remove_file(path)).await;
        match removed.unwrap_or_else(|join| Err(std::io::Error::other(join))) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(StoreError::Tidy {
                uri: format!("{}/{}", self.uri(), found.name),
                source,
            }),
        }
    }
}

fn walk(root: PathBuf) -> std::io::Result<Vec<Surveyed>> {
    let mut found = Vec::new();
    let mut folders = vec![(root.clone(), String::new(), MAX_DEPTH)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if is_absent(&error) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(error),
            };
            if meta.is_dir() && depth > 0 && is_text(&entry.path()) {
                folders.push((entry.path(), format!("{name}/"), depth - 1));
            } else {
                found.push(surveyed(name, &meta, &entry.path()));
            }
        }
    }
    Ok(found)
}

fn surveyed(name: String, meta: &Metadata, path: &FilePath) -> Surveyed {
    let kind = if meta.is_symlink() {
        match std::fs::metadata(path).is_ok_and(|target| target.is_dir()) {
            true => SurveyedKind::FolderLink,
            false => SurveyedKind::Link,
        }
    } else if meta.is_file() && is_text(path) {
        SurveyedKind::Object
    } else {
        SurveyedKind::Other
    };
    let since_1970 = meta
        .modified()
        .ok()
        .and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    let millis = since_1970.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    Surveyed {
        name,
        kind,
        length: meta.len(),
        modified: WallTime(millis),
    }
}

fn is_text(path: &FilePath) -> bool {
    path.to_str().is_some()
}

fn is_absent(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
    )
}
