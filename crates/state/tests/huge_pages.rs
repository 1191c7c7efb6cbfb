//! Huge pages are for large tables. Alone in its process, whose pages it changes.
#![cfg(target_os = "linux")]

use rustix::thread::{disable_transparent_huge_pages, transparent_huge_pages_are_disabled};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::state::State;
use streamd_state::{HeapTable, huge_pages};

type Wide = (u64, u64, u64, u64);

/// A table that has grown to so many keys.
fn grown_to(keys: u64) -> HeapTable<u64, Wide> {
    let mut table = empty();
    for key in 0..keys {
        table.insert(key.stable_hash(), &key, (key, 0, 0, 0));
    }
    table
}

fn empty() -> HeapTable<u64, Wide> {
    HeapTable::new(KeyGroupRange::all(16), 16)
}

#[test]
fn a_large_table_takes_huge_pages_where_they_were_left_to_it_and_no_other_does() {
    disable_transparent_huge_pages(true).unwrap();
    empty().reserve(1_000_000);
    assert!(transparent_huge_pages_are_disabled().unwrap());
    huge_pages::leave_to_large_tables();
    grown_to(10_000);
    assert!(transparent_huge_pages_are_disabled().unwrap());
    grown_to(200_000);
    assert!(!transparent_huge_pages_are_disabled().unwrap());
    disable_transparent_huge_pages(true).unwrap();
    huge_pages::leave_to_large_tables();
    // It is known before the first row comes.
    empty().reserve(1_000_000);
    assert!(!transparent_huge_pages_are_disabled().unwrap());
}
