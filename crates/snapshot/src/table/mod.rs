//! The open form of savepoints: Parquet tables with typed columns, readable without any code of streamd.
//!
//! ```text
//!   encoded rows ──▶ ColumnBuilder ──▶ Arrow batches ──▶ Parquet row groups, by other threads ──▶ object
//!   encoded rows ──▶ Leaf ──▶ Parquet pages, where no value of a column may be absent or repeated ──▶ object
//!   encoded rows ◀── ColumnReader  ◀── Arrow batch ◀── wanted row groups  ◀── object, digest checked
//! ```
//!
//! Keyed state: one file per operator, state and subtask, with the columns `key_group`, `key` and `value`, sorted by key group;
//! row groups are small, so that a restore skips those that it does not want. Operator state: one file per operator and state,
//! with `position` and `value`. Specified in `docs/reference/savepoint-format.md`.
//!
//! Reading order: `types` (how a schema becomes Arrow's), `build` and `rows` (values in and out), `row_group`, `file` (a Parquet file),
//! `leaf`, `page`, `plain` (one of simple columns), `keyed`, `reader`, `list`.

mod build;
mod export;
mod file;
mod forged;
mod keyed;
mod leaf;
mod list;
mod page;
mod plain;
mod reader;
mod row_group;
mod rows;
mod types;

pub(crate) use export::{ExportTable, TableColumns};
pub(crate) use forged::read_forged;
pub(crate) use keyed::SavepointWriter;
pub(crate) use list::{read_list, write_list};
pub(crate) use reader::{read_table, unpack_table};
pub use types::check_type;

/// The version of the savepoint form that this build writes.
pub const TABLE_VERSION: u32 = 1;
