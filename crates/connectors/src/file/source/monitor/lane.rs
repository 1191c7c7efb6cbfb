//! A share of the files of a folder.

use streamd_core::row::{DataType, RowError, RowReader};
use streamd_core::state::State;

use crate::file::source::split::{FileSplit, fingerprint};

/// The files of a folder whose paths fall to this lane, as far as they were found and not yet forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lane {
    /// The folder, as an absolute path.
    pub folder: String,
    /// The number of the lane.
    pub number: u32,
    /// How many lanes there are, from the first start of the job on.
    pub lanes: u32,
    /// The files, by path. Those that were read to their end stay for as long as they are in the folder.
    pub files: Vec<FileSplit>,
}

impl Lane {
    /// Whether a path falls to it.
    pub fn owns(&self, path: &str) -> bool {
        fingerprint(path.as_bytes()) % u64::from(self.lanes) == u64::from(self.number)
    }
}

impl State for Lane {
    fn data_type() -> DataType {
        DataType::structure(
            "Lane",
            [
                ("folder", DataType::String),
                ("number", DataType::UInt32),
                ("lanes", DataType::UInt32),
                ("files", Vec::<FileSplit>::data_type()),
            ],
        )
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.folder.encode(row);
        self.number.encode(row);
        self.lanes.encode(row);
        self.files.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        let lane = Self {
            folder: String::decode(row)?,
            number: u32::decode(row)?,
            lanes: u32::decode(row)?,
            files: Vec::decode(row)?,
        };
        if lane.number >= lane.lanes {
            return Err(RowError::Invalid {
                what: "the number of a lane",
                value: lane.number.into(),
            });
        }
        Ok(lane)
    }
}
