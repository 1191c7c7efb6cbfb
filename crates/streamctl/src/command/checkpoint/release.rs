//! `streamctl checkpoint release`: taking a folder of checkpoints from the cluster that has it.

use clap::Args;
use serde::Serialize;
use streamd_snapshot::{Location, claim_of, release_folder};

use crate::failure::Failure;
use crate::location::absolute;
use crate::offline::{Offline, confirm};
use crate::output::Output;

/// Take a folder of checkpoints from the cluster that has it
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl checkpoint release s3://bucket/checkpoints --yes

A cluster writes and deletes in its folder of checkpoints by itself, so that a second cluster with the same folder is refused [SD-0521]. \
When the first is gone for good, or has lost its high-availability.storageDir, this lets another have the folder. Only the record of \
whose the folder is goes; every checkpoint stays. While the first cluster still runs, give each a folder of its own instead.")]
pub struct ReleaseCommand {
    /// The folder: what `execution.checkpointing.dir` names
    #[arg(value_name = "URI")]
    folder: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Serialize)]
struct Released<'a> {
    folder: &'a str,
    released: bool,
    /// Where the cluster that had it keeps its records.
    storage: Option<&'a str>,
}

impl ReleaseCommand {
    /// Says whose the folder is, and takes it.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        let folder = Location::open(&absolute(&self.folder)?)?;
        let uri = folder.uri();
        let Some(claim) = offline.wait(claim_of(&folder))? else {
            output.line(&format!("{uri} belongs to no cluster."))?;
            return output.object(&Released {
                folder: &uri,
                released: false,
                storage: None,
            });
        };
        let storage = &claim.storage;
        confirm(
            &format!("Take {uri} from the cluster of {storage}, which must not run any more?"),
            self.yes,
        )?;
        offline.wait(release_folder(&folder))?;
        output.line(&format!("Released {uri}, which belonged to the cluster of {storage}."))?;
        output.object(&Released {
            folder: &uri,
            released: true,
            storage: Some(storage),
        })
    }
}
