//! Looking for rows that are over, a few places at a time.

use streamd_core::state::Key;
use streamd_core::time::WallTime;

use super::shard::Shard;
use super::table::HeapTable;
use crate::expiring::{Expire, Left};

/// How far a table was looked through. The table may change as it likes meanwhile: places that move are met earlier or later.
#[derive(Debug, Clone, Copy, Default)]
pub struct SweepCursor {
    shard: usize,
    bucket: usize,
}

impl<K: Key, V: Expire> HeapTable<K, V> {
    /// Looks at so many places of the table, from where the last sweep ended, and removes what is over at the deadline. What a
    /// snapshot holds is left for the next round: to change it would be to copy it.
    pub fn sweep(&mut self, cursor: &mut SweepCursor, places: usize, deadline: WallTime) {
        let (began, wanted) = (*cursor, places);
        let mut places = places;
        let mut over = Vec::new();
        // Once round the table at most.
        for _ in 0..=self.shard_count() {
            if places == 0 {
                break;
            }
            if cursor.shard >= self.shard_count() {
                *cursor = SweepCursor::default();
            }
            let Some(entries) = self.thawed(cursor.shard) else {
                cursor.next_shard();
                continue;
            };
            let buckets = entries.num_buckets();
            let end = cursor.bucket.saturating_add(places).min(buckets);
            for bucket in cursor.bucket..end {
                if let Some((key, value)) = entries.get_bucket(bucket)
                    && value.left(deadline) != Left::All
                {
                    over.push((key.clone(), value.left(deadline)));
                }
            }
            places -= end.saturating_sub(cursor.bucket);
            if end == buckets {
                cursor.next_shard();
            } else {
                cursor.bucket = end;
            }
        }
        if places == wanted {
            // A snapshot holds everything: go on from here when it has let go.
            *cursor = began;
        }
        for (key, left) in over {
            self.settle(key.stable_hash(), &key, (left, deadline));
        }
    }

    fn settle(&mut self, hash: u64, key: &K, (left, deadline): (Left, WallTime)) {
        match left {
            Left::All => {}
            Left::Some => {
                if let Some(value) = self.get_mut(hash, key) {
                    value.retain(deadline);
                }
            }
            Left::Nothing => {
                self.remove(hash, key);
            }
        }
    }

    /// The entries of a shard, if no snapshot holds it.
    fn thawed(&mut self, number: usize) -> Option<&super::shard::Entries<K, V>> {
        self.take_back_released(number);
        match self.shard(number) {
            Shard::Owned(entries) => Some(entries),
            Shard::Frozen(_) => None,
        }
    }
}

impl SweepCursor {
    fn next_shard(&mut self) {
        self.shard += 1;
        self.bucket = 0;
    }
}
