use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use streamd_core::id::CheckpointId;
use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::row::{DataType, RowError, RowReader};
use streamd_core::state::{Key, State, from_row};

use super::super::shard::Entries;
use super::super::{FrozenTable, HeapTable};
use super::{Shard, rehash, shard_hash};

/// A value so large that shards are small: tables split after 224 entries.
type Wide = [u64; 128];

const SHARD_ENTRIES_OF_WIDE: usize = 224;

fn wide(value: u64) -> Wide {
    [value; 128]
}

fn rows<K: Key + Ord, V: State>(frozen: &FrozenTable<K, V>, max_parallelism: u32) -> BTreeMap<K, V> {
    let mut rows = BTreeMap::new();
    let mut last_group = 0;
    frozen.for_each_row(&mut |group, key, value| {
        assert!(group >= last_group, "the rows are in order of key group");
        last_group = group;
        let key: K = from_row(key).unwrap();
        assert_eq!(group, key_group_of(key.stable_hash(), max_parallelism));
        assert!(
            rows.insert(key, from_row(value).unwrap()).is_none(),
            "a key has one row"
        );
    });
    assert_eq!(frozen.rows(), rows.len() as u64);
    rows
}

fn owned_keys(range: KeyGroupRange, max_parallelism: u32, count: usize) -> Vec<u64> {
    (0u64..)
        .filter(|key| range.contains(key_group_of(key.stable_hash(), max_parallelism)))
        .take(count)
        .collect()
}

#[derive(Debug, Clone)]
enum Step {
    Add(usize, u64),
    AddMany(usize, usize),
    Insert(usize, u64),
    Change(usize),
    Remove(usize),
    RemoveMany(usize, usize),
    Get(usize),
    Freeze,
    LetGo(usize),
}

const KEYS: usize = 1500;

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS;
    prop_oneof![
        4 => (key.clone(), any::<u64>()).prop_map(|(k, v)| Step::Add(k, v)),
        2 => (key.clone(), 0..400usize).prop_map(|(k, n)| Step::AddMany(k, n)),
        3 => (key.clone(), any::<u64>()).prop_map(|(k, v)| Step::Insert(k, v)),
        3 => key.clone().prop_map(Step::Change),
        3 => key.clone().prop_map(Step::Remove),
        1 => (key.clone(), 0..400usize).prop_map(|(k, n)| Step::RemoveMany(k, n)),
        3 => key.prop_map(Step::Get),
        2 => Just(Step::Freeze),
        1 => any::<usize>().prop_map(Step::LetGo),
    ]
}

/// The table, what it should hold, and the snapshots in progress with what they should hold.
struct Model {
    max_parallelism: u32,
    keys: Vec<u64>,
    table: HeapTable<u64, Wide>,
    expected: BTreeMap<u64, Wide>,
    frozen: Vec<(FrozenTable<u64, Wide>, BTreeMap<u64, Wide>)>,
}

impl Model {
    fn new(range: KeyGroupRange, max_parallelism: u32) -> Self {
        Self {
            max_parallelism,
            keys: owned_keys(range, max_parallelism, KEYS),
            table: HeapTable::new(range, max_parallelism),
            expected: BTreeMap::new(),
            frozen: Vec::new(),
        }
    }

    fn add(&mut self, key: u64, amount: u64) {
        let value = self.table.get_or_insert_with(key.stable_hash(), &key, || wide(1));
        value[0] = value[0].wrapping_add(amount);
        let expected = self.expected.entry(key).or_insert_with(|| wide(1));
        expected[0] = expected[0].wrapping_add(amount);
    }

    fn remove(&mut self, key: u64) {
        assert_eq!(self.table.remove(key.stable_hash(), &key), self.expected.remove(&key));
    }

