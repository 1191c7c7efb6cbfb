//! Folders: listing what is below a place, and deleting it all.

use std::io;
use std::path::Path as FilePath;

use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;

use super::location::Location;
use super::uri::Scheme;
use crate::error::StoreError;

/// Deletes under way at once.
const DELETES_IN_FLIGHT: usize = 16;

/// How deep streamd's own folders nest at most is three; more is not walked, so that a hostile tree ends the walk.
const MAX_FOLDER_DEPTH: usize = 16;

/// An object below a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name, relative to the folder.
    pub name: String,
    /// Its length in bytes.
    pub length: u64,
}

/// Deletes objects, several at once. What is gone already is fine.
pub(crate) async fn delete_all(objects: Vec<Result<Location, StoreError>>) -> Result<(), StoreError> {
    futures::stream::iter(objects)
        .map(|object| async move { object?.delete().await })
        .buffer_unordered(DELETES_IN_FLIGHT)
        .try_collect()
        .await
}

impl Location {
    /// Every object below this folder, at any depth, in order of name. Empty where the folder does not exist.
    ///
    /// For cleaning up and for messages: no decision about correctness may rest on a listing, since a store may list late.
    pub async fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let mut objects = self.store.list(Some(&self.path));
        let mut entries = Vec::new();
        // Each page has a deadline of its own: there may be many.
        while let Some(found) = self.within("list", 0, objects.next()).await? {
            match found {
                Ok(meta) => entries.extend(self.relative(&meta.location).map(|name| Entry {
                    name,
                    length: meta.size,
                })),
                Err(source) => match self.failed("list", source) {
                    StoreError::NotFound { .. } => return Ok(Vec::new()),
                    error => return Err(error),
                },
            }
        }
        entries.sort_unstable();
        Ok(entries)
    }

    /// The names directly in this folder, folders with a slash at their end, in order. Empty where it does not exist.
    pub async fn list_names(&self) -> Result<Vec<String>, StoreError> {
        let listing = self.store.list_with_delimiter(Some(&self.path));
        let listing = match self.within("list", 0, listing).await? {
            Ok(listing) => listing,
            Err(source) => match self.failed("list", source) {
                StoreError::NotFound { .. } => return Ok(Vec::new()),
                error => return Err(error),
            },
        };
        let folders = listing
            .common_prefixes
            .iter()
            .filter_map(|path| Some(format!("{}/", self.relative(path)?)));
        let objects = listing.objects.iter().filter_map(|meta| self.relative(&meta.location));
        let mut names: Vec<String> = folders.chain(objects).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Deletes every object below this folder and, in the local file system, the folder itself. Nothing happens where it does
    /// not exist. Symbolic links are removed, never followed.
    pub async fn delete_folder(&self) -> Result<(), StoreError> {
        self.check_no_root()?;
        self.on_local_tree(remove_links).await?;
        let entries = self.list().await?;
        delete_all(entries.iter().map(|entry| self.child(&entry.name)).collect()).await?;
        self.on_local_tree(remove_staged_files).await?;
        self.remove_empty_folders().await
    }

    /// Removes this folder and those below it as far as they are empty: object stores have no folders, and an emptied one
    /// must not be left behind in a file system. Does nothing elsewhere.
    pub async fn remove_empty_folders(&self) -> Result<(), StoreError> {
        if self.root.scheme == Scheme::Hdfs {
            self.check_no_root()?;
            self.remove_emptied_from_hdfs(MAX_FOLDER_DEPTH).await;
        }
        self.on_local_tree(remove_empty).await
    }

    /// Removes this folder if it is empty, but not those below it. Does nothing in a store without folders.
    pub async fn remove_if_empty(&self) -> Result<(), StoreError> {
        if self.root.scheme == Scheme::Hdfs {
            self.check_no_root()?;
            drop(self.delete().await);
        }
        self.on_local_tree(|folder, _depth| remove_folder(folder)).await
    }

    /// HDFS deletes a folder as it does a file, and refuses if something is in it: that, as any other failure, leaves it there.
    async fn remove_emptied_from_hdfs(&self, depth: usize) {
        for name in self.list_names().await.unwrap_or_default() {
            if let (Some(name), Some(depth)) = (name.strip_suffix('/'), depth.checked_sub(1))
                && let Ok(below) = self.child(name)
            {
                Box::pin(below.remove_emptied_from_hdfs(depth)).await;
            }
        }
        drop(self.delete().await);
    }

    fn check_no_root(&self) -> Result<(), StoreError> {
        match self.path.as_ref().is_empty() {
            false => Ok(()),
            true => Err(StoreError::InvalidName {
                name: "/".to_owned(),
                reason: "the root of a store is no folder to delete",
            }),
        }
    }

    /// Runs a blocking visit of the local folder; absent folders and other stores have nothing to visit.
    async fn on_local_tree(&self, visit: fn(&FilePath, usize) -> io::Result<()>) -> Result<(), StoreError> {
        let Some(path) = self.local_path() else { return Ok(()) };
        self.check_no_root()?;
        let visited = tokio::task::spawn_blocking(move || visit(&path, MAX_FOLDER_DEPTH)).await;
        let result = visited.unwrap_or_else(|join| Err(io::Error::other(join)));
        result.map_err(|source| StoreError::Tidy {
            uri: self.uri(),
            source,
        })
    }

    pub(super) fn relative(&self, path: &Path) -> Option<String> {
        let folder = self.path.as_ref();
        if folder.is_empty() {
            return Some(path.to_string());
        }
        path.as_ref().strip_prefix(folder)?.strip_prefix('/').map(str::to_owned)
    }
}

/// The entries of a folder, or none where there is no folder. A symbolic link is no folder.
fn entries_of(folder: &FilePath) -> io::Result<Vec<std::fs::DirEntry>> {
    match std::fs::symlink_metadata(folder) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_file_or_link) => return Ok(Vec::new()),
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    }
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Unlinks symbolic links, since the store's listing would follow them out of the folder.
fn remove_links(folder: &FilePath, depth: usize) -> io::Result<()> {
    for entry in entries_of(folder)? {
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            std::fs::remove_file(entry.path())?;
        } else if kind.is_dir() {
            descend(depth, || remove_links(&entry.path(), depth - 1))?;
        }
    }
    Ok(())
}

/// Removes what a killed writer left of an unfinished upload: the store stages into `<name>#<digits>` and hides such files.
fn remove_staged_files(folder: &FilePath, depth: usize) -> io::Result<()> {
    for entry in entries_of(folder)? {
        if entry.file_type()?.is_dir() {
            descend(depth, || remove_staged_files(&entry.path(), depth - 1))?;
        } else if is_staged(&entry.file_name().to_string_lossy()) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_staged(name: &str) -> bool {
    name.split_once('#')
        .is_some_and(|(_name, digits)| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn remove_empty(folder: &FilePath, depth: usize) -> io::Result<()> {
    for entry in entries_of(folder)? {
        if entry.file_type()?.is_dir() {
            descend(depth, || remove_empty(&entry.path(), depth - 1))?;
        }
    }
    remove_folder(folder)
}

fn remove_folder(folder: &FilePath) -> io::Result<()> {
    match std::fs::remove_dir(folder) {
        Ok(()) => Ok(()),
        Err(error) if is_absent(&error) || error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        Err(error) => Err(error),
    }
}

fn descend(depth: usize, visit: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("folders nest too deep"));
    }
    visit()
}
