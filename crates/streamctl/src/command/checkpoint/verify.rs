//! `streamctl checkpoint verify`, `savepoint verify`: whether a snapshot is whole.

use clap::Args;
use serde::Serialize;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_snapshot::inspect::{self, verify_snapshot};

use crate::failure::Failure;
use crate::location::absolute;
use crate::offline::{Offline, counted};
use crate::output::Output;

/// Read all of a snapshot and check every byte of it
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl checkpoint verify /data/checkpoints/fd72014d4c864993a2e5a9287b4a9c5d/chk-17

Every object is read and its digest compared, every row decoded and found in its key group. Ends with exit code 7 where anything is \
missing, truncated or altered, and names each such object.")]
pub struct VerifyCommand {
    /// The snapshot: its folder or its `_metadata` file
    #[arg(value_name = "PATH")]
    path: String,
}

#[derive(Serialize)]
struct Verified<'a> {
    path: &'a str,
    whole: bool,
    objects: u64,
    bytes: u64,
    rows: u64,
    undecoded_states: &'a [String],
    damages: Vec<Damaged<'a>>,
}

#[derive(Serialize)]
struct Damaged<'a> {
    object: &'a str,
    problem: CodedError,
}

impl VerifyCommand {
    /// Reads the snapshot and prints what is wrong with it.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        let verified = verify_snapshot(&absolute(&self.path)?, offline.handle())?;
        let damages: Vec<Damaged<'_>> = verified
            .damages
            .iter()
            .map(|damage| Damaged {
                object: &damage.object,
                problem: damage.error.to_coded(),
            })
            .collect();
        print(&verified, &damages, output)?;
        let count = damages.len() as u64;
        output.object(&Verified {
            path: &verified.folder,
            whole: count == 0,
            objects: verified.objects,
            bytes: verified.bytes,
            rows: verified.rows,
            undecoded_states: &verified.undecoded,
            damages,
        })?;
        match count {
            0 => Ok(()),
            count => Err(not_whole(&verified.folder, count).into()),
        }
    }
}

fn print(verified: &inspect::Verified, damages: &[Damaged<'_>], output: &mut Output) -> Result<(), Failure> {
    for Damaged { object, problem } in damages {
        output.line(&format!("damaged: {object}: {}", problem.message))?;
    }
    if !verified.undecoded.is_empty() {
        output.note(&format!(
            "the rows of these states are in files of RocksDB: their bytes were checked, but not decoded: {}",
            verified.undecoded.join(", ")
        ));
    }
    if damages.is_empty() {
        output.line(&format!(
            "{} is whole: {}, {} bytes, {}.",
            verified.folder,
            counted(verified.objects, "object", "objects"),
            verified.bytes,
            counted(verified.rows, "row", "rows")
        ))?;
    }
    Ok(())
}

fn not_whole(folder: &str, damages: u64) -> CodedError {
    let found = counted(damages, "damage was", "damages were");
    let message = format!("snapshot `{folder}` is not whole: {found} found");
    CodedError::new(ErrorCode::SnapshotCorrupt, message)
        .with_hint("copy the snapshot again from where it is whole, or use another one")
}
