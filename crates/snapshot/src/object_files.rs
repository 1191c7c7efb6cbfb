//! Objects as files of the local disk: linked, where the store is on it, or fetched; and compared with their digests.
//!
//! A link is there at once, however large the object is. It has the content of the object for as long as nobody writes into either: that is
//! for objects that are never written again, as files that never are.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use streamd_core::snapshot::ObjectHandle;
use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use xxhash_rust::xxh3::Xxh3;

use crate::error::SnapshotError;
use crate::restore::{check_length, missing, resolve};
use crate::store::digest_text;

/// Objects that are fetched at once. One connection to an object store brings some 50 to 100 MB/s: so many fill a link of 10 Gbit/s. Each
/// holds what tokio gathers for a file, 2 MiB.
const OBJECTS_IN_FLIGHT: usize = 16;

/// How much of a local file is read at once.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// Makes `to`, where nothing is yet, another name of the file that an object is. Errors if that has not the recorded length; its content is
/// not read. False where the object is no file of the same file system, or may not be linked: then it is to be fetched.
pub fn link_object(object: &ObjectHandle, to: &Path) -> Result<bool, SnapshotError> {
    let place = resolve("", &object.path)?;
    let Some(file) = place.local_path() else {
        return Ok(false);
    };
    // Of a symbolic link there would be another name, and not of what it leads to.
    if !fs::symlink_metadata(&file).is_ok_and(|found| found.is_file()) {
        return Ok(false);
    }
    if let Err(error) = fs::hard_link(&file, to) {
        tracing::debug!(object = %place, to = %to.display(), %error, "an object cannot be linked: it is fetched");
        return Ok(false);
    }
    // What is looked at is what is used: the link, not the name that it was made of.
    match File::open(to).and_then(|found| found.metadata()) {
        Ok(found) => check_length(&place, object.length, found.len()).map(|()| true),
        // Perhaps it may not be read. Whoever fetches it is told.
        Err(_) => {
            fs::remove_file(to).map_err(|source| local("remove", to, source))?;
            Ok(false)
        }
    }
}

/// Fetches objects into local files that do not exist yet, some at once, and checks length and digest on the way.
pub fn download_all(objects: &[(ObjectHandle, PathBuf)], runtime: &Handle) -> Result<(), SnapshotError> {
    let fetches = objects.iter().cloned().map(|(object, to)| async move {
        // A task each: hashing and unpacking what is encrypted is work for several processors.
        let fetched = runtime.spawn(async move {
            let fetched = fetch(&object, &to).await;
            fetched.map_err(|error| missing(error, "", &object.path))
        });
        fetched.await.unwrap_or_else(|error| Err(interrupted(&error)))
    });
    let fetches = futures::stream::iter(fetches).buffer_unordered(OBJECTS_IN_FLIGHT);
    runtime.block_on(fetches.try_collect())
}

/// Some bytes of an object, which are all within its recorded length. Errors if it has another. Nothing else is known of their content.
pub async fn read_piece(object: &ObjectHandle, range: Range<u64>) -> Result<Bytes, SnapshotError> {
    let read = async {
        let place = resolve("", &object.path)?;
        let read = place.get_range_with_length(Bytes::new(), range.clone()).await;
        let (bytes, length) = match read {
            Ok(read) => read,
            Err(error) => {
                // Stores refuse a range that is not there, each in its own words.
                if let Ok(Some(length)) = place.head().await {
                    check_length(&place, object.length, length)?;
                }
                return Err(error.into());
            }
        };
        check_length(&place, object.length, length)?;
        check_length(&place, range.end, range.start + bytes.len() as u64)?;
        Ok(bytes)
    };
    read.await.map_err(|error| missing(error, "", &object.path))
}

/// Errors if a local file is not the content of an object. Reads all of it, for as long as `goes_on` says so: answers whether it came to
/// the end.
pub fn check_file(object: &ObjectHandle, path: &Path, goes_on: &dyn Fn() -> bool) -> Result<bool, SnapshotError> {
    let read = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        Ok((length, digest_of(&mut file, goes_on)?))
    });
    let (length, digest) = read.map_err(|source| local("read", path, source))?;
    check_length(&resolve("", &object.path)?, object.length, length)?;
    match digest {
        Some(digest) => check_digest(object, digest).map(|()| true),
        None => Ok(false),
    }
}

/// Whether a local file is the content of an object, by its length and digest. Reads all of it.
pub(crate) fn is_content(object: &ObjectHandle, file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() != object.length {
        return Ok(false);
    }
    Ok(digest_of(file, &|| true)?.is_some_and(|digest| digest == object.digest))
}

/// The digest of what is in a file; `None` once `goes_on` says no more.
fn digest_of(file: &mut File, goes_on: &dyn Fn() -> bool) -> io::Result<Option<String>> {
    let (mut hasher, mut buffer) = (Xxh3::new(), vec![0; READ_BYTES]);
    while goes_on() {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(digest_text(hasher.digest128()))),
            read => hasher.update(&buffer[..read]),
        }
    }
    Ok(None)
}

async fn fetch(object: &ObjectHandle, to: &Path) -> Result<(), SnapshotError> {
    let place = resolve("", &object.path)?;
    let (length, mut pieces) = place.get_stream().await?;
    check_length(&place, object.length, length)?;
    let created = tokio::fs::File::create_new(to).await;
    let mut file = created.map_err(|source| local("create", to, source))?;
    let (mut hasher, mut taken) = (Xxh3::new(), 0);
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        hasher.update(&piece);
        taken += piece.len() as u64;
        file.write_all(&piece)
            .await
            .map_err(|source| local("write", to, source))?;
    }
    file.flush().await.map_err(|source| local("write", to, source))?;
    check_length(&place, object.length, taken)?;
    check_digest(object, digest_text(hasher.digest128()))
}

fn check_digest(object: &ObjectHandle, actual: String) -> Result<(), SnapshotError> {
    if actual == object.digest {
        return Ok(());
    }
    Err(SnapshotError::DigestMismatch {
        uri: object.path.clone(),
        expected: object.digest.clone(),
        actual,
    })
}

/// Only a runtime that shuts down, or a bug, ends a task early.
fn interrupted(error: &tokio::task::JoinError) -> SnapshotError {
    SnapshotError::Misuse {
        state: String::new(),
        reason: format!("the fetching of its files was interrupted: {error}"),
    }
}

pub(crate) fn local(operation: &'static str, path: &Path, source: io::Error) -> SnapshotError {
    SnapshotError::Local {
        operation,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
#[path = "object_files_tests.rs"]
mod tests;
