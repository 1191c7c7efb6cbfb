//! `streamctl state list`: the operators of a snapshot and their states, with their types.

use clap::Args;
use serde::Serialize;
use streamd_core::row::DataType;
use streamd_snapshot::inspect::states_of;
use streamd_snapshot::read_snapshot;

use crate::command::checkpoint::summary;
use crate::failure::Failure;
use crate::location::absolute;
use crate::offline::Offline;
use crate::output::Output;

/// List the states in a snapshot, with their types and sizes
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl state list /data/savepoints/savepoint-fd7201-0123456789ab --output json")]
pub struct ListStatesCommand {
    /// The snapshot: its folder or its `_metadata` file
    #[arg(value_name = "PATH")]
    path: String,
}

#[derive(Serialize)]
struct Row<'a> {
    operator: String,
    operator_id: String,
    uid: Option<&'a str>,
    state: &'a str,
    kind: &'static str,
    key_type: Option<String>,
    namespace_type: Option<String>,
    value_type: String,
    key_schema: Option<&'a DataType>,
    namespace_schema: Option<&'a DataType>,
    value_schema: &'a DataType,
    rows: u64,
    bytes: u64,
}

impl ListStatesCommand {
    /// Reads the metadata and prints the states.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        let stored = offline.wait(read_snapshot(&absolute(&self.path)?))?;
        for operator in &stored.metadata.operators {
            let label = operator.label();
            output.line(&format!("Operator {label} ({})", operator.name))?;
            for state in states_of(&stored, operator) {
                output.line(&format!("  {}", summary(&state)))?;
                output.object(&Row {
                    operator: label.clone(),
                    operator_id: operator.id.to_string(),
                    uid: operator.uid.as_deref(),
                    state: state.name,
                    kind: state.kind,
                    key_type: state.key.map(ToString::to_string),
                    namespace_type: state.namespace.map(ToString::to_string),
                    value_type: state.value.to_string(),
                    key_schema: state.key,
                    namespace_schema: state.namespace,
                    value_schema: state.value,
                    rows: state.rows,
                    bytes: state.bytes,
                })?;
            }
        }
        Ok(())
    }
}
