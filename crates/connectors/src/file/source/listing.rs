//! Which files are read, and how they are cut into splits.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use streamd_core::source::ConnectorError;

use super::compression::Compression;
use super::format::Format;
use super::split::{FileSplit, HEAD_BYTES, fingerprint};
use crate::file::place::from_root;

/// How deep folders may nest: deeper is taken for a symbolic link that leads back.
const MAX_DEPTH: usize = 32;

/// The most splits of one source. All of them are in every snapshot, at about 100 bytes each; a larger input is cut into
/// larger splits.
const MAX_SPLITS: u64 = 65_536;

/// A file that will be read.
pub(super) struct Listed {
    path: String,
    length: u64,
    head: u64,
    is_compressed: bool,
}

impl Listed {
    /// Whether it is the file of a split, as far as its length and its first bytes tell.
    pub(super) fn is_same_as(&self, split: &FileSplit) -> bool {
        (self.length, self.head) == (split.length, split.head)
    }

    /// The file as one split; none if it is empty.
    pub(super) fn whole(&self) -> Option<FileSplit> {
        (self.length > 0).then(|| FileSplit {
            path: self.path.clone(),
            length: self.length,
            head: self.head,
            start: 0,
            // Where compressed content ends is known when it has been read.
            end: if self.is_compressed { u64::MAX } else { self.length },
            position: 0,
        })
    }
}

/// The splits of the file or folder `root`, as the format cuts them, of about `split_size` bytes.
pub(super) fn enumerate<F: Format>(root: &Path, format: &F, split_size: u64) -> Result<Vec<FileSplit>, ConnectorError> {
    let root = from_root("input", root)?;
    let mut paths = Vec::new();
    collect(&root, 0, &mut paths, Vanished::Errors)?;
    if paths.is_empty() {
        return Err(ConnectorError::new(format!(
            "the input folder `{}` holds no files (names that begin with `.` or `_` are passed over)",
            root.display()
        )));
    }
    let files = paths.iter().map(|path| look_at(path)).collect::<Result<Vec<_>, _>>()?;
    let total: u64 = files.iter().map(|file| file.length).sum();
    let split_size = split_size.max(total.div_ceil(MAX_SPLITS)).max(1);
    let whole = files.iter().filter_map(Listed::whole);
    let splits = whole
        .map(|whole| format.splits(whole, split_size))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(splits.concat())
}

/// What becomes of a file or folder that is gone between a look at its folder and a look at itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Vanished {
    Errors,
    PassedOver,
}

/// The files below a folder that changes meanwhile, in the order of their names.
pub(super) fn look_into(root: &Path) -> Result<Vec<PathBuf>, ConnectorError> {
    let mut paths = Vec::new();
    collect(root, 0, &mut paths, Vanished::PassedOver)?;
    Ok(paths)
}

/// The files at or below a path, in the order of their names. Hidden ones are left out, except for the path itself.
fn collect(path: &Path, depth: usize, into: &mut Vec<PathBuf>, vanished: Vanished) -> Result<(), ConnectorError> {
    let cannot_read = |cause| ConnectorError::caused(format!("cannot read the input `{}`", path.display()), cause);
    let is_passed_over =
        |cause: &io::Error| vanished == Vanished::PassedOver && depth > 0 && cause.kind() == io::ErrorKind::NotFound;
    let metadata = match fs::metadata(path) {
        Err(cause) if is_passed_over(&cause) => return Ok(()),
        metadata => metadata.map_err(cannot_read)?,
    };
    if metadata.is_file() {
        into.push(path.to_owned());
        return Ok(());
    }
    if !metadata.is_dir() {
        let message = format!("the input `{}` is neither a file nor a folder", path.display());
        return Err(ConnectorError::new(message));
    }
    if depth == MAX_DEPTH {
        return Err(ConnectorError::new(format!(
            "the input folder `{}` is nested deeper than {MAX_DEPTH} folders: does a symbolic link lead back?",
            path.display()
        )));
    }
    let mut entries = match fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Err(cause) if is_passed_over(&cause) => return Ok(()),
        entries => entries.map_err(cannot_read)?,
    };
    entries.retain(|entry| !matches!(entry.file_name().as_encoded_bytes().first(), Some(b'.' | b'_')));
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    entries
        .iter()
        .try_for_each(|entry| collect(&entry.path(), depth + 1, into, vanished))
}

/// Opens a file, so that one that cannot be read is found before the job takes a slot.
pub(super) fn look_at(path: &Path) -> Result<Listed, ConnectorError> {
    let cannot_read = |cause| ConnectorError::caused(format!("cannot read the file `{}`", path.display()), cause);
    let file = File::open(path).map_err(cannot_read)?;
    let length = file.metadata().map_err(cannot_read)?.len();
    let mut head = Vec::new();
    file.take(HEAD_BYTES).read_to_end(&mut head).map_err(cannot_read)?;
    head.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    let path = path
        .to_str()
        .ok_or_else(|| ConnectorError::new(format!("the path of the file `{}` is not UTF-8", path.display())))?;
    Ok(Listed {
        is_compressed: Compression::of(path)?.is_some(),
        path: path.to_owned(),
        length,
        head: fingerprint(&head),
    })
}

/// The bytes of a file in splits of about this size.
pub(super) fn cut(whole: &FileSplit, size: u64) -> Vec<FileSplit> {
    let length = whole.length;
    let count = length.checked_div(size).unwrap_or(0).max(1);
    let part = |index| FileSplit {
        start: index * size,
        // The last split takes the rest: a small remainder is not worth opening the file for.
        end: if index + 1 == count { length } else { (index + 1) * size },
        position: index * size,
        ..whole.clone()
    };
    (0..count).map(part).collect()
}
