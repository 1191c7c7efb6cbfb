use streamd_core::state::Key;

/// How many keys are touched at once: enough misses to keep the memory busy, few enough entries to still be in the first-level
/// cache when their records are worked on.
const TOUCHED_TOGETHER: usize = 32;

/// The keys of a batch and their hashes, taken before any state is touched.
pub(crate) struct KeyBatch<K> {
    keys: Vec<(u64, K)>,
}

impl<K: Key> KeyBatch<K> {
    pub(crate) fn new() -> Self {
        Self { keys: Vec::new() }
    }

    /// Takes the keys of these records, in order.
    pub(crate) fn fill<T>(&mut self, records: &[T], key_of: &mut impl FnMut(&T) -> K) {
        self.keys.clear();
        self.keys.extend(records.iter().map(|record| {
            let key = key_of(record);
            (key.stable_hash(), key)
        }));
    }

    /// The keys in groups that are small enough to be touched before they are worked on.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[(u64, K)]> {
        self.keys.chunks(TOUCHED_TOGETHER)
    }
}
