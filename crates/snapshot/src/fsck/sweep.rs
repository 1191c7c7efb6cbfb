//! Taking orphans away, and the folders that they leave empty.

use std::collections::BTreeSet;

use futures::{StreamExt, TryStreamExt};
use streamd_core::error::{CodedError, ErrorCode, chain};

use super::check::{FsckReport, Tally};
use crate::error::StoreError;
use crate::store::Location;

/// Deletes under way at once.
const DELETES_IN_FLIGHT: usize = 16;

/// What was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// The orphans.
    pub deleted: Tally,
}

/// Why orphans stay.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A snapshot that cannot be read may refer to any of them.
    #[error("nothing below `{base}` is deleted while {count} of its snapshots cannot be read: {first}")]
    Unreadable {
        /// The prefix.
        base: String,
        /// How many.
        count: usize,
        /// What is wrong with the first.
        first: String,
    },
    /// The store refused, midway: the report may be made anew and swept again.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SweepError {
    /// The error for a person.
    pub fn to_coded(&self) -> CodedError {
        match self {
            Self::Unreadable { .. } => CodedError::new(ErrorCode::OrphansUnknown, chain(self)).with_hint(
                "put the damaged snapshots right, or move their folders away if you are sure that nothing needs them",
            ),
            Self::Store(error) => error.to_coded(),
        }
    }
}

/// Deletes the orphans of a report, and then the folders that are empty for it. May be repeated.
pub async fn sweep(report: &FsckReport) -> Result<Swept, SweepError> {
    if let Some(first) = report.unreadable.first() {
        return Err(SweepError::Unreadable {
            base: report.base.uri(),
            count: report.unreadable.len(),
            first: chain(&first.error),
        });
    }
    futures::stream::iter(&report.orphans)
        .map(|orphan| report.base.delete_surveyed(orphan))
        .buffer_unordered(DELETES_IN_FLIGHT)
        .try_collect::<Vec<()>>()
        .await?;
    for folder in emptied(report) {
        folder.remove_if_empty().await?;
    }
    Ok(Swept {
        deleted: Tally::of(&report.orphans),
    })
}

/// The folders that orphans were in, the innermost first; not the prefix itself.
fn emptied(report: &FsckReport) -> Vec<Location> {
    let mut folders = BTreeSet::new();
    for orphan in &report.orphans {
        let mut name = orphan.name.as_str();
        while let Some((folder, _name)) = name.rsplit_once('/') {
            folders.insert(folder);
            name = folder;
        }
    }
    // A folder's name is a prefix of those within it, so it sorts before them.
    let innermost_first = folders.into_iter().rev();
    innermost_first
        .filter_map(|name| report.base.child(name).ok())
        .collect()
}
