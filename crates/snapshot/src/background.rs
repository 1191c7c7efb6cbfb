//! Threads that work behind the stream.

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
