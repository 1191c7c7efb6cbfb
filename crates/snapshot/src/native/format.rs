//! The bytes of a native state object: its header and footer, and the rows within the payload of a block.

use streamd_core::key_group::KeyGroupRange;
use xxhash_rust::xxh3::xxh3_64;

/// The version of the native form that this build writes.
pub const NATIVE_VERSION: u32 = 2;

/// What every native state object begins with.
pub(super) const MAGIC: [u8; 8] = *b"STRMDST\n";
/// Magic, version, four zero bytes.
pub(super) const HEADER_BYTES: u64 = 16;

/// What the footer begins with.
const FOOTER_MAGIC: [u8; 8] = *b"STRMDEN\n";

/// Bytes of rows after which a block ends with the key group that it is in.
pub(super) const BLOCK_TARGET: usize = 256 << 10;
/// Bytes of rows after which a block ends with the row that it is in: a big key group has several blocks.
pub(super) const BLOCK_LIMIT: usize = 1 << 20;
/// Bytes of the key and value of one row, at most. Far more than any sane value, few enough to be held in memory.
pub(super) const MAX_ROW_BYTES: usize = 256 << 20;
/// Bytes of the payload of a block at most: it is closed by the row that passes the limit.
pub(super) const MAX_PAYLOAD_BYTES: usize = BLOCK_LIMIT + MAX_ROW_BYTES + 64;

/// The header of an object of a version.
pub(super) fn header(version: u32) -> [u8; HEADER_BYTES as usize] {
    let mut bytes = [0; HEADER_BYTES as usize];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
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

/// What the blocks of a state are marked with: a block of another state is not mistaken for one of this.
pub(super) fn state_mark(state: &str) -> u32 {
    // The low half of the hash.
    xxh3_64(state.as_bytes()) as u32
}

/// Appends a length: seven bits a byte, least significant first.
#[inline]
pub(super) fn put_length(payload: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        payload.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    payload.push(length as u8);
}

/// Appends a row, or that there is none for this key any more.
#[inline]
pub(super) fn put_row(payload: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    put_length(payload, key.len());
    put_length(payload, value.map_or(0, |value| value.len() + 1));
    payload.extend_from_slice(key);
    payload.extend_from_slice(value.unwrap_or_default());
}

/// Which rows a payload may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Version 1: rows, by rising key group.
    First,
    /// Rows.
    Whole,
    /// Rows and removed keys.
    Changes,
}

/// Reads the payload of a block. Every length is checked against what is left before it is used.
pub(super) struct Payload<'a> {
    rest: &'a [u8],
    rows: Rows,
}

/// Why a payload, intact by its checksum, is none that a writer makes.
pub(super) const IMPOSSIBLE: &str = "its rows are not those that its header announces";

/// What takes the rows of a payload: key group, key, and value or nothing.
pub(super) type PayloadVisitor<'v, 'a, E> = dyn FnMut(u32, &'a [u8], Option<&'a [u8]>) -> Result<(), E> + 'v;

impl<'a> Payload<'a> {
    pub(super) fn new(payload: &'a [u8], rows: Rows) -> Self {
        Self { rest: payload, rows }
    }

    /// Calls `visit` with every row. `impossible` makes the error for a payload that is none of `expected` rows of these groups.
    pub(super) fn try_for_each<E>(
        mut self,
        (groups, expected): (KeyGroupRange, u32),
        impossible: impl Fn() -> E,
        visit: &mut PayloadVisitor<'_, 'a, E>,
    ) -> Result<(), E> {
        let (mut seen, mut floor) = (0u64, groups.start);
        while !self.rest.is_empty() {
            let (group, rows) = self.run().ok_or_else(&impossible)?;
            if group < floor || group >= groups.end || rows == 0 {
                return Err(impossible());
            }
            if self.rows == Rows::First {
                floor = group + 1;
            }
            for _ in 0..rows {
                let (key, value) = self.row().ok_or_else(&impossible)?;
                visit(group, key, value)?;
            }
            seen += u64::from(rows);
        }
        if seen == u64::from(expected) {
            Ok(())
        } else {
            Err(impossible())
        }
    }

    /// Key group and number of rows of the next run.
    fn run(&mut self) -> Option<(u32, u32)> {
        let (head, tail) = self.rest.split_at_checked(8)?;
        self.rest = tail;
        Some((word(head, 0), word(head, 4)))
    }

    /// The next row.
    #[inline]
    fn row(&mut self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let key = self.length()?;
        let value = self.length()?;
        let value = match self.rows {
            Rows::First => Some(value),
            Rows::Whole => Some(value.checked_sub(1)?),
            Rows::Changes => value.checked_sub(1),
        };
        let (key, tail) = self.rest.split_at_checked(key)?;
        let Some(value) = value else {
            self.rest = tail;
            return Some((key, None));
        };
        let (value, tail) = tail.split_at_checked(value)?;
        self.rest = tail;
        Some((key, Some(value)))
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

/// The word at this place of a header that was checked to be whole.
pub(super) fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes within the header"))
}
