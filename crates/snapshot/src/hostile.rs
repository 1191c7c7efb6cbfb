//! Doors to the parsers of this crate, for whoever feeds them what nobody wrote (`tests/fuzz`).
//!
//! Each takes any bytes, gives them the checksum that a forger would give them, and says whether they were accepted.

use bytes::Bytes;
use streamd_core::row::DataType;

use crate::error::SnapshotError;
use crate::{metadata, native, table};

/// What messages call the bytes.
const URI: &str = "memory://hostile";

/// The bytes as a metadata file.
pub fn metadata(bytes: &[u8]) -> Result<(), SnapshotError> {
    metadata::decode(URI, bytes).map(drop)
}

/// The bytes as the body of a metadata file of this version, whose digest is right.
pub fn metadata_body(version: u32, body: &[u8]) -> Result<(), SnapshotError> {
    metadata(&metadata::sealed(version, body))
}

/// The bytes as a block of a state object, whose checksum is right and which is where the metadata says. Returns the number of its
/// rows.
pub fn block(bytes: &[u8]) -> Result<u64, String> {
    native::read_forged(bytes.to_vec())
}

/// The bytes as a table of keyed state, whose digest is right and which has as many rows as the metadata says. Returns how many.
pub fn keyed_table(key: &DataType, value: &DataType, bytes: &[u8]) -> Result<u64, SnapshotError> {
    table::read_forged(Some(key), value, Bytes::copy_from_slice(bytes))
}

/// The same for a table of a list.
pub fn list_table(value: &DataType, bytes: &[u8]) -> Result<u64, SnapshotError> {
    table::read_forged(None, value, Bytes::copy_from_slice(bytes))
}
