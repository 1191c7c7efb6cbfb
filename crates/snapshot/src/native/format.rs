//! The bytes of a native state object: constants, headers, and the decoding of a block.

use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::NativeBlock;
use xxhash_rust::xxh3::xxh3_64;

/// The version of the native form that this build writes.
pub const NATIVE_VERSION: u32 = 1;

/// What every native state object begins with.
pub(super) const MAGIC: [u8; 8] = *b"STRMDST\n";
/// Magic, version, four zero bytes.
pub(super) const HEADER_BYTES: u64 = 16;

/// What the footer begins with.
pub(super) const FOOTER_MAGIC: [u8; 8] = *b"STRMDEN\n";

/// What a block begins with.
const BLOCK_MAGIC: u32 = u32::from_le_bytes(*b"SBK1");
/// Magic 4, checksum 8, table 4, first key group 4, end of key groups 4, rows 4, payload length 4.
pub(super) const BLOCK_HEADER_BYTES: usize = 32;
/// Where the part of a block begins that its checksum covers: all but magic and checksum.
const CHECKED_FROM: usize = 12;

/// Bytes after which a block ends with the key group that it is in.
pub(super) const BLOCK_TARGET: usize = 256 << 10;
/// Bytes after which a block ends with the row that it is in: a big key group has several blocks.
pub(super) const BLOCK_LIMIT: usize = 1 << 20;
/// Bytes of the key and value of one row, at most. Far more than any sane value, few enough to be held in memory.
pub(super) const MAX_ROW_BYTES: usize = 256 << 20;
/// Bytes of a block at most: it is closed by the row that passes the limit.
pub(super) const MAX_BLOCK_BYTES: u64 = (BLOCK_LIMIT + MAX_ROW_BYTES + 64) as u64;

/// The header of an object.
pub(super) fn header() -> [u8; HEADER_BYTES as usize] {
    let mut bytes = [0; HEADER_BYTES as usize];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&NATIVE_VERSION.to_le_bytes());
    bytes
}

/// The footer: magic, blocks u64, rows u64, XXH3-64 of the 24 bytes before.
pub(super) fn footer(blocks: u64, rows: u64) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&FOOTER_MAGIC);
    bytes[8..16].copy_from_slice(&blocks.to_le_bytes());
    bytes[16..24].copy_from_slice(&rows.to_le_bytes());
    let checksum = xxh3_64(&bytes[..24]);
    bytes[24..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// What the header of a block says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockHeader {
    /// The ordinal of the table in the object.
    pub table: u32,
    /// The key groups of the rows.
    pub key_groups: KeyGroupRange,
    /// How many rows.
    pub rows: u32,
}

/// Fills in the header of a finished block, whose first bytes were left free for it.
pub(super) fn seal(block: &mut [u8], header: BlockHeader) {
    let payload =
        u32::try_from(block.len() - BLOCK_HEADER_BYTES).expect("a row is limited to 256 MiB, so a block is too");
    let words = [
        header.table,
        header.key_groups.start,
        header.key_groups.end,
        header.rows,
        payload,
    ];
    for (index, word) in words.into_iter().enumerate() {
        let at = CHECKED_FROM + 4 * index;
        block[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    block[..4].copy_from_slice(&BLOCK_MAGIC.to_le_bytes());
    let checksum = xxh3_64(&block[CHECKED_FROM..]);
    block[4..12].copy_from_slice(&checksum.to_le_bytes());
}

/// Checks a block against its checksum and against what the metadata says of it.
pub(super) fn open(block: &[u8], expected: &NativeBlock) -> Result<BlockHeader, String> {
    if block.len() < BLOCK_HEADER_BYTES || block.len() as u64 != expected.length {
        return Err(format!(
            "{} bytes are expected, {} are there",
            expected.length,
            block.len()
        ));
    }
    if word(block, 0) != BLOCK_MAGIC {
        return Err("it does not begin as a block does".to_owned());
    }
    let recorded = u64::from_le_bytes(block[4..12].try_into().expect("eight bytes"));
    let actual = xxh3_64(&block[CHECKED_FROM..]);
    if recorded != actual {
        return Err(format!("its checksum is `{actual:016x}` instead of `{recorded:016x}`"));
    }
    let header = BlockHeader {
        table: word(block, 12),
        key_groups: KeyGroupRange {
            start: word(block, 16),
            end: word(block, 20),
        },
        rows: word(block, 24),
    };
    if word(block, 28) as usize != block.len() - BLOCK_HEADER_BYTES {
        return Err("its header says another length".to_owned());
    }
    if header.key_groups != expected.key_groups {
        let (there, wanted) = (header.key_groups, expected.key_groups);
        return Err(format!("it holds key groups {there} where the metadata says {wanted}"));
    }
    Ok(header)
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes within the header"))
}

/// Appends a length of a key or value: seven bits a byte, least significant first.
#[inline]
pub(super) fn put_length(block: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        block.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    block.push(length as u8);
}

/// Reads the payload of a block. Every length is checked against what is left before it is used.
pub(super) struct Payload<'a> {
    rest: &'a [u8],
}

/// Why a payload, intact by its checksum, is none that a writer makes.
pub(super) const IMPOSSIBLE: &str = "its rows are not those that its header announces";

impl<'a> Payload<'a> {
    pub(super) fn new(block: &'a [u8]) -> Self {
        Self {
            rest: &block[BLOCK_HEADER_BYTES..],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Key group and number of rows of the next run.
    pub(super) fn run(&mut self) -> Option<(u32, u32)> {
        let (head, tail) = self.rest.split_at_checked(8)?;
        self.rest = tail;
        Some((word(head, 0), word(head, 4)))
    }

    /// The next row.
    #[inline]
    pub(super) fn row(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let key = self.length()?;
        let value = self.length()?;
        let (key, tail) = self.rest.split_at_checked(key)?;
        let (value, tail) = tail.split_at_checked(value)?;
        self.rest = tail;
        Some((key, value))
    }

    #[inline]
    fn length(&mut self) -> Option<usize> {
        let mut length = 0usize;
        for shift in [0, 7, 14, 21, 28] {
            let (&byte, tail) = self.rest.split_first()?;
            self.rest = tail;
            length |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(length);
            }
        }
        None
    }
}