    fn many(&self, first: usize, count: usize) -> Vec<u64> {
        self.keys.iter().copied().skip(first).take(count).collect()
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Add(key, amount) => self.add(self.keys[key], amount),
            Step::AddMany(first, count) => self.many(first, count).into_iter().for_each(|key| self.add(key, 7)),
            Step::Insert(key, value) => {
                let key = self.keys[key];
                let before = self.table.insert(key.stable_hash(), &key, wide(value));
                assert_eq!(before, self.expected.insert(key, wide(value)));
            }
            Step::Change(key) => {
                let key = self.keys[key];
                let value = self.table.get_mut(key.stable_hash(), &key);
                let expected = self.expected.get_mut(&key);
                assert_eq!(value, expected);
                if let (Some(value), Some(expected)) = (value, expected) {
                    value[1] ^= 3;
                    expected[1] ^= 3;
                }
            }
            Step::Remove(key) => self.remove(self.keys[key]),
            Step::RemoveMany(first, count) => self.many(first, count).into_iter().for_each(|key| self.remove(key)),
            Step::Get(key) => {
                let key = self.keys[key];
                self.table.prefetch(&[(key.stable_hash(), key)]);
                assert_eq!(self.table.get(key.stable_hash(), &key), self.expected.get(&key));
            }
            Step::Freeze => self.frozen.push((self.table.freeze(), self.expected.clone())),
            Step::LetGo(which) if !self.frozen.is_empty() => {
                let (frozen, expected) = self.frozen.swap_remove(which % self.frozen.len());
                assert_eq!(rows(&frozen, self.max_parallelism), expected);
            }
            Step::LetGo(_) => {}
        }
        assert_eq!(self.table.len(), self.expected.len());
    }

    fn finish(mut self) {
        self.apply(Step::Freeze);
        for (frozen, expected) in &self.frozen {
            assert_eq!(&rows(frozen, self.max_parallelism), expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_table_is_a_map_and_what_is_frozen_never_changes(
        groups in (1u32..=256).prop_flat_map(|max| (Just(max), 0..max, 0..max)),
        reserved in prop_oneof![Just(0u64), 1u64..3000],
        steps in vec(step(), 1..60),
    ) {
        let (max_parallelism, a, b) = groups;
        let range = KeyGroupRange { start: a.min(b), end: a.max(b) + 1 };
        let mut model = Model::new(range, max_parallelism);
        model.table.reserve(reserved);
        steps.into_iter().for_each(|step| model.apply(step));
        model.finish();
    }
}

#[test]
fn a_table_grows_by_splitting_shards_and_keeps_every_key() {
    for (range, max_parallelism) in [
        (KeyGroupRange { start: 0, end: 128 }, 128),
        (KeyGroupRange { start: 5, end: 6 }, 128),
        (KeyGroupRange { start: 100, end: 171 }, 512),
        (KeyGroupRange::all(32768), 32768),
    ] {
        let mut table = HeapTable::<u64, Wide>::new(range, max_parallelism);
        let keys = owned_keys(range, max_parallelism, 20_000);
        for &key in &keys {
            table.insert(key.stable_hash(), &key, wide(key));
        }
        assert_eq!(table.len(), keys.len());
        assert!(
            keys.iter()
                .all(|key| table.get(key.stable_hash(), key) == Some(&wide(*key)))
        );
        let largest = table.shards.iter().map(Shard::len).max().unwrap();
        assert!(largest <= SHARD_ENTRIES_OF_WIDE, "a shard holds {largest} entries");
        let shards = table.shard_count();
        assert!(
            (20_000 / SHARD_ENTRIES_OF_WIDE..=4 * 20_000 / SHARD_ENTRIES_OF_WIDE).contains(&shards),
            "{shards} shards"
        );
    }
}

fn buckets<K: Key, V: State>(shard: &Shard<K, V>) -> usize {
    match shard {
        Shard::Owned(entries) if entries.capacity() == 0 => 0,
        Shard::Owned(entries) => entries.num_buckets(),
        Shard::Frozen(layers) => layers.buckets(),
    }
}

#[test]
fn an_empty_table_is_small_however_many_key_groups_it_has() {
    let mut table = HeapTable::<String, u64>::new(KeyGroupRange::all(32768), 32768);
    assert_eq!(table.shard_count(), 1);
    assert_eq!(buckets(&table.shards[0]), 0);
    assert_eq!(table.freeze().rows(), 0);
}

#[test]
fn a_table_with_room_reserved_does_not_grow() {
    for end in [512, 341] {
        let range = KeyGroupRange { start: 0, end };
        let mut table = HeapTable::<u64, u64>::new(range, 512);
        table.reserve(100_000);
        let shards = table.shard_count();
        let keys = owned_keys(range, 512, 100_000);
        keys.iter().for_each(|key| {
            table.insert(key.stable_hash(), key, *key);
        });
        assert_eq!(table.shard_count(), shards);
        assert!(shards <= 64, "{shards} shards of up to 3584 entries");
    }
}

#[test]
fn a_forged_number_of_rows_does_not_exhaust_memory() {
    let mut table = HeapTable::<u64, u64>::new(KeyGroupRange::all(128), 128);
    table.reserve(u64::MAX);
    assert!(table.shard_count() <= 1 << 20);
    table.insert(1u64.stable_hash(), &1, 1);
    assert_eq!(table.len(), 1);
}

#[test]
fn keys_whose_hashes_collide_make_a_shard_grow_instead_of_the_directory() {
    let range = KeyGroupRange::all(128);
    let mut table = HeapTable::<u64, Wide>::new(range, 128);
    // The table trusts its caller with the hash: these all agree in the half that chooses the shard.
    for key in 0..3_000u64 {
        table.insert(
            0x1234_5678_0000_0000 | key.wrapping_mul(0x9E37_79B9) & 0xFFFF_FFFF,
            &key,
            wide(key),
        );
        assert!(table.shard_count() <= 64);
    }
    assert_eq!(table.len(), 3_000);
}

fn frozen_shards<K: Key, V: State>(table: &HeapTable<K, V>) -> usize {
    table
        .shards
        .iter()
        .filter(|shard| matches!(shard, Shard::Frozen(_)))
        .count()
}

/// A value that counts how often it is copied.
#[derive(Debug)]
struct Counted(u64);

static COPIES: AtomicUsize = AtomicUsize::new(0);

impl Clone for Counted {
    fn clone(&self) -> Self {
        COPIES.fetch_add(1, Ordering::Relaxed);
        Self(self.0)
    }
}

impl State for Counted {
    fn data_type() -> DataType {
        DataType::UInt64
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.0.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        u64::decode(row).map(Self)
    }
}

#[test]
fn a_write_beside_a_snapshot_copies_its_own_entry_once_and_no_other() {
    let mut table = HeapTable::<u64, Counted>::new(KeyGroupRange::all(128), 128);
    (0..20_000u64).for_each(|key| {
        table.insert(key.stable_hash(), &key, Counted(key));
    });
    let frozen = table.freeze();
    let all = table.shard_count();
    assert_eq!(frozen_shards(&table), all);
    let copies = || COPIES.load(Ordering::Relaxed);
    for key in 0..40_000u64 {
        table.prefetch(&[(key.stable_hash(), key)]);
        assert_eq!(table.get(key.stable_hash(), &key).is_some(), key < 20_000);
    }
    for key in 20_000..40_000u64 {
        assert!(table.get_mut(key.stable_hash(), &key).is_none());
        assert!(table.remove(key.stable_hash(), &key).is_none());
    }
    assert_eq!(copies(), 0, "nothing was written");
    for round in 1..=3 {
        for key in 0..100u64 {
            table.get_mut(key.stable_hash(), &key).unwrap().0 += round;
        }
    }
    assert_eq!(copies(), 100);
    assert_eq!(frozen_shards(&table), all, "the snapshot holds them");
    assert_eq!(rows(&frozen, 128)[&7].0, 7);
    drop(frozen);
    for key in 0..20_000u64 {
        assert_eq!(
            table.get_mut(key.stable_hash(), &key).unwrap().0,
            if key < 100 { key + 6 } else { key }
        );
    }
    assert_eq!(copies(), 100, "what was written is moved back");
    assert_eq!(frozen_shards(&table), 0);
}

#[test]
fn a_shard_that_the_snapshot_has_let_go_is_written_in_place() {
    let mut table = HeapTable::<u64, Wide>::new(KeyGroupRange::all(128), 128);
    (0..200u64).for_each(|key| {
        table.insert(key.stable_hash(), &key, wide(key));
    });
    let address = |table: &HeapTable<u64, Wide>| std::ptr::from_ref(table.get(7u64.stable_hash(), &7).unwrap()).addr();
    let before = address(&table);
    drop(table.freeze());
    table.get_mut(7u64.stable_hash(), &7).unwrap()[0] = 1;
    assert_eq!(address(&table), before);
    let held = table.freeze();
    table.get_mut(7u64.stable_hash(), &7).unwrap()[0] = 2;
    assert_ne!(address(&table), before);
    drop(held);
    table.get_mut(7u64.stable_hash(), &7).unwrap()[1] = 3;
    assert_eq!(address(&table), before);
    assert_eq!(table.get(7u64.stable_hash(), &7).unwrap()[..3], [2, 3, 7]);
}

#[test]
fn a_shard_of_which_a_part_was_written_beside_a_snapshot_is_copied_whole() {
    let mut table = HeapTable::<u64, Wide>::new(KeyGroupRange::all(128), 128);
    (0..200u64).for_each(|key| {
        table.insert(key.stable_hash(), &key, wide(key));
    });
    let held = table.freeze();
    let mut frozen_after = Vec::new();
    for key in 0..60u64 {
        table.get_mut(key.stable_hash(), &key).unwrap()[0] = 1_000;
        frozen_after.push(frozen_shards(&table));
    }
    assert_eq!((frozen_after[0], *frozen_after.last().unwrap()), (1, 0));
    assert_eq!(rows(&held, 128), (0..200).map(|key| (key, wide(key))).collect());
    let now = rows(&table.freeze(), 128);
    assert!(
        now.iter()
            .all(|(key, value)| value[0] == if *key < 60 { 1_000 } else { *key })
    );
    assert!(now.len() == 200 && table.shard_count() == 1);
}

#[test]
fn values_that_own_memory_are_copied_one_by_one() {
    let mut table = HeapTable::<u64, String>::new(KeyGroupRange::all(128), 128);
    (0..200u64).for_each(|key| {
        table.insert(key.stable_hash(), &key, key.to_string());
    });
    let held = table.freeze();
    for key in 0..300u64 {
        let value = table.get_or_insert_with(key.stable_hash(), &key, String::new);
        value.push('!');
    }
    assert!((100..150u64).all(|key| table.remove(key.stable_hash(), &key).is_some()));
    assert_eq!((frozen_shards(&table), table.len()), (1, 250));
    assert_eq!(rows(&held, 128), (0..200).map(|key| (key, key.to_string())).collect());
    let expected = |key: u64| if key < 200 { format!("{key}!") } else { "!".to_owned() };
    let present = (0..100).chain(150..300);
    let expected: BTreeMap<u64, String> = present.map(|key| (key, expected(key))).collect();
    assert_eq!(rows(&table.freeze(), 128), expected, "beside a snapshot");
    drop(held);
    table.get_mut(0u64.stable_hash(), &0).unwrap().push('?');
    assert_eq!(frozen_shards(&table), 0);
    let after = rows(&table.freeze(), 128);
    assert_eq!(after[&0], "0!?");
    assert!(expected.iter().skip(1).all(|(key, value)| after[key] == *value) && after.len() == expected.len());
}

#[test]
fn a_copy_of_a_shard_has_its_rows_in_the_same_places() {
    // What is known of changed rows is the places that they are in: a copy must not move them.
    let mut entries = hashbrown::HashTable::<(u64, Wide)>::new();
    for key in 0..200u64 {
        entries.insert_unique(shard_hash(key.stable_hash()), (key, wide(key)), rehash);
    }
    for key in (0..200u64).step_by(3) {
        let present = entries.find_entry(shard_hash(key.stable_hash()), |entry| entry.0 == key);
        present.unwrap().remove();
    }
    let places = |entries: &Entries<u64, Wide>| -> Vec<(usize, u64)> {
        let buckets = 0..entries.num_buckets();
        buckets
            .filter_map(|bucket| Some((bucket, entries.get_bucket(bucket)?.0)))
            .collect()
    };
    let before = places(&entries);
    let mut shard = Shard::Owned(entries);
    let held = shard.freeze();
    if let Shard::Frozen(layers) = &mut shard {
        for key in (1..200u64).step_by(3) {
            layers.get_mut(key.stable_hash(), &key, |_| {}).unwrap()[0] = 7;
        }
    }
    assert!(shard.take_back(0).is_empty());
    let Shard::Owned(copied) = &shard else {
        panic!("a third of it was written: it is copied")
    };
    assert_eq!(places(copied), before);
    assert_eq!(held.len(), before.len());
}

#[test]
fn keys_that_come_while_a_snapshot_is_held_find_room() {
    let mut table = HeapTable::<u64, Wide>::new(KeyGroupRange::all(128), 128);
    table.insert(0u64.stable_hash(), &0, wide(0));
    let held = table.freeze();
    for key in 1..1_000u64 {
        table.insert(key.stable_hash(), &key, wide(key));
    }
    assert_eq!((table.len(), held.rows()), (1_000, 1));
    drop(held);
    table.remove(0u64.stable_hash(), &0);
    assert!(table.shard_count() > 4);
    assert_eq!(rows(&table.freeze(), 128).len(), 999);
}

#[test]
#[should_panic(expected = "was sent to the owner of the key groups [0, 64)")]
fn a_key_of_another_subtask_is_not_accepted() {
    let other = owned_keys(KeyGroupRange { start: 64, end: 128 }, 128, 1)[0];
    let mut table = HeapTable::<u64, u64>::new(KeyGroupRange { start: 0, end: 64 }, 128);
    table.insert(other.stable_hash(), &other, 0);
}

#[test]
fn a_shard_that_grows_or_is_cut_counts_as_changed_with_all_its_rows() {
    let mut table = HeapTable::<u64, Wide>::new(KeyGroupRange::all(128), 128);
    table.insert(0u64.stable_hash(), &0, wide(0));
    table.freeze_increment(CheckpointId(1), None, "");
    let is_rearranged = |table: &HeapTable<u64, Wide>, shard| table.tracking.as_ref().unwrap().is_rearranged(shard);
    assert!(!is_rearranged(&table, 0));
    for key in 1..1_000u64 {
        let before: Vec<usize> = table.shards.iter().map(buckets).collect();
        table.insert(key.stable_hash(), &key, wide(key));
        for (number, shard) in table.shards.iter().enumerate() {
            let moved = before.get(number) != Some(&buckets(shard));
            assert!(
                !moved || is_rearranged(&table, number),
                "shard {number} after {key} keys"
            );
        }
        if before.len() != table.shards.len() {
            let largest = (0..before.len()).find(|number| is_rearranged(&table, *number));
            assert!(largest.is_some(), "the shard that was cut has changed as well");
        }
        table.freeze_increment(CheckpointId(key + 1), None, "");
    }
    assert!(table.shards.len() > 4);
}
