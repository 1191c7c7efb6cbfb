//! A part of a file, and how far it has been read.

use streamd_core::row::{DataType, RowError, RowReader};
use streamd_core::state::State;

/// How many bytes from the start of a file tell it from another one.
pub const HEAD_BYTES: u64 = 4096;

/// The bytes `start..end` of a file, and the position of the next record in them.
///
/// A record belongs to the split in which it begins; it may end in a later one.
///
/// Of a file that is compressed, all offsets are in its content: it is one split, from 0 to `u64::MAX`, which is its position once it
/// has been read to its end. Only `length` and `head` are about the file itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSplit {
    /// The file, as an absolute path.
    pub path: String,
    /// The length of the file when it was listed. Bytes beyond it do not belong to the input.
    pub length: u64,
    /// The [`fingerprint`] of the first [`HEAD_BYTES`] bytes when it was listed.
    pub head: u64,
    /// The first byte of the split.
    pub start: u64,
    /// The byte after the last one of the split.
    pub end: u64,
    /// Where the next record begins. At `start`, unless the split begins the file, this may be inside of a record of the
    /// split before: reading begins with the next one.
    pub position: u64,
}

impl FileSplit {
    /// Whether every record that begins in the split has been read.
    pub fn is_finished(&self) -> bool {
        self.position >= self.end
    }
}

impl State for FileSplit {
    fn data_type() -> DataType {
        DataType::structure(
            "FileSplit",
            [
                ("path", DataType::String),
                ("length", DataType::UInt64),
                ("head", DataType::UInt64),
                ("start", DataType::UInt64),
                ("end", DataType::UInt64),
                ("position", DataType::UInt64),
            ],
        )
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.path.encode(row);
        for number in [self.length, self.head, self.start, self.end, self.position] {
            number.encode(row);
        }
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            path: String::decode(row)?,
            length: u64::decode(row)?,
            head: u64::decode(row)?,
            start: u64::decode(row)?,
            end: u64::decode(row)?,
            position: u64::decode(row)?,
        })
    }
}

/// FNV-1a of the bytes: stable for ever, since snapshots hold it. It guards against mistakes, not against malice.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
