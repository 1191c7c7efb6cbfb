//! Memory in pages of two megabytes, for workers that have much of it.
//!
//! The allocator asks for such pages, and the kernel gives a whole one for the first byte that is written into it: to a worker with little
//! to do, most of what it has. Where state is large, they take a tenth off the time of a record.

use std::time::Duration;

use rustix::thread::{disable_transparent_huge_pages, transparent_huge_pages_are_disabled};

/// From so many bytes on a worker gets them.
pub const MUCH_BYTES: u64 = 64 * 1024 * 1024;

/// How often its memory is looked at. Little comes to lie in small pages meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// Has the kernel give this process small pages. `false` if it does so already, as somebody wants, or if it refuses.
pub fn forgo() -> bool {
    matches!(transparent_huge_pages_are_disabled(), Ok(false)) && disable_transparent_huge_pages(true).is_ok()
}

/// Waits until the process takes so many bytes, and undoes [`forgo`].
pub async fn take_from(bytes: u64) {
    while resident_bytes().is_some_and(|resident| resident < bytes) {
        tokio::time::sleep(LOOK).await;
    }
    if let Err(error) = disable_transparent_huge_pages(false) {
        tracing::warn!(%error, "the kernel gives no huge pages: much state takes more time");
    }
}

/// What the process takes of the memory; nothing where the kernel does not tell.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn huge_pages_are_forgone_until_there_is_much_memory() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(forgo(), "nobody has forgone them");
        assert!(!forgo(), "it is not ours to take them again");
        let wait = tokio::time::timeout(LOOK * 3, take_from(u64::MAX));
        assert!(wait.await.is_err());
        assert!(transparent_huge_pages_are_disabled().unwrap());
        take_from(1).await;
        assert!(!transparent_huge_pages_are_disabled().unwrap());
    }
}
