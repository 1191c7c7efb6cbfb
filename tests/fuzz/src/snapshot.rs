//! The files of checkpoints and savepoints. What a checksum would keep from a parser gets one that is right: so would a forger's.

use streamd_core::row::DataType;
use streamd_core::state::State;
use streamd_snapshot::hostile;

use crate::rows::types;

/// A metadata file.
pub fn metadata(bytes: &[u8]) -> bool {
    hostile::metadata(bytes).is_ok()
}

/// The version of a metadata file, one byte, and its body.
pub fn metadata_body(bytes: &[u8]) -> bool {
    let Some((version, body)) = bytes.split_first() else {
        return false;
    };
    hostile::metadata_body(u32::from(*version), body).is_ok()
}

/// A block of a state object.
pub fn block(bytes: &[u8]) -> bool {
    hostile::block(bytes).is_ok()
}

/// A table of keyed state.
pub fn keyed_table(bytes: &[u8]) -> bool {
    let key = String::data_type();
    let read = |value: &DataType| hostile::keyed_table(&key, value, bytes).is_ok();
    types().iter().filter(|value| read(value)).count() > 0
}

/// A table of a list.
pub fn list_table(bytes: &[u8]) -> bool {
    let read = |value: &DataType| hostile::list_table(value, bytes).is_ok();
    types().iter().filter(|value| read(value)).count() > 0
}
