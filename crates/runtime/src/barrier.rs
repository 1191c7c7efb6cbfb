//! Barrier alignment: when has a subtask seen a barrier in all of its channels, and which channels wait for the others?
//!
//! ```text
//!   channel 0  ──r──r──▌1──r──r──▶   blocked: what follows barrier 1 belongs to the next snapshot
//!   channel 1  ──r──r──r──r──▌1──▶   the last barrier to come: cut here, unblock all
//! ```
//!
//! Pure: told of barriers and aborts, answers with what to do. Flink's exactly-once mode blocks; at-least-once does not.

use std::collections::BTreeMap;

use streamd_core::barrier::Barrier;
use streamd_core::id::CheckpointId;

/// What a barrier means for the subtask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Alignment {
    /// Nothing: it is of a snapshot that is over.
    Ignore,
    /// Hold back this channel until the others have come as far.
    Block,
    /// Go on reading; the snapshot is cut when the others have come as far.
    Wait,
    /// All channels are aligned: cut the snapshot, then read from all channels again.
    Cut(Barrier),
}

/// The alignment of one subtask.
#[derive(Debug)]
pub struct BarrierAligner {
    channels: usize,
    /// Snapshots of which some barriers have come, with the channels that brought one.
    open: BTreeMap<CheckpointId, Vec<usize>>,
    /// The last snapshot that was cut or given up: barriers up to it mean nothing any more.
    closed: CheckpointId,
}

impl BarrierAligner {
    /// For a subtask with this many channels.
    pub fn new(channels: usize) -> Self {
        Self {
            channels,
            open: BTreeMap::new(),
            closed: CheckpointId(0),
        }
    }

    /// A barrier has come in a channel. Where the answer is [`Alignment::Cut`], every other open snapshot before it is over,
    /// and the channels are to be unblocked.
    pub fn on_barrier(&mut self, channel: usize, barrier: Barrier) -> Alignment {
        let id = barrier.checkpoint;
        if id <= self.closed {
            return Alignment::Ignore;
        }
        let seen = self.open.entry(id).or_default();
        if seen.contains(&channel) {
            return Alignment::Ignore;
        }
        seen.push(channel);
        if seen.len() == self.channels {
            self.close(id);
            return Alignment::Cut(barrier);
        }
        if barrier.options.aligned {
            Alignment::Block
        } else {
            Alignment::Wait
        }
    }

    /// Whether a barrier has come in some channels that has not come in all.
    pub fn is_aligning(&self) -> bool {
        !self.open.is_empty()
    }

    /// The snapshot is given up. Answers whether channels may be blocked for it, and so are to be unblocked.
    ///
    /// Channels that a later snapshot blocked are unblocked with the rest: that snapshot can then no longer be cut, so it
    /// is closed as well. One checkpoint at a time, the usual case, never meets this.
    pub fn on_aborted(&mut self, id: CheckpointId) -> bool {
        let was_open = self.open.contains_key(&id);
        self.close(id);
        if was_open && let Some((&last, _)) = self.open.last_key_value() {
            self.close(last);
        }
        was_open
    }

    fn close(&mut self, id: CheckpointId) {
        self.closed = self.closed.max(id);
        self.open = self.open.split_off(&CheckpointId(self.closed.0 + 1));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use streamd_core::barrier::{AfterBarrier, Compression, Increment, SnapshotKind, SnapshotOptions};

    use super::*;

    fn barrier(id: u64, aligned: bool) -> Barrier {
        let options = SnapshotOptions {
            kind: SnapshotKind::Checkpoint,
            location: "memory:///c".to_owned(),
            sources: AfterBarrier::Continue,
            aligned,
            increment: Increment::Off,
            compression: Compression::None,
        };
        Barrier {
            checkpoint: CheckpointId(id),
            options: Arc::new(options),
        }
    }

    #[test]
    fn a_snapshot_is_cut_when_the_last_channel_brings_its_barrier() {
        let mut aligner = BarrierAligner::new(3);
        assert_eq!(aligner.on_barrier(0, barrier(1, true)), Alignment::Block);
        assert_eq!(aligner.on_barrier(2, barrier(1, true)), Alignment::Block);
        assert_eq!(
            aligner.on_barrier(1, barrier(1, true)),
            Alignment::Cut(barrier(1, true))
        );
        assert_eq!(aligner.on_barrier(1, barrier(1, true)), Alignment::Ignore);
    }

    #[test]
    fn at_least_once_never_blocks() {
        let mut aligner = BarrierAligner::new(2);
        assert_eq!(aligner.on_barrier(0, barrier(1, false)), Alignment::Wait);
        assert_eq!(aligner.on_barrier(0, barrier(2, false)), Alignment::Wait);
        assert_eq!(
            aligner.on_barrier(1, barrier(1, false)),
            Alignment::Cut(barrier(1, false))
        );
        assert_eq!(
            aligner.on_barrier(1, barrier(2, false)),
            Alignment::Cut(barrier(2, false))
        );
    }

    #[test]
    fn an_aborted_snapshot_unblocks_and_its_late_barriers_mean_nothing() {
        let mut aligner = BarrierAligner::new(2);
        assert_eq!(aligner.on_barrier(0, barrier(1, true)), Alignment::Block);
        assert!(aligner.on_aborted(CheckpointId(1)));
        assert_eq!(aligner.on_barrier(1, barrier(1, true)), Alignment::Ignore);
        assert_eq!(aligner.on_barrier(0, barrier(2, true)), Alignment::Block);
        assert_eq!(
            aligner.on_barrier(1, barrier(2, true)),
            Alignment::Cut(barrier(2, true))
        );
    }

    #[test]
    fn a_newer_snapshot_that_completes_first_closes_the_older_one() {
        let mut aligner = BarrierAligner::new(2);
        assert_eq!(aligner.on_barrier(0, barrier(1, false)), Alignment::Wait);
        assert_eq!(aligner.on_barrier(0, barrier(2, false)), Alignment::Wait);
        assert_eq!(
            aligner.on_barrier(1, barrier(2, false)),
            Alignment::Cut(barrier(2, false))
        );
        assert_eq!(aligner.on_barrier(1, barrier(1, false)), Alignment::Ignore);
    }

    #[test]
    fn an_abort_of_a_snapshot_not_seen_yet_unblocks_nothing() {
        let mut aligner = BarrierAligner::new(2);
        assert!(!aligner.on_aborted(CheckpointId(1)));
    }
}
