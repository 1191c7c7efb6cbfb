//! `streamctl state export`: states as files of their own.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;
use streamd_core::snapshot::OperatorState;
use streamd_snapshot::inspect::{
    ExportFormat, StateContents, export_file, export_state, find_operator, find_state, states_of,
};
use streamd_snapshot::{StoredSnapshot, read_snapshot};

use crate::failure::Failure;
use crate::location::absolute;
use crate::offline::{Offline, counted};
use crate::output::Output;

/// Write states to files: JSON lines, CSV or Parquet
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  streamctl state export /data/savepoints/savepoint-fd7201-0123456789ab counts count --format csv --to /tmp/counts
  streamctl state export /data/checkpoints/fd72014d4c864993a2e5a9287b4a9c5d/chk-17 --format parquet --to /tmp/all

Each state gets a file <DIR>/<operator>/<state>.{jsonl,csv,parquet}. Existing files are never overwritten. Lines of JSON can be \
changed and given to `state edit --from`.")]
pub struct ExportStateCommand {
    /// The snapshot: its folder or its `_metadata` file
    #[arg(value_name = "PATH")]
    path: String,
    /// The operator: its uid, its id of 32 digits, or its name [default: all]
    #[arg(value_name = "UID")]
    operator: Option<String>,
    /// The state [default: all]
    #[arg(value_name = "STATE")]
    state: Option<String>,
    /// How the rows are written
    #[arg(short, long, value_enum, default_value = "json")]
    format: Format,
    /// The directory that the files go to
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// One JSON object a line
    Json,
    /// With a line of headings
    Csv,
    /// Typed columns
    Parquet,
}

#[derive(Serialize)]
struct Row<'a> {
    operator: &'a str,
    state: &'a str,
    path: String,
    rows: u64,
    bytes: u64,
}

impl ExportStateCommand {
    /// Writes one file after the other.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        let stored = offline.wait(read_snapshot(&absolute(&self.path)?))?;
        let operators: Vec<&OperatorState> = match &self.operator {
            Some(operator) => vec![find_operator(&stored, operator)?],
            None => stored.metadata.operators.iter().collect(),
        };
        for operator in operators {
            match &self.state {
                Some(state) => self.export(&stored, operator, state, (offline, output))?,
                None => {
                    for state in states_of(&stored, operator) {
                        self.export(&stored, operator, state.name, (offline, output))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn export(
        &self,
        stored: &StoredSnapshot,
        operator: &OperatorState,
        state: &str,
        (offline, output): (&Offline, &mut Output),
    ) -> Result<(), Failure> {
        let contents: StateContents<'_> = find_state(stored, operator, Some(state))?;
        let format = match self.format {
            Format::Json => ExportFormat::Json,
            Format::Csv => ExportFormat::Csv,
            Format::Parquet => ExportFormat::Parquet,
        };
        let file = export_file(&contents, format, &self.to);
        let exported = export_state(&contents, format, &file, offline.handle())?;
        let (path, operator) = (exported.path.display().to_string(), operator.label());
        output.line(&format!(
            "Exported state `{state}` of {operator}: {} to {path}",
            counted(exported.rows, "row", "rows")
        ))?;
        output.object(&Row {
            operator: &operator,
            state,
            path,
            rows: exported.rows,
            bytes: exported.bytes,
        })
    }
}
