//! Files of checkpoints that stay on the local disk for the next attempt on the same machine.
//!
//! ```text
//!   <directory of the job>/<operator>-<vertex>-<index>/<digest of the content>     hard links to table files
//! ```
//!
//! The name says what is in a file, and is believed only after the content was read. Operators and subtasks share no directory. What
//! is missing or damaged is fetched: nothing here can do more harm than that.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use streamd_core::id::OperatorId;
use streamd_core::snapshot::ObjectHandle;
use streamd_snapshot::holds;

/// Digits of a digest: XXH3 of 128 bits.
const DIGEST_DIGITS: usize = 32;

/// The files that one operator of a subtask keeps.
#[derive(Debug)]
pub struct LocalFiles {
    /// Where all subtasks of the job on this machine keep theirs.
    root: PathBuf,
    operator: String,
    own: PathBuf,
}

impl LocalFiles {
    /// Files of an operator in the subtask of this vertex and index.
    pub fn new(root: &Path, operator: OperatorId, subtask: (u32, u32)) -> Self {
        let operator = operator.to_string();
        Self {
            own: root.join(format!("{operator}{}", suffix(subtask))),
            root: root.to_owned(),
            operator,
        }
    }

    /// Puts a file with the content of this object at `to`, where nothing is yet. False if there is none.
    pub fn take(&self, object: &ObjectHandle, to: &Path) -> bool {
        is_digest(&object.digest) && self.directories().iter().any(|from| take_from(from, object, to))
    }

    /// Keeps a file, which has the content of this object.
    pub fn keep(&self, file: &Path, object: &ObjectHandle) {
        if !is_digest(&object.digest) {
            return;
        }
        let place = self.own.join(&object.digest);
        let linked = fs::create_dir_all(&self.own).and_then(|()| fs::hard_link(file, &place));
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                tracing::debug!(file = %file.display(), %error, "a file is not kept for a restart");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Removes every file but those with the content of one of these objects.
    pub fn retain<'o>(&self, objects: impl Iterator<Item = &'o ObjectHandle>) {
        let wanted: BTreeSet<&str> = objects.map(|object| object.digest.as_str()).collect();
        for file in names_in(&self.own) {
            if !wanted.contains(file.as_str()) {
                remove_file(&self.own.join(file));
            }
        }
    }

    /// Where the operator's files can be: its own subtask's first.
    fn directories(&self) -> Vec<PathBuf> {
        let others = names_in(&self.root).into_iter();
        let others = others.filter(|name| {
            name.strip_prefix(&self.operator)
                .is_some_and(|rest| rest.starts_with('-'))
        });
        let others = others.map(|name| self.root.join(name)).filter(|path| *path != self.own);
        std::iter::once(self.own.clone()).chain(others).collect()
    }
}

/// Removes what subtasks that are not among these have kept: they run elsewhere now.
pub fn forget_others(root: &Path, subtasks: &BTreeSet<(u32, u32)>) {
    let suffixes: Vec<String> = subtasks.iter().map(|subtask| suffix(*subtask)).collect();
    for name in names_in(root) {
        if suffixes.iter().any(|suffix| name.ends_with(suffix)) {
            continue;
        }
        if let Err(error) = fs::remove_dir_all(root.join(&name)) {
            tracing::warn!(directory = %root.join(name).display(), %error, "a directory of local state cannot be removed");
        }
    }
}

fn suffix((vertex, index): (u32, u32)) -> String {
    format!("-{vertex}-{index}")
}

/// Whether it is the name of a file here, and leads nowhere else.
fn is_digest(text: &str) -> bool {
    text.len() == DIGEST_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn take_from(from: &Path, object: &ObjectHandle, to: &Path) -> bool {
    let file = from.join(&object.digest);
    // What is checked is what is used: the link, not the name.
    if fs::hard_link(&file, to).is_err() {
        return false;
    }
    match holds(object, to) {
        Ok(true) => return true,
        Ok(false) => tracing::warn!(file = %file.display(), "a local file is damaged: it is fetched again"),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "a local file cannot be read: it is fetched again")
        }
    }
    remove_file(to);
    remove_file(&file);
    false
}

fn remove_file(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), %error, "a file of local state cannot be removed");
    }
}

/// What is in a directory; nothing if it cannot be read.
fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(content: &[u8]) -> ObjectHandle {
        ObjectHandle {
            path: "file:///elsewhere/1.sst".to_owned(),
            length: content.len() as u64,
            digest: format!("{:032x}", xxhash_rust::xxh3::xxh3_128(content)),
            inline: None,
        }
    }

    fn written(path: PathBuf, content: &[u8]) -> PathBuf {
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn a_file_is_found_by_its_content_and_by_every_subtask_of_its_operator_alone() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("kept");
        let files = |uid: &str, index| LocalFiles::new(&root, OperatorId::from_uid(uid), (1, index));
        let file = written(folder.path().join("1.sst"), b"rows");
        files("sums", 0).keep(&file, &object(b"rows"));
        files("sums", 0).keep(&file, &object(b"rows"));
        for (number, (uid, index, found)) in [("sums", 0, true), ("sums", 7, true), ("other", 0, false)]
            .into_iter()
            .enumerate()
        {
            let to = folder.path().join(format!("taken-{number}"));
            assert_eq!(files(uid, index).take(&object(b"rows"), &to), found);
            assert_eq!(fs::read(&to).ok(), found.then(|| b"rows".to_vec()));
        }
        assert!(!files("sums", 0).take(&object(b"ROWS"), &folder.path().join("never")));
    }

    #[test]
    fn a_file_with_other_bytes_is_not_used_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let files = LocalFiles::new(folder.path(), OperatorId::from_uid("sums"), (1, 0));
        for damaged in [b"rowz".as_slice(), b"row", b"rows and more"] {
            let file = written(folder.path().join("1.sst"), damaged);
            files.keep(&file, &object(b"rows"));
            let to = folder.path().join("taken");
            assert!(!files.take(&object(b"rows"), &to));
            assert!(!to.exists() && names_in(&files.own).is_empty());
            fs::remove_file(file).unwrap();
        }
    }

    #[test]
    fn an_object_whose_digest_is_a_path_leads_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let files = LocalFiles::new(&folder.path().join("kept"), OperatorId::from_uid("sums"), (1, 0));
        let secret = written(folder.path().join("secret"), b"rows");
        let hostile = ObjectHandle {
            digest: "../../secret".to_owned(),
            ..object(b"rows")
        };
        files.keep(&secret, &hostile);
        assert!(!files.take(&hostile, &folder.path().join("taken")));
        assert!(!folder.path().join("kept").exists());
    }

    #[test]
    fn what_is_superseded_goes_and_so_does_what_subtasks_elsewhere_kept() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("kept");
        let files = |index| LocalFiles::new(&root, OperatorId::from_uid("sums"), (1, index));
        for content in [b"old", b"new"] {
            let file = written(folder.path().join("1.sst"), content);
            files(0).keep(&file, &object(content));
            files(10).keep(&file, &object(content));
        }
        files(0).retain([object(b"new")].iter());
        assert_eq!(names_in(&files(0).own), [object(b"new").digest]);
        forget_others(&root, &BTreeSet::from([(1, 0)]));
        assert_eq!(names_in(&root).len(), 1, "subtask 10 is not subtask 0");
    }
}
