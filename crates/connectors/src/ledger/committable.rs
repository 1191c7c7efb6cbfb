//! A transaction that waits for its checkpoint.

use streamd_core::row::{DataType, RowError, RowReader};
use streamd_core::state::State;

/// A transaction that is prepared. Its id is its identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerCommittable {
    /// The id, as it is in paths.
    pub transaction: String,
    /// How many records it has, for messages.
    pub records: u64,
}

impl State for LedgerCommittable {
    fn data_type() -> DataType {
        DataType::structure(
            "LedgerCommittable",
            [("transaction", DataType::String), ("records", DataType::UInt64)],
        )
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.transaction.encode(row);
        self.records.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            transaction: String::decode(row)?,
            records: u64::decode(row)?,
        })
    }
}
