//! A table for people: the columns of a savepoint's table, in a file of their own.

use std::io::Write;

use streamd_core::row::DataType;

use super::file::{AddError, Description, Lead, TableFile};
use super::keyed::failed;
use super::types::check_type;
use crate::error::SnapshotError;

/// What is in a table.
pub(crate) struct TableColumns<'a> {
    /// The operator's uid, or its name and id.
    pub operator: &'a str,
    /// The name of the state.
    pub state: &'a str,
    /// Whether the rows begin with their key group; else with their position.
    pub is_keyed: bool,
    /// Name and type of each column but the first.
    pub columns: &'a [(&'a str, &'a DataType)],
}

/// A table that is being written.
pub(crate) struct ExportTable<W: Write + Send> {
    file: TableFile<W>,
    rows: u64,
    state: String,
    uri: String,
}

impl<W: Write + Send> ExportTable<W> {
    /// A table that goes to `out`; `uri` is for messages.
    pub(crate) fn new(table: &TableColumns<'_>, uri: &str, out: W) -> Result<Self, SnapshotError> {
        for (_name, data_type) in table.columns {
            check_type(table.state, data_type)?;
        }
        let lead = match table.is_keyed {
            true => Lead::KeyGroup,
            false => Lead::Position,
        };
        let description = Description {
            operator: table.operator,
            state: table.state,
            columns: table.columns,
        };
        let file = TableFile::new(lead, &description, out).map_err(|source| failed(uri, source))?;
        Ok(Self {
            file,
            rows: 0,
            state: table.state.to_owned(),
            uri: uri.to_owned(),
        })
    }

    /// Adds a row: one encoded value per column.
    pub(crate) fn add(&mut self, lead: i64, values: &[&[u8]]) -> Result<(), SnapshotError> {
        self.rows += 1;
        self.file.add(lead, values).map_err(|error| match error {
            AddError::Row(source) => SnapshotError::Row {
                state: self.state.clone(),
                source,
            },
            AddError::File(source) => failed(&self.uri, source),
            AddError::Store(source) => source.into(),
        })
    }

    /// Ends the table; returns how many rows it has, and where it went.
    pub(crate) fn finish(self) -> Result<(u64, W), SnapshotError> {
        let Self { file, rows, uri, .. } = self;
        Ok((rows, file.finish().map_err(|source| failed(&uri, source))?))
    }
}
