//! The Rust side of the environment: what C++ calls, and what it is made of.

use std::ffi::{OsStr, c_char, c_void};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::{ptr, slice};

use librocksdb_sys::rocksdb_env_t;
use rocksdb::Env;

/// A file of which bytes may be missing. Asked by several threads at once.
pub trait PartialFile: Send + Sync {
    /// Returns when the bytes of these ranges are there, as far as the file goes. Errors, with what its reader is told, if they will not be.
    fn wait_for(&self, ranges: &[Range<u64>]) -> Result<(), String>;
}

/// Which files are not all there. Asked by several threads at once.
pub trait PartialFiles: Send + Sync {
    /// The file of this path if bytes of it may be missing. Asked when it is opened: a file of which nothing is missing then stays so.
    fn find(&self, path: &Path) -> Option<Arc<dyn PartialFile>>;
}

/// The environment of the machine, but for these files. They are let go of when nobody uses the environment any more. `None` if the RocksDB
/// that is linked is not the one that this was made for.
pub fn environment(files: Arc<dyn PartialFiles>) -> Option<Env> {
    let files: *mut Files = Box::into_raw(Box::new(files));
    // SAFETY: the callbacks are those of this file, and `files` is what they take. C++ owns it from here on, and forgets it once.
    let environment = unsafe { streamd_environment(files.cast(), &CALLBACKS) };
    // SAFETY: it is not null, was made just now by what `rocksdb_env_destroy` is for, and nobody else has it.
    (!environment.is_null()).then(|| unsafe { Env::from_raw(environment) })
}

type Files = Arc<dyn PartialFiles>;
type File = Arc<dyn PartialFile>;

/// As `StreamdPiece`.
#[repr(C)]
struct Piece {
    offset: u64,
    length: u64,
}

/// As `StreamdCallbacks`.
#[repr(C)]
struct Callbacks {
    find: unsafe extern "C" fn(*const c_void, *const c_char, usize) -> *mut c_void,
    wait_for: unsafe extern "C" fn(*const c_void, *const Piece, usize, *mut c_char, usize) -> usize,
    forget_file: unsafe extern "C" fn(*mut c_void),
    forget_files: unsafe extern "C" fn(*mut c_void),
}

static CALLBACKS: Callbacks = Callbacks {
    find,
    wait_for,
    forget_file,
    forget_files,
};

unsafe extern "C" {
    fn streamd_environment(files: *mut c_void, callbacks: *const Callbacks) -> *mut rocksdb_env_t;
}

/// The file of a path; null if nothing of it is missing.
///
/// # Safety
/// `files` is what [`environment`] gave away, not forgotten yet; `path` are so many bytes.
unsafe extern "C" fn find(files: *const c_void, path: *const c_char, length: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    let (files, path) = unsafe { (&*files.cast::<Files>(), bytes(path.cast(), length)) };
    let path = Path::new(OsStr::from_bytes(path));
    let found = catch_unwind(AssertUnwindSafe(|| files.find(path)));
    // What is not known to be there is not read.
    let found = found.unwrap_or_else(|_panic| Some(Arc::new(Unknown)));
    found.map_or(ptr::null_mut(), |file: File| Box::into_raw(Box::new(file)).cast())
}

/// Waits for pieces of a file. Returns how many bytes of `error` say what went wrong: none if all is well.
///
/// # Safety
/// `file` is what [`find`] gave away, not forgotten yet; there are so many pieces, and so many bytes of `error` that may be written.
unsafe extern "C" fn wait_for(
    file: *const c_void,
    pieces: *const Piece,
    count: usize,
    error: *mut c_char,
    capacity: usize,
) -> usize {
    // SAFETY: the caller's promise.
    let (file, pieces) = unsafe { (&*file.cast::<File>(), bytes(pieces, count)) };
    let ranges = pieces.iter();
    let ranges: Vec<_> = ranges
        .map(|piece| piece.offset..piece.offset.saturating_add(piece.length))
        .collect();
    let waited = catch_unwind(AssertUnwindSafe(|| file.wait_for(&ranges)));
    let reason = match waited {
        Ok(Ok(())) => return 0,
        Ok(Err(reason)) if reason.is_empty() => "it says nothing more".to_owned(),
        Ok(Err(reason)) => reason,
        Err(_panic) => "a bug: who was asked for it panicked".to_owned(),
    };
    let written = reason.len().min(capacity);
    // SAFETY: no more than both have; a string that was just made is not what the caller has.
    unsafe { ptr::copy_nonoverlapping(reason.as_ptr(), error.cast(), written) };
    written
}

/// # Safety
/// `file` is what [`find`] gave away, and is not used again.
unsafe extern "C" fn forget_file(file: *mut c_void) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(file.cast::<File>()) });
}

/// # Safety
/// `files` is what [`environment`] gave away, and is not used again.
unsafe extern "C" fn forget_files(files: *mut c_void) {
    // SAFETY: the caller's promise.
    drop(unsafe { Box::from_raw(files.cast::<Files>()) });
}

/// What C++ says is there; of nothing, it may not say where.
///
/// # Safety
/// There are so many, for as long as the result is used, and nobody changes them.
unsafe fn bytes<'a, T>(start: *const T, count: usize) -> &'a [T] {
    match count {
        0 => &[],
        // SAFETY: the caller's promise.
        _ => unsafe { slice::from_raw_parts(start, count) },
    }
}

/// A file of which nobody could say whether it is there.
struct Unknown;

impl PartialFile for Unknown {
    fn wait_for(&self, _ranges: &[Range<u64>]) -> Result<(), String> {
        Err("a bug: who was asked for the file panicked".to_owned())
    }
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
