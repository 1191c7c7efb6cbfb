//! A block: the header in front of a payload of rows, sealed by a checksum over the bytes as they are stored.

use streamd_core::key_group::KeyGroupRange;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::codec::{Packer, Packing, unpack};
use super::format::{IMPOSSIBLE, MAX_PAYLOAD_BYTES, Payload, Rows, word};

/// What a block begins with.
const MAGIC: u32 = u32::from_le_bytes(*b"SBK2");
/// Magic 4, checksum 8, state 4, first key group 4, end of key groups 4, rows 4, payload length 4, stored length 4, packing 1,
/// content 1, two zero bytes.
pub(super) const BLOCK_HEADER_BYTES: usize = 40;

/// What a block of version 1 begins with.
const FIRST_MAGIC: u32 = u32::from_le_bytes(*b"SBK1");
/// Magic 4, checksum 8, ordinal of the state 4, first key group 4, end of key groups 4, rows 4, payload length 4.
const FIRST_HEADER_BYTES: usize = 32;

/// Where the part of a block begins that its checksum covers: all but magic and checksum. In both versions.
const CHECKED_FROM: usize = 12;

/// Bytes of a block at least and at most.
pub(super) const BLOCK_BYTES: std::ops::RangeInclusive<u64> =
    FIRST_HEADER_BYTES as u64..=(BLOCK_HEADER_BYTES + MAX_PAYLOAD_BYTES) as u64;

/// What a block is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockHeader {
    /// The mark of the state.
    pub state: u32,
    /// The key groups of its segment.
    pub key_groups: KeyGroupRange,
    /// How many rows and removed keys.
    pub rows: u32,
    /// Whether it holds changes, not all rows of its segment.
    pub changes: bool,
}

/// Seals a payload: its header, and the bytes to be stored behind it.
pub(super) fn seal<'a>(
    header: BlockHeader,
    payload: &'a [u8],
    packer: &'a mut Packer,
) -> ([u8; BLOCK_HEADER_BYTES], &'a [u8]) {
    let (packing, stored) = packer.pack(payload).unwrap_or((Packing::Plain, payload));
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a row is limited to 256 MiB, so a payload is too");
    let mut sealed = [0; BLOCK_HEADER_BYTES];
    let words = [
        header.state,
        header.key_groups.start,
        header.key_groups.end,
        header.rows,
        length(payload),
        length(stored),
    ];
    for (index, word) in words.into_iter().enumerate() {
        let at = CHECKED_FROM + 4 * index;
        sealed[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    sealed[36] = packing.code();
    sealed[37] = u8::from(header.changes);
    sealed[..4].copy_from_slice(&MAGIC.to_le_bytes());
    let mut checksum = Xxh3::new();
    checksum.update(&sealed[CHECKED_FROM..]);
    checksum.update(stored);
    sealed[4..12].copy_from_slice(&checksum.digest().to_le_bytes());
    (sealed, stored)
}

/// What a block must be, by the metadata.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    /// The mark of the state.
    pub state: u32,
    /// The key groups of its segment.
    pub key_groups: KeyGroupRange,
    /// Whether it is of a layer of changes.
    pub changes: bool,
}

/// A block whose checksum holds and whose header says what is expected. Its payload may still have to be unpacked.
#[derive(Debug)]
pub(super) struct OpenBlock {
    key_groups: KeyGroupRange,
    rows: u32,
    kind: Rows,
    packing: Packing,
    payload_length: usize,
    /// Where the stored payload begins in the block.
    payload_at: usize,
}

impl OpenBlock {
    /// Checks a block against its checksum and against what the metadata says of it.
    pub(super) fn open(block: &[u8], expected: Expected) -> Result<Self, String> {
        if block.len() < FIRST_HEADER_BYTES {
            return Err("it is shorter than its header".to_owned());
        }
        let opened = match word(block, 0) {
            MAGIC if block.len() < BLOCK_HEADER_BYTES => return Err("it is shorter than its header".to_owned()),
            MAGIC => {
                check(block)?;
                Self::second(block, expected)?
            }
            FIRST_MAGIC => {
                check(block)?;
                Self::first(block)?
            }
            _other => return Err("it does not begin as a block does".to_owned()),
        };
        let (there, wanted) = (opened.key_groups, expected.key_groups);
        if there != wanted {
            return Err(format!("it holds key groups {there} where the metadata says {wanted}"));
        }
        if (opened.kind == Rows::Changes) != expected.changes {
            return Err("it is of another layer than the metadata says".to_owned());
        }
        Ok(opened)
    }

    fn first(block: &[u8]) -> Result<Self, String> {
        let opened = Self {
            key_groups: groups(block),
            rows: word(block, 24),
            kind: Rows::First,
            packing: Packing::Plain,
            payload_length: word(block, 28) as usize,
            payload_at: FIRST_HEADER_BYTES,
        };
        if opened.payload_length == block.len() - FIRST_HEADER_BYTES {
            Ok(opened)
        } else {
            Err("its header says another length".to_owned())
        }
    }

    fn second(block: &[u8], expected: Expected) -> Result<Self, String> {
        if word(block, 12) != expected.state {
            return Err("it is of another state".to_owned());
        }
        if word(block, 32) as usize != block.len() - BLOCK_HEADER_BYTES {
            return Err("its header says another length".to_owned());
        }
        let payload_length = word(block, 28) as usize;
        if payload_length > MAX_PAYLOAD_BYTES {
            return Err(format!("its payload is said to have {payload_length} bytes"));
        }
        let kind = match (block[37], block[38], block[39]) {
            (0, 0, 0) => Rows::Whole,
            (1, 0, 0) => Rows::Changes,
            _unknown => return Err("its header is of an unknown kind".to_owned()),
        };
        Ok(Self {
            key_groups: groups(block),
            rows: word(block, 24),
            kind,
            packing: Packing::of_code(block[36]).ok_or("its payload is packed in an unknown way")?,
            payload_length,
            payload_at: BLOCK_HEADER_BYTES,
        })
    }

    /// Bytes that unpacking takes; 0 where there is nothing to unpack.
    pub(super) fn unpacked_bytes(&self) -> usize {
        match self.packing {
            Packing::Plain => 0,
            Packing::Lz4 | Packing::Zstd => self.payload_length,
        }
    }

    /// The unpacked payload; nothing where it is stored as it is.
    pub(super) fn unpack(&self, block: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let stored = &block[self.payload_at..];
        match self.packing {
            Packing::Plain if stored.len() == self.payload_length => Ok(None),
            Packing::Plain => Err("its header says another length".to_owned()),
            packing @ (Packing::Lz4 | Packing::Zstd) => unpack(packing, stored, self.payload_length).map(Some),
        }
    }

    /// The rows of the block, given its unpacked payload where it has one. With the groups and number that they must have.
    pub(super) fn rows<'a>(&self, block: &'a [u8], unpacked: Option<&'a [u8]>) -> (Payload<'a>, (KeyGroupRange, u32)) {
        let payload = unpacked.unwrap_or(&block[self.payload_at..]);
        (Payload::new(payload, self.kind), (self.key_groups, self.rows))
    }
}

