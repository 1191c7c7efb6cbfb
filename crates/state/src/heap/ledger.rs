//! What the checkpoints of a table consist of: written down by the threads that write them, for those that follow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use streamd_core::id::CheckpointId;
use streamd_snapshot::{WrittenObject, WrittenSegment};

/// Checkpoints that are remembered. More than can be under way at once; the oldest go, and those before the base anyway.
const MAX_REMEMBERED: usize = 128;

/// What the table has ever written into the objects that a checkpoint refers to, in hundredths of its present size: beyond this, the
/// emptiest objects are rewritten, bit by bit;
const GARBAGE_BEGINS: u64 = 150;
/// beyond this, at once. So what is stored stays below twice the state.
const GARBAGE_ENDS: u64 = 180;

/// The part of the state that is rewritten at once to be rid of old objects, unless there are too many.
const REWRITTEN_AT_ONCE: u64 = 8;

/// Objects that one table of one checkpoint may refer to: a restore opens all of them.
const MAX_OBJECTS: usize = 64;

/// A state below this is not worth the counting: it is small however often it is stored.
const SMALL_BYTES: u64 = 64 << 10;

/// The checkpoints that a table can build upon, once they are complete. A cheap clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    checkpoints: Arc<Mutex<BTreeMap<CheckpointId, Arc<Written>>>>,
}

impl Ledger {
    /// Records what a checkpoint consists of. It may yet fail: then nobody will ever confirm it.
    pub(crate) fn record(&self, checkpoint: CheckpointId, written: Written) {
        let mut checkpoints = self.lock();
        checkpoints.insert(checkpoint, Arc::new(written));
        while checkpoints.len() > MAX_REMEMBERED {
            checkpoints.pop_first();
        }
    }

    /// The checkpoint is complete: those before it are not needed any more.
    pub(crate) fn confirm(&self, checkpoint: CheckpointId) -> Option<Arc<Written>> {
        let mut checkpoints = self.lock();
        let written = checkpoints.get(&checkpoint).cloned()?;
        *checkpoints = checkpoints.split_off(&checkpoint);
        Some(written)
    }

    /// Held for a few operations on a small map only.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<CheckpointId, Arc<Written>>> {
        // Nothing is ever half changed in it.
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one checkpoint of a table consists of.
#[derive(Debug)]
pub(crate) struct Written {
    /// The folder of the checkpoints of the job.
    place: String,
    /// By shard; nothing where it was empty.
    segments: Vec<Option<WrittenSegment>>,
    /// The objects that it refers to.
    shares: Vec<Share>,
    /// By shard: whether the next checkpoint writes it anew even if it does not change.
    outdated: Vec<bool>,
}

/// An object, with what the table has written into it.
#[derive(Debug, Clone)]
struct Share {
    object: Arc<WrittenObject>,
    written: u64,
    live: u64,
}

impl Written {
    /// What a checkpoint with these segments, by shard, consists of; `base` is what it was built upon.
    pub(crate) fn new(place: String, segments: Vec<Option<WrittenSegment>>, base: Option<&Self>) -> Self {
        let mut shares: Vec<Share> = base.map(|base| base.shares.clone()).unwrap_or_default();
        let known = shares.len();
        shares.iter_mut().for_each(|share| share.live = 0);
        let mut positions: BTreeMap<usize, usize> = BTreeMap::new();
        for (position, share) in shares.iter().enumerate() {
            positions.insert(address(&share.object), position);
        }
        for (object, bytes) in segments.iter().flatten().flat_map(WrittenSegment::parts) {
            let position = *positions.entry(address(object)).or_insert_with(|| {
                shares.push(Share {
                    object: Arc::clone(object),
                    written: 0,
                    live: 0,
                });
                shares.len() - 1
            });
            shares[position].live += bytes;
        }
        for share in &mut shares[known..] {
            share.written = share.live;
        }
        shares.retain(|share| share.live > 0);
        let mut written = Self {
            place,
            outdated: vec![false; segments.len()],
            segments,
            shares,
        };
        written.mark_outdated();
        written
    }

    /// Whether a checkpoint whose folder is in `place` can refer to all of it.
    pub(crate) fn is_within_reach(&self, place: &str) -> bool {
        self.place == place && self.shares.iter().all(|share| share.object.is_within_reach())
    }

    pub(crate) fn segment(&self, shard: usize) -> Option<&WrittenSegment> {
        self.segments.get(shard)?.as_ref()
    }

    pub(crate) fn is_outdated(&self, shard: usize) -> bool {
        self.outdated.get(shard).copied().unwrap_or_default()
    }

    /// Bytes of the state as it was last written whole.
    pub(crate) fn whole_bytes(&self) -> u64 {
        self.segments.iter().flatten().map(WrittenSegment::whole_bytes).sum()
    }

    /// Chooses the shards to write anew so that the objects with the least in them can go.
    fn mark_outdated(&mut self) {
        let whole = self.whole_bytes();
        let mut stored: u64 = self.shares.iter().map(|share| share.written).sum();
        let mut objects = self.shares.len();
        if whole < SMALL_BYTES && objects <= MAX_OBJECTS {
            return;
        }
        let mut by_use: Vec<Share> = self.shares.clone();
        by_use.sort_by_key(|share| (share.live.saturating_mul(1 << 16) / share.written.max(1), share.live));
        let budget = if stored.saturating_mul(100) > whole.saturating_mul(GARBAGE_ENDS) {
            u64::MAX
        } else {
            whole / REWRITTEN_AT_ONCE
        };
        let mut rewritten = 0;
        for share in &by_use {
            let is_too_much = stored.saturating_mul(100) > whole.saturating_mul(GARBAGE_BEGINS);
            if rewritten >= budget || !is_too_much && objects <= MAX_OBJECTS {
                break;
            }
            rewritten += self.mark_those_in(&share.object, budget - rewritten);
            stored = stored.saturating_sub(share.written);
            objects -= 1;
        }
    }

    /// Marks the shards that have blocks in an object, as far as the budget goes. Returns the bytes that are to be written.
    fn mark_those_in(&mut self, object: &Arc<WrittenObject>, budget: u64) -> u64 {
        let mut bytes = 0;
        for (segment, outdated) in self.segments.iter().zip(&mut self.outdated) {
            let Some(segment) = segment.as_ref().filter(|_| !*outdated && bytes < budget) else {
                continue;
            };
            if segment.parts().any(|(part, _)| Arc::ptr_eq(part, object)) {
                *outdated = true;
                bytes += segment.whole_bytes();
            }
        }
        bytes
    }
}

fn address(object: &Arc<WrittenObject>) -> usize {
    Arc::as_ptr(object).addr()
}
