//! Parquet: records as rows of typed columns, read and written by serde.
//!
//! ```text
//!   record type ──traced by its Deserialize──▶ schema ──▶ columns ◀── Serialize ── records ──▶ row groups ──▶ file
//!   file ──▶ row groups (splits) ──▶ batches of columns ──▶ cells ── Deserialize ──▶ records
//! ```
//!
//! | Rust | column | read also from |
//! |---|---|---|
//! | `bool` | boolean | |
//! | `i8` … `i64`, `u8` … `u64` | integer of that width | any other integer that fits; dates, times and timestamps as their number of units |
//! | `f32`, `f64` | float, double | integers |
//! | `String`, `char`, enums without fields | string | |
//! | bytes (`serde_bytes`) | binary | binary of fixed length |
//! | `Option<T>` | a column that may be null | |
//! | `Vec<T>`, arrays | list | |
//! | maps | map | |
//! | structs | struct | |
//! | tuples | struct with the fields `f0`, `f1`, … | any struct, by position |
//!
//! Enums with fields have no columns. Columns that the record type does not name are not read.
//!
//! Reading order: `schema` (what columns a type has), `column` (records to columns), `cell` (columns to records), [`Parquet`] (the
//! source's format), [`ParquetParts`] (the sink's).

mod schema;

mod cell;
mod column;

mod format;
mod parts;

pub use format::{Parquet, ParquetDecoder};
pub use parts::ParquetParts;

#[cfg(test)]
mod tests;
