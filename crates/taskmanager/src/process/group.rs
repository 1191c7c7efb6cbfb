//! A process with all of its descendants, as far as they stay in its group.

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;
use tracing::debug;

/// The process group that a started program leads. Killed when this value goes, so that no path, however unforeseen,
/// leaves a process behind.
///
/// The value must go right after the leader was reaped, not later: processes that the leader left behind keep the number
/// of the group taken, but without them the kernel may give it to somebody else.
#[derive(Debug)]
pub(crate) struct ProcessGroup {
    leader: Pid,
}

impl ProcessGroup {
    /// The group of a program that was started as the leader of its own.
    pub(crate) fn of(child: &Child) -> Self {
        let id = child.id().expect("a child that was not waited for has an id");
        let leader = i32::try_from(id)
            .ok()
            .and_then(Pid::from_raw)
            .expect("a process id is a positive i32");
        Self { leader }
    }

    /// The process id of the leader.
    pub(crate) fn leader_id(&self) -> u32 {
        self.leader.as_raw_nonzero().get().unsigned_abs()
    }

    /// Asks all processes of the group to end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends all processes of the group.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        match kill_process_group(self.leader, signal) {
            // No process of the group is left.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => debug!(group = self.leader_id(), %error, "process group could not be signalled"),
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}
