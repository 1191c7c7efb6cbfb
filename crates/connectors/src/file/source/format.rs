//! The contract of a file format.

use streamd_core::source::{ConnectorError, Unit};

use super::listing;
use super::split::FileSplit;

/// How the bytes of a file become records.
pub trait Format: Clone + Send + 'static {
    /// The records.
    type Out: Send + 'static;
    /// What decodes one split.
    type Decoder: Decoder<Out = Self::Out>;

    /// Whether a reader that starts in the middle of a file finds the next record.
    fn can_be_cut(&self) -> bool;

    /// Cuts a file into splits of about so many bytes, in their order; into one at most if that is `u64::MAX`. `whole` is the file as
    /// one split of bytes. What `start`, `end` and `position` count is the format's to choose; `path`, `length` and `head` stay.
    fn splits(&self, whole: FileSplit, aim: u64) -> Result<Vec<FileSplit>, ConnectorError> {
        // Of a compressed file only a reader from the start knows what is where.
        let is_compressed = whole.end == u64::MAX;
        Ok(match self.can_be_cut() && !is_compressed {
            true => listing::cut(&whole, aim),
            false => vec![whole],
        })
    }

    /// What the positions of its splits count.
    fn unit(&self) -> Unit {
        Unit::Bytes
    }

    /// A decoder of the split, from its position on.
    fn decoder(&self, split: &FileSplit) -> Result<Self::Decoder, ConnectorError>;
}

/// Decodes the records that begin in one split.
pub trait Decoder: Send + 'static {
    /// The records.
    type Out;

    /// Appends up to `limit` records and returns how many; fewer only at the end of the split.
    ///
    /// Errors name the file, the byte offset and the record.
    fn decode(&mut self, out: &mut Vec<Self::Out>, limit: usize) -> Result<usize, ConnectorError>;

    /// The byte offset at which a new decoder of the same split goes on after the last record.
    fn position(&self) -> u64;
}
