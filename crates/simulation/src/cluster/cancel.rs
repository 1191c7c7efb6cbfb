//! A client that wants the job gone: it asks whoever leads until one says that it is heard.

use super::{Cluster, Happening};
use crate::job_manager::Reply;

/// The pause before the client asks again, in milliseconds.
const PAUSE_MS: u64 = 200;

impl Cluster<'_> {
    pub(super) fn cancel(&mut self) {
        if self.cancelled || self.ended.is_some() {
            return;
        }
        self.later(PAUSE_MS, Happening::Cancel);
        let job = self.job_id;
        if let Some(leader) = self.leader() {
            leader.cancel(job);
        }
    }

    /// Once it is told, the job manager may die: the next one goes on with it.
    pub(super) fn hear_of_cancellation(&mut self, number: u32, answer: Reply) {
        match answer {
            Ok(()) => {
                self.line(format_args!("job manager {number} cancels the job"));
                self.cancelled = true;
                self.saw("a job was cancelled");
                if self.ended.is_none() && !self.is_healed() && self.dice.happens(500) {
                    self.saw("a job manager died that cancelled a job");
                    self.kill_manager(number, "dies after that");
                }
            }
            Err(error) => self.line(format_args!("the job is not cancelled: {}", error.code)),
        }
    }
}
