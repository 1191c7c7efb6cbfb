//! What has changed in a table since the barriers of checkpoints: by shard, and within a shard by row.

use std::collections::VecDeque;
use std::sync::Arc;

use streamd_core::id::CheckpointId;

use super::ledger::{Ledger, Written};

/// Generations that are kept apart. More of them, while checkpoints fail or overlap, are merged: that only makes the next
/// checkpoint write more than it must.
const MAX_GENERATIONS: usize = 8;

/// Keys that a shard remembers by themselves; with more, all of it counts as changed.
const MAX_KEYS: usize = 1024;

/// What has changed in a shard.
#[derive(Debug, Default)]
pub(crate) enum ShardChanges<K> {
    /// Nothing.
    #[default]
    Nothing,
    /// Some rows.
    Rows(Box<ChangedRows<K>>),
    /// Everything, or the places of all rows.
    All,
}

/// Rows that have changed, by the bucket that they are in. And keys that have changed without a bucket to their name: that were
/// removed, or came while a snapshot held the shard. Whether they are there now the shard itself knows.
#[derive(Debug)]
pub(crate) struct ChangedRows<K> {
    pub(crate) buckets: Vec<u64>,
    pub(crate) keys: Vec<K>,
}

impl<K> ShardChanges<K> {
    fn rows(&mut self) -> Option<&mut ChangedRows<K>> {
        if let Self::Nothing = self {
            *self = Self::Rows(Box::new(ChangedRows {
                buckets: Vec::new(),
                keys: Vec::new(),
            }));
        }
        match self {
            Self::Rows(rows) => Some(rows),
            Self::Nothing | Self::All => None,
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

/// The changes of every shard between two barriers, by the number of the shard. Shards beyond the end did not exist.
pub(crate) type Generation<K> = Arc<Vec<ShardChanges<K>>>;

/// Tracks the changes of a table.
#[derive(Debug)]
pub(crate) struct Tracking<K> {
    /// Since the last barrier, by shard.
    current: Vec<ShardChanges<K>>,
    /// Up to the barrier of each checkpoint since the base, the oldest first.
    generations: VecDeque<(CheckpointId, Generation<K>)>,
    base: Option<(CheckpointId, Arc<Written>)>,
    ledger: Ledger,
}

/// What a checkpoint builds upon, and what has changed since.
#[derive(Debug)]
pub(crate) struct Basis<K> {
    pub(crate) written: Option<Arc<Written>>,
    pub(crate) changes: Vec<Generation<K>>,
}

impl<K> Tracking<K> {
    /// Tracking that begins with everything changed.
    pub(crate) fn new(shards: usize) -> Self {
        Self {
            current: (0..shards).map(|_| ShardChanges::All).collect(),
            generations: VecDeque::new(),
            base: None,
            ledger: Ledger::default(),
        }
    }

    /// The row in this bucket of a shard is new or may be about to change.
    #[inline]
    pub(crate) fn changed(&mut self, shard: usize, bucket: usize) {
        let word = bucket / 64;
        match &mut self.current[shard] {
            ShardChanges::All => {}
            ShardChanges::Rows(rows) if word < rows.buckets.len() => rows.buckets[word] |= 1 << (bucket % 64),
            ShardChanges::Rows(_) | ShardChanges::Nothing => self.changed_first(shard, bucket),
        }
    }

    #[cold]
    #[inline(never)]
    fn changed_first(&mut self, shard: usize, bucket: usize) {
        if let Some(rows) = self.current[shard].rows() {
            let word = bucket / 64;
            // A power of two, as the number of buckets is: the few times that this happens double it.
            rows.buckets.resize((word + 1).next_power_of_two().max(8), 0);
            rows.buckets[word] |= 1 << (bucket % 64);
        }
    }

    /// The key was removed from a shard, or came beside it.
    pub(crate) fn changed_key(&mut self, shard: usize, key: K) {
        let changes = &mut self.current[shard];
        let Some(rows) = changes.rows() else { return };
        if rows.keys.len() < MAX_KEYS {
            rows.keys.push(key);
        } else {
            *changes = ShardChanges::All;
        }
    }

    /// The rows of a shard have other places now, or it is new.
    pub(crate) fn rearranged(&mut self, shard: usize) {
        if shard >= self.current.len() {
            self.current.resize_with(shard + 1, || ShardChanges::All);
        }
        self.current[shard] = ShardChanges::All;
    }

    /// Whether all of a shard counts as changed.
    #[cfg(test)]
    pub(crate) fn is_rearranged(&self, shard: usize) -> bool {
        matches!(self.current[shard], ShardChanges::All)
    }

    /// A barrier: closes the generation, and says what the checkpoint builds upon. `base` is a complete checkpoint; where this
    /// table did not write it, or elsewhere than in `place`, everything is to be written.
    pub(crate) fn cut(&mut self, checkpoint: CheckpointId, base: Option<CheckpointId>, place: &str) -> Basis<K> {
        let shards = self.current.len();
        let closed = std::mem::replace(&mut self.current, (0..shards).map(|_| ShardChanges::Nothing).collect());
        self.generations.push_back((checkpoint, Arc::new(closed)));
        self.confirm(base);
        self.merge_oldest();
        let written = match (&self.base, base) {
            (Some((known, written)), Some(base)) if *known == base && written.is_within_reach(place) => {
                Some(Arc::clone(written))
            }
            _unknown => None,
        };
        Basis {
            changes: match written {
                Some(_) => self
                    .generations
                    .iter()
                    .map(|(_, changes)| Arc::clone(changes))
                    .collect(),
                None => Vec::new(),
            },
            written,
        }
    }

    /// Where what is written gets recorded.
    pub(crate) fn ledger(&self) -> Ledger {
        self.ledger.clone()
    }

    /// From now on, checkpoints build upon this one.
    fn confirm(&mut self, base: Option<CheckpointId>) {
        let Some(base) = base.filter(|base| self.base.as_ref().is_none_or(|(known, _)| known < base)) else {
            return;
        };
        let Some(written) = self.ledger.confirm(base) else {
            return;
        };
        self.base = Some((base, written));
        while self
            .generations
            .front()
            .is_some_and(|(checkpoint, _)| *checkpoint <= base)
        {
            self.generations.pop_front();
        }
    }

    /// Merges the two oldest generations while there are too many: what was changed up to the earlier barrier then counts as
    /// changed up to the later one.
    fn merge_oldest(&mut self) {
        while self.generations.len() > MAX_GENERATIONS
            && let (Some((_, older)), Some((checkpoint, newer))) =
                (self.generations.pop_front(), self.generations.pop_front())
        {
            // Either may be in use by a checkpoint under way: a shard that both have changed simply counts as changed.
            let shards = older.len().max(newer.len());
            let is_changed =
                |changes: &Generation<K>, shard: usize| changes.get(shard).is_some_and(|changes| !changes.is_nothing());
            let merged = (0..shards).map(|shard| {
                if is_changed(&older, shard) || is_changed(&newer, shard) {
                    ShardChanges::All
                } else {
                    ShardChanges::Nothing
                }
            });
            self.generations.push_front((checkpoint, Arc::new(merged.collect())));
        }
    }
}
