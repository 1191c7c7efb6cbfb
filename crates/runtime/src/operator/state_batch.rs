use streamd_core::state::Key;
use streamd_exchange::Batch;

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

    /// Takes the keys of these records, in order, with the hashes that came along, or anew where none did.
    #[inline]
    pub(crate) fn fill<T>(&mut self, batch: &Batch<T>, key_of: &mut impl FnMut(&T) -> K) {
        self.keys.clear();
        let keys = batch.records().iter().map(key_of);
        match batch.key_hashes() {
            Some(hashes) => self.keys.extend(hashes.iter().copied().zip(keys)),
            None => self.keys.extend(keys.map(|key| (key.stable_hash(), key))),
        }
        debug_assert!(
            self.keys.iter().all(|(hash, key)| *hash == key.stable_hash()),
            "records come by another key than the operator's"
        );
    }

    /// The keys in groups that are small enough to be touched before they are worked on.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &[(u64, K)]> {
        self.keys.chunks(TOUCHED_TOGETHER)
    }
}