/// Reads any bytes as a block whose checksum is right and of which the metadata says what it says of itself. Returns its rows.
pub(crate) fn read_forged(mut block: Vec<u8>) -> Result<u64, String> {
    if block.len() >= FIRST_HEADER_BYTES {
        let checksum = xxh3_64(&block[CHECKED_FROM..]);
        block[4..CHECKED_FROM].copy_from_slice(&checksum.to_le_bytes());
    }
    let at = |at: usize| block.get(at).copied().unwrap_or_default();
    let expected = Expected {
        state: block.get(12..16).map_or(0, |state| word(state, 0)),
        key_groups: block.get(16..24).map_or(KeyGroupRange::all(0), |_whole| groups(&block)),
        changes: block.starts_with(&MAGIC.to_le_bytes()) && at(37) == 1,
    };
    let open = OpenBlock::open(&block, expected)?;
    let unpacked = open.unpack(&block)?;
    let (payload, announced) = open.rows(&block, unpacked.as_deref());
    let mut rows = 0;
    payload.try_for_each(announced, || IMPOSSIBLE.to_owned(), &mut |_group, _key, _value| {
        rows += 1;
        Ok(())
    })?;
    Ok(rows)
}

fn groups(block: &[u8]) -> KeyGroupRange {
    KeyGroupRange {
        start: word(block, 16),
        end: word(block, 20),
    }
}

fn check(block: &[u8]) -> Result<(), String> {
    let recorded = u64::from_le_bytes(block[4..12].try_into().expect("eight bytes"));
    let actual = xxh3_64(&block[CHECKED_FROM..]);
    if recorded == actual {
        Ok(())
    } else {
        Err(format!("its checksum is `{actual:016x}` instead of `{recorded:016x}`"))
    }
}
