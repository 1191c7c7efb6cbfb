//! Having a local file on the disk soon: what is written of it goes there while the rest is made, instead of all of it at the end, when
//! somebody waits for it.

use std::ops::Range;
use std::path::PathBuf;

/// What the name of a file has behind it while it is written: the first of the numbers that the store's client tries.
#[cfg(target_os = "linux")]
const STAGED: &str = "#1";

/// Has the system begin to write a part of a file that is under way at `path`. Nothing depends on it: who wants the file on the disk still
/// has to see to that.
#[cfg(target_os = "linux")]
pub(super) async fn begin(path: PathBuf, range: Range<u64>) {
    let advise = move || {
        let mut staged = path.into_os_string();
        staged.push(STAGED);
        // Where there is no such file, another number was tried: then it is written at the end.
        if let Ok(file) = std::fs::File::open(&staged)
            && let Some(length) = std::num::NonZeroU64::new(range.end - range.start)
        {
            // "Not needed" has Linux write what is not on the disk yet, without waiting for it.
            let _as_before = rustix::fs::fadvise(&file, range.start, Some(length), rustix::fs::Advice::DontNeed);
        }
    };
    let _nothing_depends_on_it = tokio::task::spawn_blocking(advise).await;
}

/// As on Linux, where it is known how.
#[cfg(not(target_os = "linux"))]
pub(super) async fn begin(_path: PathBuf, _range: Range<u64>) {}
