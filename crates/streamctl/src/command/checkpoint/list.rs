//! `streamctl checkpoint list`: the checkpoints of one job or of all, and which of them are complete.

use clap::Args;
use serde::Serialize;
use streamd_core::barrier::SnapshotKind;
use streamd_core::error::CodedError;
use streamd_core::id::JobId;
use streamd_snapshot::Location;
use streamd_snapshot::inspect::{Listed, Standing, list_snapshots};
use streamd_snapshot::layout::job_folder;

use crate::command::list::local_time;
use crate::failure::Failure;
use crate::location::absolute;
use crate::offline::Offline;
use crate::output::Output;

/// List checkpoints, complete ones and others
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  streamctl checkpoint list fd72014d4c864993a2e5a9287b4a9c5d
  streamctl checkpoint list s3://bucket/checkpoints --output json

A checkpoint is `complete` if a record says so and its metadata can be read. Of `subsumed` ones only files are \
left, which complete checkpoints use. `incomplete` ones have no metadata: they are being written, or were given up. Of `unrecorded` ones nobody knows whether they were completed; jobs never recover from them by themselves. \
`unreadable` ones are damaged.")]
pub struct ListCheckpointsCommand {
    /// A job, or a folder of checkpoints or savepoints [default: all in execution.checkpointing.dir]
    #[arg(value_name = "JOBID|URI")]
    place: Option<String>,
}

#[derive(Serialize)]
struct Row<'a> {
    job_id: Option<String>,
    job_name: Option<&'a str>,
    checkpoint_id: Option<u64>,
    kind: Option<SnapshotKind>,
    path: &'a str,
    triggered_at_ms: Option<i64>,
    bytes: Option<u64>,
    standing: &'static str,
    problem: Option<CodedError>,
}

impl ListCheckpointsCommand {
    /// Looks into the store and prints what is there.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        let place = match self.place.as_deref().map(|text| (text, text.parse::<JobId>())) {
            None => offline.checkpoints()?,
            Some((_text, Ok(job))) => job_folder(&offline.checkpoints()?, job)?,
            Some((text, Err(_no_id))) => Location::open(&absolute(text)?)?,
        };
        let listed = offline.wait(list_snapshots(&place))?;
        if listed.is_empty() {
            output.line(&format!("No checkpoints in {place}."))?;
        }
        for one in &listed {
            output.line(&line(one))?;
            output.object(&row(one))?;
        }
        Ok(())
    }
}

fn line(listed: &Listed) -> String {
    let triggered = listed
        .summary
        .as_ref()
        .map(|summary| local_time(summary.triggered_at.0));
    let mut line = format!("{} : {}", triggered.as_deref().unwrap_or("-"), listed.folder);
    if let Some(summary) = &listed.summary {
        line.push_str(&format!(" : {} : {} bytes", summary.job_name, summary.bytes));
    }
    line.push_str(&format!(" ({})", standing(&listed.standing)));
    if let Standing::Unreadable(error) = &listed.standing {
        line.push_str(&format!(": {}", error.to_coded().message));
    }
    line
}

fn standing(standing: &Standing) -> &'static str {
    match standing {
        Standing::Complete => "complete",
        Standing::Unrecorded => "unrecorded",
        Standing::Incomplete => "incomplete",
        Standing::Subsumed => "subsumed",
        Standing::Unreadable(_) => "unreadable",
    }
}

fn row(listed: &Listed) -> Row<'_> {
    let summary = listed.summary.as_ref();
    Row {
        job_id: listed.job_id.map(|id| id.to_string()),
        job_name: summary.map(|summary| summary.job_name.as_str()),
        checkpoint_id: listed.checkpoint_id.map(|id| id.0),
        kind: summary.map(|summary| summary.kind),
        path: &listed.folder,
        triggered_at_ms: summary.map(|summary| summary.triggered_at.0),
        bytes: summary.map(|summary| summary.bytes),
        standing: standing(&listed.standing),
        problem: match &listed.standing {
            Standing::Unreadable(error) => Some(error.to_coded()),
            Standing::Complete | Standing::Unrecorded | Standing::Incomplete | Standing::Subsumed => None,
        },
    }
}
