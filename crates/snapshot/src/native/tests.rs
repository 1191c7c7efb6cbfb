use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::NativeBlock;

use super::format::{self, BLOCK_HEADER_BYTES, BlockHeader, Payload};

fn block() -> (Vec<u8>, NativeBlock) {
    let mut block = vec![0; BLOCK_HEADER_BYTES];
    block.extend_from_slice(&3u32.to_le_bytes());
    block.extend_from_slice(&2u32.to_le_bytes());
    for (key, value) in [(b"a".as_slice(), vec![1; 300]), (b"", vec![])] {
        format::put_length(&mut block, key.len());
        format::put_length(&mut block, value.len());
        block.extend_from_slice(key);
        block.extend_from_slice(&value);
    }
    let key_groups = KeyGroupRange { start: 3, end: 4 };
    format::seal(
        &mut block,
        BlockHeader {
            table: 0,
            key_groups,
            rows: 2,
        },
    );
    let handle = NativeBlock {
        key_groups,
        offset: 16,
        length: block.len() as u64,
    };
    (block, handle)
}

#[test]
fn a_block_gives_its_rows_back() {
    let (block, handle) = block();
    assert_eq!(format::open(&block, &handle).unwrap().rows, 2);
    let mut payload = Payload::new(&block);
    assert_eq!(payload.run(), Some((3, 2)));
    assert_eq!(payload.row(), Some((b"a".as_slice(), [1; 300].as_slice())));
    assert_eq!(payload.row(), Some((b"".as_slice(), b"".as_slice())));
    assert!(payload.is_empty());
}

#[test]
fn every_flipped_bit_and_every_prefix_of_a_block_is_refused() {
    let (block, handle) = block();
    for bit in 0..block.len() * 8 {
        let mut damaged = block.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(format::open(&damaged, &handle).is_err(), "bit {bit}");
    }
    for length in 0..block.len() {
        assert!(format::open(&block[..length], &handle).is_err(), "{length} bytes");
    }
}

#[test]
fn a_block_of_other_key_groups_than_announced_is_refused() {
    let (block, handle) = block();
    let other = NativeBlock {
        key_groups: KeyGroupRange { start: 4, end: 5 },
        ..handle
    };
    assert!(format::open(&block, &other).is_err());
}

#[test]
fn a_length_without_end_is_no_row() {
    let mut block = vec![0; BLOCK_HEADER_BYTES];
    block.extend_from_slice(&[0xff; 40]);
    assert_eq!(Payload::new(&block).row(), None);
}
