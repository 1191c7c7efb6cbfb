//! The contract of a file format.

use streamd_core::source::ConnectorError;

use super::split::FileSplit;

/// How the bytes of a file become records.
pub trait Format: Clone + Send + 'static {
    /// The records.
    type Out: Send + 'static;
    /// What decodes one split.
    type Decoder: Decoder<Out = Self::Out>;

    /// Whether a reader that starts in the middle of a file finds the next record.
    fn can_be_cut(&self) -> bool;

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
