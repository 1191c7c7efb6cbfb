//! Memory in pages of two megabytes, for tables that are large.
//!
//! The allocator asks for such pages, and the kernel gives a whole one for the first byte that is written into it: to a worker with little
//! state that is most of what it takes, and each of its threads fills some more. Where a table is larger than what a processor knows its way
//! in by small pages, they take a tenth off the time of a record. So a worker is started without them, and its first large table takes them.

use std::sync::atomic::{AtomicBool, Ordering};

/// Tables from so many bytes on are large. What huge pages cost beside them is some hundred kilobytes for each thread.
const LARGE_BYTES: usize = 8 << 20;

/// Whether a large table is still to take them.
static LEFT: AtomicBool = AtomicBool::new(false);

/// Whoever started this process has had the kernel give it small pages, until a table is large.
pub fn leave_to_large_tables() {
    LEFT.store(true, Ordering::Relaxed);
}

/// A table has grown to so many bytes: if it is large, there are huge pages from now on.
pub(crate) fn take_for(table_bytes: usize) {
    if table_bytes >= LARGE_BYTES && LEFT.load(Ordering::Relaxed) {
        LEFT.store(false, Ordering::Relaxed);
        // Where the kernel refuses, there are small ones.
        #[cfg(target_os = "linux")]
        let _ = rustix::thread::disable_transparent_huge_pages(false);
    }
}
