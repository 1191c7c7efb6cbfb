use streamd_core::barrier::Compression;
use streamd_core::key_group::KeyGroupRange;

use super::block::{BLOCK_HEADER_BYTES, BlockHeader, Expected, OpenBlock, seal};
use super::codec::Packer;
use super::format::{self, Payload, Rows, put_row, state_mark};

const GROUPS: KeyGroupRange = KeyGroupRange { start: 3, end: 4 };

const EVERY: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

fn expected() -> Expected {
    Expected {
        state: state_mark("count"),
        key_groups: GROUPS,
        changes: true,
    }
}

fn payload() -> Vec<u8> {
    let mut payload = 3u32.to_le_bytes().to_vec();
    payload.extend_from_slice(&3u32.to_le_bytes());
    put_row(&mut payload, b"a", Some(&[1; 300]));
    put_row(&mut payload, b"", Some(b""));
    put_row(&mut payload, b"gone", None);
    payload
}

fn block(compression: Compression) -> Vec<u8> {
    let header = BlockHeader {
        state: state_mark("count"),
        key_groups: GROUPS,
        rows: 3,
        changes: true,
    };
    let payload = payload();
    let mut packer = Packer::new(compression);
    let (header, stored) = seal(header, &payload, &mut packer);
    [&header[..], stored].concat()
}

type Row = (u32, Vec<u8>, Option<Vec<u8>>);

fn rows(block: &[u8]) -> Result<Vec<Row>, String> {
    let open = OpenBlock::open(block, expected())?;
    let unpacked = open.unpack(block)?;
    let (payload, announced) = open.rows(block, unpacked.as_deref());
    let mut rows = Vec::new();
    payload.try_for_each(announced, || "impossible".to_owned(), &mut |group, key, value| {
        rows.push((group, key.to_vec(), value.map(<[u8]>::to_vec)));
        Ok(())
    })?;
    Ok(rows)
}

#[test]
fn a_block_gives_its_rows_back() {
    for compression in EVERY {
        assert_eq!(
            rows(&block(compression)).unwrap(),
            [
                (3, b"a".to_vec(), Some(vec![1; 300])),
                (3, vec![], Some(vec![])),
                (3, b"gone".to_vec(), None)
            ]
        );
    }
    assert!(block(Compression::Lz4).len() < block(Compression::None).len() / 2);
    assert!(block(Compression::Zstd).len() < block(Compression::None).len() / 2);
}

#[test]
fn every_flipped_bit_and_every_prefix_of_a_block_is_refused() {
    for compression in EVERY {
        let block = block(compression);
        for bit in 0..block.len() * 8 {
            let mut damaged = block.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(rows(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..block.len() {
            assert!(rows(&block[..length]).is_err(), "{length} bytes");
        }
    }
}

/// A block with other bytes at some place, whose checksum holds all the same: what only an attacker writes.
fn forged(compression: Compression, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut block = block(compression);
    block[at..at + bytes.len()].copy_from_slice(bytes);
    let checksum = xxhash_rust::xxh3::xxh3_64(&block[12..]);
    block[4..12].copy_from_slice(&checksum.to_le_bytes());
    block
}

#[test]
fn a_forged_length_is_refused_before_anything_is_allocated_for_it() {
    for compression in EVERY {
        for length in [0, 1, 299, 1 << 28, u32::MAX] {
            let error = rows(&forged(compression, 28, &u32::to_le_bytes(length))).unwrap_err();
            assert!(error.contains("payload") || error.contains("length"), "{error}");
        }
        for (at, bytes) in [
            (12, 1u32.to_le_bytes()),
            (16, 2u32.to_le_bytes()),
            (20, 9u32.to_le_bytes()),
            (24, 2u32.to_le_bytes()),
            (24, u32::MAX.to_le_bytes()),
            (32, 7u32.to_le_bytes()),
            (36, [9, 1, 0, 0]),
            (36, [0, 0, 0, 0]),
            (36, [0, 1, 1, 0]),
        ] {
            assert!(rows(&forged(compression, at, &bytes)).is_err(), "{at} {bytes:?}");
        }
    }
    for garbage in [[0xff; 8], [0; 8]] {
        assert!(rows(&forged(Compression::None, BLOCK_HEADER_BYTES, &garbage)).is_err());
        assert!(rows(&forged(Compression::Lz4, BLOCK_HEADER_BYTES, &garbage)).is_err());
        assert!(rows(&forged(Compression::Zstd, BLOCK_HEADER_BYTES, &garbage)).is_err());
    }
}

#[test]
fn a_block_of_another_state_group_or_layer_is_refused() {
    let block = block(Compression::None);
    let others = [
        Expected {
            state: state_mark("other"),
            ..expected()
        },
        Expected {
            key_groups: KeyGroupRange { start: 3, end: 5 },
            ..expected()
        },
        Expected {
            changes: false,
            ..expected()
        },
    ];
    assert!(OpenBlock::open(&block, expected()).is_ok());
    for other in others {
        assert!(OpenBlock::open(&block, other).is_err(), "{other:?}");
    }
}

#[test]
fn only_changes_can_say_that_a_key_is_gone() {
    let payload = payload();
    for (rows, fits) in [(Rows::Changes, true), (Rows::Whole, false), (Rows::First, false)] {
        let read = Payload::new(&payload, rows).try_for_each((GROUPS, 3), || (), &mut |_, _, _| Ok(()));
        assert_eq!(read.is_ok(), fits, "{rows:?}");
    }
}

#[test]
fn a_length_without_end_is_no_row() {
    let mut payload = format::header(2)[..8].to_vec();
    payload[..8].copy_from_slice(&[3, 0, 0, 0, 1, 0, 0, 0]);
    payload.extend_from_slice(&[0xff; 40]);
    let read = Payload::new(&payload, Rows::Whole).try_for_each((GROUPS, 1), || (), &mut |_, _, _| Ok(()));
    assert!(read.is_err());
}
