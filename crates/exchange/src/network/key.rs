//! Which channel of a job: both workers derive it from the same graph.

use std::fmt;

/// One channel of a job: from a subtask of the edge's source vertex to a subtask of its target vertex.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelKey {
    /// Position of the edge in the job graph.
    pub edge: u32,
    /// Index of the producing subtask.
    pub source: u32,
    /// Index of the consuming subtask.
    pub target: u32,
}

impl ChannelKey {
    /// The size of the key in an open frame.
    pub(crate) const BYTES: usize = 12;

    /// The key as three little-endian numbers.
    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (chunk, number) in bytes.chunks_exact_mut(4).zip([self.edge, self.source, self.target]) {
            chunk.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// The key that these bytes hold; `None` if there are not 12.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: [u8; Self::BYTES] = bytes.try_into().ok()?;
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Some(Self {
            edge: number(0),
            source: number(4),
            target: number(8),
        })
    }
}

impl fmt::Display for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "edge {} from {} to {}", self.edge, self.source, self.target)
    }
}
