//! `streamctl checkpoint show`, `savepoint show`: what is in a snapshot.

use clap::Args;
use serde::Serialize;
use streamd_core::barrier::SnapshotKind;
use streamd_core::snapshot::OperatorState;
use streamd_snapshot::inspect::{StateSummary, outside, states_of};
use streamd_snapshot::json::Renderer;
use streamd_snapshot::{SnapshotError, StoredSnapshot, read_snapshot};

use crate::command::list::local_time;
use crate::failure::Failure;
use crate::location::absolute;
use crate::offline::{Offline, counted};
use crate::output::Output;

/// Elements of a list that are shown: positions of sources are few, prepared commits may be many.
const SHOWN_ELEMENTS: usize = 100;

/// Show what is in a snapshot: operators, states, positions of sources
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl checkpoint show /data/checkpoints/fd72014d4c864993a2e5a9287b4a9c5d/chk-17 --output json

Of lists, such as the positions of a source, the first 100 elements are shown.")]
pub struct ShowCommand {
    /// The snapshot: its folder or its `_metadata` file
    #[arg(value_name = "PATH")]
    path: String,
}

#[derive(Serialize)]
struct Snapshot<'a> {
    path: &'a str,
    kind: SnapshotKind,
    job_id: String,
    job_name: &'a str,
    checkpoint_id: u64,
    triggered_at_ms: i64,
    format_version: u32,
    bytes: u64,
    operators: Vec<Operator<'a>>,
    outside: Vec<String>,
}

#[derive(Serialize)]
struct Operator<'a> {
    id: String,
    uid: Option<&'a str>,
    name: &'a str,
    parallelism: u32,
    max_parallelism: u32,
    states: Vec<State<'a>>,
}

#[derive(Serialize)]
struct State<'a> {
    name: &'a str,
    kind: &'static str,
    key_type: Option<String>,
    namespace_type: Option<String>,
    value_type: String,
    rows: u64,
    bytes: u64,
    parts: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    elements: Vec<serde_json::Value>,
}

impl ShowCommand {
    /// Reads the metadata and prints it.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        let stored = offline.wait(read_snapshot(&absolute(&self.path)?))?;
        let outside = outside(&stored)?;
        print(&stored, &outside, output)?;
        output.object(&object(&stored, outside)?)
    }
}

fn print(stored: &StoredSnapshot, outside: &[String], output: &mut Output) -> Result<(), Failure> {
    let metadata = &stored.metadata;
    let kind = match metadata.kind {
        SnapshotKind::Checkpoint => "Checkpoint",
        SnapshotKind::Savepoint => "Savepoint",
    };
    output.line(&format!(
        "{kind} {} of job {} ({})",
        metadata.checkpoint_id, metadata.job_id, metadata.graph.name
    ))?;
    output.line(&format!("  Path: {}", stored.folder))?;
    output.line(&format!("  Triggered: {}", local_time(metadata.triggered_at.0)))?;
    output.line(&format!(
        "  Size: {} bytes, format version {}",
        stored.bytes, stored.version
    ))?;
    match outside.len() as u64 {
        0 => output.line("  Self-contained: it refers to nothing outside its folder")?,
        count => output.line(&format!(
            "  Refers to {} outside its folder:",
            counted(count, "object", "objects")
        ))?,
    }
    for uri in outside {
        output.line(&format!("    {uri}"))?;
    }
    for operator in &metadata.operators {
        print_operator(stored, operator, output)?;
    }
    Ok(())
}

fn print_operator(stored: &StoredSnapshot, operator: &OperatorState, output: &mut Output) -> Result<(), Failure> {
    output.line(&format!(
        "  Operator {} ({}): parallelism {}, max parallelism {}",
        operator.label(),
        operator.name,
        operator.parallelism,
        operator.max_parallelism
    ))?;
    for state in states_of(stored, operator) {
        output.line(&format!("    {}", summary(&state)))?;
        let elements = elements(operator, &state)?;
        for element in &elements {
            output.line(&format!("      {element}"))?;
        }
        if state.key.is_none() && state.rows > elements.len() as u64 {
            output.line(&format!("      … and {} more", state.rows - elements.len() as u64))?;
        }
    }
    Ok(())
}

/// A state on one line.
pub fn summary(state: &StateSummary<'_>) -> String {
    let types = match (state.key, state.namespace) {
        (Some(key), Some(namespace)) => format!("{key}, {namespace} -> {}", state.value),
        (Some(key), None) => format!("{key} -> {}", state.value),
        (None, _) => state.value.to_string(),
    };
    let rows = match state.key {
        Some(_) => counted(state.rows, "row", "rows"),
        None => counted(state.rows, "element", "elements"),
    };
    format!(
        "{} `{}`: {types}, {rows}, {} bytes",
        state.kind, state.name, state.bytes
    )
}

/// The first elements of a list, as JSON.
fn elements(operator: &OperatorState, state: &StateSummary<'_>) -> Result<Vec<String>, Failure> {
    let Some(list) = operator
        .lists
        .iter()
        .find(|list| state.key.is_none() && list.name == state.name)
    else {
        return Ok(Vec::new());
    };
    let renderer = Renderer::new(&list.data_type);
    let rendered = list.items.iter().take(SHOWN_ELEMENTS).map(|item| {
        renderer.render(item).map_err(|source| {
            Failure::from(SnapshotError::Row {
                state: list.name.clone(),
                source,
            })
        })
    });
    rendered.collect()
}

fn object(stored: &StoredSnapshot, outside: Vec<String>) -> Result<Snapshot<'_>, Failure> {
    let metadata = &stored.metadata;
    let operators = metadata.operators.iter().map(|operator| {
        let states = states_of(stored, operator).into_iter().map(|state| {
            let elements = elements(operator, &state)?;
            let values = elements
                .iter()
                .map(|text| serde_json::from_str(text).unwrap_or_default());
            Ok(State {
                name: state.name,
                kind: state.kind,
                key_type: state.key.map(ToString::to_string),
                namespace_type: state.namespace.map(ToString::to_string),
                value_type: state.value.to_string(),
                rows: state.rows,
                bytes: state.bytes,
                parts: state.parts,
                elements: values.collect(),
            })
        });
        Ok(Operator {
            id: operator.id.to_string(),
            uid: operator.uid.as_deref(),
            name: &operator.name,
            parallelism: operator.parallelism,
            max_parallelism: operator.max_parallelism,
            states: states.collect::<Result<_, Failure>>()?,
        })
    });
    Ok(Snapshot {
        path: &stored.folder,
        kind: metadata.kind,
        job_id: metadata.job_id.to_string(),
        job_name: &metadata.graph.name,
        checkpoint_id: metadata.checkpoint_id.0,
        triggered_at_ms: metadata.triggered_at.0,
        format_version: stored.version,
        bytes: stored.bytes,
        operators: operators.collect::<Result<_, Failure>>()?,
        outside,
    })
}
