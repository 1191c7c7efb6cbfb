//! `streamctl fsck`: what below a prefix is reachable from a snapshot, what is an orphan, what is missing.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::time::{Clock, SystemClock};
use streamd_snapshot::fsck::{Tally, fsck, sweep};
use streamd_snapshot::{FsckOptions, FsckReport, Location, SnapshotError};

use crate::arguments::duration;
use crate::failure::Failure;
use crate::location::absolute;
use crate::offline::{Effect, Offline, counted};
use crate::output::Output;

/// Find orphans and missing objects among snapshots
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  streamctl fsck /data/checkpoints --verbose
  streamctl fsck s3://bucket/checkpoints --delete-orphans --older-than 7d --yes

An orphan has a name that streamd makes, nothing refers to it, and it is older than --older-than: younger ones may belong to a snapshot \
that is being written. Other files are counted as foreign and never touched. Nothing is deleted while any snapshot there cannot be \
read, and symbolic links are not followed. Ends with exit code 7 where something is missing or unreadable.")]
pub struct FsckCommand {
    /// A folder of checkpoints or savepoints, a job's, or a snapshot
    #[arg(value_name = "URI")]
    place: String,
    /// Print every object that is not reachable, not only how many there are
    #[arg(short, long)]
    verbose: bool,
    /// Delete the orphans; only says what it would delete unless --yes is given
    #[arg(long)]
    delete_orphans: bool,
    /// Really delete
    #[arg(short, long, requires = "delete_orphans")]
    yes: bool,
    /// How old an orphan is at least
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "1d")]
    older_than: Duration,
    /// Another place whose snapshots may refer to objects here; may be repeated
    #[arg(long, value_name = "URI")]
    also: Vec<String>,
}

#[derive(Serialize)]
struct Object<'a> {
    class: &'static str,
    path: String,
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<CodedError>,
}

#[derive(Serialize)]
struct Summary<'a> {
    class: &'static str,
    path: &'a str,
    snapshots: usize,
    reachable: Counts,
    orphan: Counts,
    pending: Counts,
    foreign: Counts,
    missing: u64,
    unreadable: u64,
    deleted: Option<Counts>,
}

#[derive(Serialize, Clone, Copy)]
struct Counts {
    objects: u64,
    bytes: u64,
}

impl From<Tally> for Counts {
    fn from(Tally { objects, bytes }: Tally) -> Self {
        Self { objects, bytes }
    }
}

impl FsckCommand {
    /// What is left where it is given up.
    pub fn effect(&self) -> Effect {
        match self.delete_orphans && self.yes {
            true => Effect::Perhaps,
            false => Effect::None,
        }
    }

    /// Looks, prints, and deletes if it is told to.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        let base = Location::open(&absolute(&self.place)?)?;
        if base.local_path().is_some_and(|path| !path.exists()) {
            // Nothing below a mistyped path is not all being well.
            return Err(SnapshotError::NotFound { uri: base.uri() }.into());
        }
        let also = self.also.iter().map(|place| Ok(Location::open(&absolute(place)?)?));
        let options = FsckOptions {
            now: SystemClock::new().wall(),
            grace: self.older_than,
            also: also.collect::<Result<_, Failure>>()?,
        };
        let report = offline.wait(fsck(&base, &options))?;
        if self.verbose || self.delete_orphans {
            print_orphans(&report, output)?;
        }
        print_problems(&report, output)?;
        print_counts(&report, output)?;
        let deleted = match self.delete_orphans && self.yes {
            true => Some(offline.wait(sweep(&report))?.deleted),
            false => None,
        };
        let base = base.uri();
        output.object(&summary(&report, &base, deleted))?;
        match deleted {
            Some(deleted) => output.line(&format!(
                "Deleted {}, {} bytes.",
                counted(deleted.objects, "orphan", "orphans"),
                deleted.bytes
            ))?,
            None if self.delete_orphans => {
                output.note("nothing was deleted: this was a dry run; give --yes to delete the orphans");
            }
            None => {}
        }
        outcome(&report, &base)
    }
}

fn print_orphans(report: &FsckReport, output: &mut Output) -> Result<(), Failure> {
    for orphan in &report.orphans {
        let path = format!("{}/{}", report.base, orphan.name);
        output.line(&format!("orphan: {path} ({} bytes)", orphan.length))?;
        output.object(&Object {
            class: "orphan",
            path,
            bytes: Some(orphan.length),
            snapshot: None,
            expected_bytes: None,
            problem: None,
        })?;
    }
    Ok(())
}

/// What is missing or unreadable is always told: it is never normal.
fn print_problems(report: &FsckReport, output: &mut Output) -> Result<(), Failure> {
    for missing in &report.missing {
        let found = match missing.actual {
            Some(actual) => format!("has {actual} bytes instead of {}", missing.expected),
            None => "does not exist".to_owned(),
        };
        output.line(&format!(
            "missing: {} {found}; {} refers to it",
            missing.object, missing.snapshot
        ))?;
        output.object(&Object {
            class: "missing",
            path: missing.object.clone(),
            bytes: missing.actual,
            snapshot: Some(&missing.snapshot),
            expected_bytes: Some(missing.expected),
            problem: None,
        })?;
    }
    for unreadable in &report.unreadable {
        let problem = unreadable.error.to_coded();
        output.line(&format!("unreadable: {}: {}", unreadable.uri, problem.message))?;
        output.object(&Object {
            class: "unreadable",
            path: unreadable.uri.clone(),
            bytes: None,
            snapshot: None,
            expected_bytes: None,
            problem: Some(problem),
        })?;
    }
    Ok(())
}

fn print_counts(report: &FsckReport, output: &mut Output) -> Result<(), Failure> {
    output.line(&format!(
        "Below {}: {}",
        report.base,
        counted(report.snapshots.len() as u64, "snapshot", "snapshots")
    ))?;
    for (class, tally) in [
        ("reachable", report.reachable),
        ("orphan", Tally::of(&report.orphans)),
        ("pending", report.pending),
        ("foreign", report.foreign),
    ] {
        output.line(&format!(
            "  {class:<10}: {}, {} bytes",
            counted(tally.objects, "object", "objects"),
            tally.bytes
        ))?;
    }
    for (class, count) in [
        ("missing", report.missing.len()),
        ("unreadable", report.unreadable.len()),
    ] {
        output.line(&format!("  {class:<10}: {count}"))?;
    }
    Ok(())
}

fn summary<'a>(report: &FsckReport, base: &'a str, deleted: Option<Tally>) -> Summary<'a> {
    Summary {
        class: "summary",
        path: base,
        snapshots: report.snapshots.len(),
        reachable: report.reachable.into(),
        orphan: Tally::of(&report.orphans).into(),
        pending: report.pending.into(),
        foreign: report.foreign.into(),
        missing: report.missing.len() as u64,
        unreadable: report.unreadable.len() as u64,
        deleted: deleted.map(Counts::from),
    }
}

fn outcome(report: &FsckReport, base: &str) -> Result<(), Failure> {
    let (missing, unreadable) = (report.missing.len() as u64, report.unreadable.len() as u64);
    if missing == 0 && unreadable == 0 {
        return Ok(());
    }
    let message = format!(
        "in or beside `{base}` {} and {} unreadable",
        counted(missing, "object is missing", "objects are missing"),
        counted(unreadable, "snapshot or record is", "snapshots or records are"),
    );
    Err(CodedError::new(ErrorCode::SnapshotCorrupt, message)
        .with_hint("verify the snapshots that are named above, and copy them again from where they are whole")
        .into())
}
