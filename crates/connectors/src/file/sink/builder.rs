//! How an application says where its output goes.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use streamd_core::graph::Guarantee;
use streamd_core::sink::{Sink, SinkContext};
use streamd_core::source::ConnectorError;

use super::committable::FileCommittable;
use super::directory;
use super::encoder::{self, EncodeBatch, EncodeError};
use super::writer::FileWriter;
use crate::file::place::from_root;

/// Writes records into files of a folder, one for each subtask and interval between checkpoints that has records.
///
/// Files in the making are hidden; complete ones are named `part-<operator>-<subtask>-<nonce>-<number>.<extension>`. The
/// folder is created if it is not there. Every process of the job must see it under the same path.
///
/// Guarantee: exactly-once. Without checkpoints, files become visible only at the end of the job.
///
/// ```
/// # use streamd_connectors::FileSink;
/// let results = FileSink::<String>::text("results/");
/// let numbers = FileSink::<(u32, f64)>::csv("numbers/");
/// ```
pub struct FileSink<T> {
    directory: PathBuf,
    extension: String,
    encoder: Arc<EncodeBatch<T>>,
}

impl<T: Display + Send + 'static> FileSink<T> {
    /// Lines of text, as [`Display`] shows the records, in files named `.txt`.
    pub fn text(directory: impl Into<PathBuf>) -> Self {
        Self::with_batch_encoder(directory, "txt", encoder::text::<T>)
    }
}

impl<T: Serialize + Send + 'static> FileSink<T> {
    /// Comma-separated values under a row with the names of the fields, in files named `.csv`.
    pub fn csv(directory: impl Into<PathBuf>) -> Self {
        Self::with_batch_encoder(directory, "csv", encoder::csv::<T>)
    }

    /// JSON values, one per line, in files named `.jsonl`.
    pub fn json_lines(directory: impl Into<PathBuf>) -> Self {
        Self::with_batch_encoder(directory, "jsonl", encoder::json_lines::<T>)
    }
}

impl<T: Send + 'static> FileSink<T> {
    /// A format of your own: `encode` appends one record, with its line end if it has one.
    pub fn with_encoder<E>(directory: impl Into<PathBuf>, extension: impl Into<String>, encode: E) -> Self
    where
        E: Fn(&T, &mut Vec<u8>) -> Result<(), EncodeError> + Send + Sync + 'static,
    {
        Self::with_batch_encoder(directory, extension, move |records, _is_first, bytes| {
            records.iter().try_for_each(|record| encode(record, bytes))
        })
    }

    /// A format of your own that encodes many records at once (see [`EncodeBatch`]).
    pub fn with_batch_encoder<E>(directory: impl Into<PathBuf>, extension: impl Into<String>, encode: E) -> Self
    where
        E: Fn(&[T], bool, &mut Vec<u8>) -> Result<(), EncodeError> + Send + Sync + 'static,
    {
        Self {
            directory: directory.into(),
            extension: extension.into(),
            encoder: Arc::new(encode),
        }
    }
}

impl<T> FileSink<T> {
    pub(super) fn encoder(&self) -> &EncodeBatch<T> {
        &*self.encoder
    }

    pub(super) fn extension(&self) -> &str {
        &self.extension
    }

    pub(super) fn absolute_directory(&self) -> Result<PathBuf, ConnectorError> {
        from_root("output folder", &self.directory)
    }

    pub(super) fn directory_text(&self, directory: &Path) -> Result<String, ConnectorError> {
        directory.to_str().map(str::to_owned).ok_or_else(|| {
            ConnectorError::new(format!(
                "the path of the output folder `{}` is not UTF-8",
                directory.display()
            ))
        })
    }
}

impl<T> Clone for FileSink<T> {
    fn clone(&self) -> Self {
        Self {
            directory: self.directory.clone(),
            extension: self.extension.clone(),
            encoder: self.encoder.clone(),
        }
    }
}

impl<T: Send + 'static> Sink for FileSink<T> {
    type In = T;
    type Committable = FileCommittable;
    type Writer = FileWriter<T>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    /// Errors if the path is relative on a cluster, is not UTF-8, or leads to or through something that is no folder.
    fn check(&self) -> Result<(), ConnectorError> {
        let directory = self.absolute_directory()?;
        self.directory_text(&directory)?;
        directory::check(&directory)
    }

    fn writer(&self, context: &SinkContext) -> Result<FileWriter<T>, ConnectorError> {
        FileWriter::new(self.clone(), context)
    }

    fn commit(&self, committables: &[FileCommittable]) -> Result<(), ConnectorError> {
        committables.iter().try_for_each(FileCommittable::commit)?;
        // Also for files that had their names already: whoever renamed them may have died before this.
        let directories: BTreeSet<&str> = committables.iter().map(|file| file.directory.as_str()).collect();
        directories
            .into_iter()
            .try_for_each(|path| directory::synchronise(Path::new(path)))
    }
}
