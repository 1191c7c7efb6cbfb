//! Threads that work behind the stream.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// How much less of a contended processor such a thread gets than one that works on records: 5 is about a third. It is to be done
/// before long all the same: nothing of what a snapshot covers is safe before.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 5;

/// Makes the calling thread give way to those that work on records. It stays so.
pub fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        // Of this thread alone: Linux keeps the priority by thread. Where it is not allowed, all threads are equal.
        let _as_before = rustix::process::setpriority_process(None, NICENESS);
    }
}

/// Where the parts of local files are written. The kernel's copy of them is the most of what a snapshot takes of the processors, so it gives
/// way as well. The threads come with the first large file; nothing where there can be none.
pub(crate) fn file_writers() -> Option<&'static Handle> {
    static WRITERS: LazyLock<Option<Runtime>> = LazyLock::new(|| {
        let threads = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("snapshot-files")
            .on_thread_start(lower_priority)
            .build();
        threads.ok()
    });
    WRITERS.as_ref().map(Runtime::handle)
}
