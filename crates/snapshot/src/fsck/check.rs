//! The report: every object below a prefix in one of four classes, and what should be there and is not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use streamd_core::barrier::SnapshotKind;
use streamd_core::id::JobId;
use streamd_core::time::WallTime;

use super::references::full_names;
use crate::completed::list_completed;
use crate::error::SnapshotError;
use crate::layout;
use crate::read::{Found, find};
use crate::store::{Location, Surveyed, SurveyedKind};

/// Snapshots that are read at once.
const READS_IN_FLIGHT: usize = 8;

/// How often the whole look is repeated where a job deletes a snapshot meanwhile. A running job deletes one per interval, so a second
/// look nearly always does.
const LOOKS: usize = 5;

/// How to look.
#[derive(Debug, Clone)]
pub struct FsckOptions {
    /// The date.
    pub now: WallTime,
    /// What is younger than this is no orphan: it may belong to a snapshot that is being written.
    pub grace: Duration,
    /// Other places whose snapshots may refer to objects below the prefix.
    pub also: Vec<Location>,
}

/// How many objects, and how many bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Objects.
    pub objects: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What was found below a prefix.
#[derive(Debug)]
pub struct FsckReport {
    /// The prefix.
    pub base: Location,
    /// The URIs of the snapshots that can be read, in order.
    pub snapshots: Vec<(SnapshotKind, String)>,
    /// What a snapshot refers to, the metadata and records themselves, and the record of whose the prefix is.
    pub reachable: Tally,
    /// Objects of streamd's names, older than the grace time, that nothing refers to.
    pub orphans: Vec<Surveyed>,
    /// The same, but younger: perhaps of a snapshot that is being written.
    pub pending: Tally,
    /// Things of other names: not streamd's, never touched.
    pub foreign: Tally,
    /// What snapshots refer to and what is not there.
    pub missing: Vec<Missing>,
    /// Snapshots and records that cannot be read.
    pub unreadable: Vec<Unreadable>,
}

/// An object that should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The snapshot that refers to it.
    pub snapshot: String,
    /// The URI of the object.
    pub object: String,
    /// The length that it should have.
    pub expected: u64,
    /// The length that it has; `None` where there is none.
    pub actual: Option<u64>,
}

/// A snapshot or record that cannot be read.
#[derive(Debug)]
pub struct Unreadable {
    /// Its URI.
    pub uri: String,
    /// Why.
    pub error: SnapshotError,
}

impl Tally {
    fn add(&mut self, length: u64) {
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(length);
    }

    /// Of all of these.
    pub fn of(found: &[Surveyed]) -> Self {
        let mut tally = Self::default();
        found.iter().for_each(|object| tally.add(object.length));
        tally
    }
}

/// Looks at everything below a prefix: a folder of checkpoints, of savepoints, of one job, or a single snapshot. Changes nothing.
///
/// Where the prefix is (within) a job's folder, the snapshots of its neighbours are read as well, since they may refer to its objects.
/// Fails only where the store cannot be listed, or never holds still.
pub async fn fsck(base: &Location, options: &FsckOptions) -> Result<FsckReport, SnapshotError> {
    for _look in 0..LOOKS {
        if let Some(report) = look(base, options).await? {
            return Ok(report);
        }
    }
    Err(SnapshotError::Malformed {
        uri: base.uri(),
        reason: format!("snapshots were deleted during each of {LOOKS} looks at it"),
    })
}

/// `None`: a snapshot vanished between listing and reading.
async fn look(base: &Location, options: &FsckOptions) -> Result<Option<FsckReport>, SnapshotError> {
    let surveyed = base.survey().await?;
    let mut places = Places::default();
    places.add(base, &surveyed)?;
    let mut elsewhere = options.also.clone();
    elsewhere.extend(around(base));
    for place in &elsewhere {
        places.add(place, &place.survey().await?)?;
    }
    let mut snapshots: BTreeMap<String, Found> = BTreeMap::new();
    let mut unreadable = places.links;
    let mut reads = futures::stream::iter(&places.snapshots)
        .map(|uri| async move { (uri, find(uri).await) })
        .buffered(READS_IN_FLIGHT);
    while let Some((uri, found)) = reads.next().await {
        match found {
            Ok(found) => drop(snapshots.insert(uri.clone(), found)),
            Err(SnapshotError::NotFound { .. } | SnapshotError::NoMetadata { .. }) => return Ok(None),
            Err(error) => unreadable.push(Unreadable {
                uri: uri.clone(),
                error,
            }),
        }
    }
    drop(reads);
    let records = read_records(&places.jobs, &snapshots, &mut unreadable).await?;
    let Some(records) = records else { return Ok(None) };
    unreadable.sort_by(|a, b| a.uri.cmp(&b.uri));
    let report = classify(base, options, surveyed, (&snapshots, records)).await?;
    Ok(Some(FsckReport { unreadable, ..report }))
}

/// Where snapshots and records were seen.
#[derive(Default)]
struct Places {
    /// The URIs of folders that hold `_metadata`.
    snapshots: BTreeSet<String>,
    /// Folders that hold records of completion, by their URIs.
    jobs: BTreeMap<String, Location>,
    /// What may hide snapshots.
    links: Vec<Unreadable>,
}

impl Places {
    fn add(&mut self, base: &Location, surveyed: &[Surveyed]) -> Result<(), SnapshotError> {
        for found in surveyed {
            let (folder, name) = found.name.rsplit_once('/').unwrap_or(("", &found.name));
            match (found.kind, name == layout::METADATA) {
                (SurveyedKind::FolderLink, _) | (SurveyedKind::Link, true) => self.links.push(link(base, &found.name)),
                (SurveyedKind::Object, true) => drop(self.snapshots.insert(below(base, folder)?.uri())),
                (SurveyedKind::Object, false) if is_record(base, folder, name) => {
                    if let Some(job) = below(base, folder)?.parent() {
                        self.jobs.insert(job.uri(), job);
                    }
                }
                (SurveyedKind::Object | SurveyedKind::Link | SurveyedKind::Other, _) => {}
            }
        }
        Ok(())
    }
}

fn link(base: &Location, name: &str) -> Unreadable {
    let uri = format!("{}/{name}", base.uri());
    let reason = "it is a symbolic link, which is not followed: what is behind it may refer to anything".to_owned();
    Unreadable {
        error: SnapshotError::Malformed {
            uri: uri.clone(),
            reason,
        },
        uri,
    }
}

/// The folder of this name below a place; the place itself where the name is empty.
fn below(base: &Location, name: &str) -> Result<Location, SnapshotError> {
    match name {
        "" => Ok(base.clone()),
        name => Ok(base.child(name)?),
    }
}

fn is_record(base: &Location, folder: &str, name: &str) -> bool {
    let folder_name = folder
        .rsplit('/')
        .next()
        .filter(|name| !name.is_empty())
        .or(base.name());
    folder_name == Some(layout::COMPLETED) && name.ends_with(".json")
}

/// The folder of checkpoints around a place within it, whose other jobs may refer to what is here.
fn around(base: &Location) -> Option<Location> {
    let is_inside = |place: &Location| {
        layout::is_checkpoint_folder(place)
            || place
                .name()
                .is_some_and(|name| name == layout::COMPLETED || name.parse::<JobId>().is_ok())
    };
    let mut top = base.clone();
    while is_inside(&top) {
        top = top.parent()?;
    }
    (top != *base).then_some(top)
}

/// The URIs of the records of completion that hold good. `None`: one vanished meanwhile.
async fn read_records(
    jobs: &BTreeMap<String, Location>,
    snapshots: &BTreeMap<String, Found>,
    unreadable: &mut Vec<Unreadable>,
) -> Result<Option<Vec<String>>, SnapshotError> {
    let mut kept = Vec::new();
    for job in jobs.values() {
        let records = match list_completed(job).await {
            Ok(records) => records,
            Err(SnapshotError::Store(crate::error::StoreError::NotFound { .. })) => return Ok(None),
            Err(error) => {
                let uri = job.child(layout::COMPLETED)?.uri();
                unreadable.push(Unreadable { uri, error });
                continue;
            }
        };
        for record in records {
            let location = job.child(&layout::completion_record(record.checkpoint_id))?;
            let folder = job.child(&record.folder)?.uri();
            kept.push(location.uri());
            if snapshots.contains_key(&folder) || unreadable.iter().any(|known| known.uri == folder) {
                continue;
            }
            if !location.exists().await? {
                return Ok(None);
            }
            let error = SnapshotError::MetadataGone { folder: folder.clone() };
            unreadable.push(Unreadable { uri: folder, error });
        }
    }
    Ok(Some(kept))
}

async fn classify(
    base: &Location,
    options: &FsckOptions,
    surveyed: Vec<Surveyed>,
    (snapshots, records): (&BTreeMap<String, Found>, Vec<String>),
) -> Result<FsckReport, SnapshotError> {
    let mut report = FsckReport {
        base: base.clone(),
        snapshots: Vec::new(),
        reachable: Tally::default(),
        orphans: Vec::new(),
        pending: Tally::default(),
        foreign: Tally::default(),
        missing: Vec::new(),
        unreadable: Vec::new(),
    };
    let lengths = lengths(base, &surveyed);
    let mut reachable: BTreeSet<String> = records.into_iter().collect();
    for (uri, found) in snapshots {
        let is_here = *uri == base.uri() || uri.starts_with(&format!("{}/", base.uri()));
        let names = full_names(found)?;
        if is_here {
            report.snapshots.push((found.metadata.kind, uri.clone()));
            for (object, handle) in &names {
                report
                    .missing
                    .extend(missing(uri, object, handle.length, &lengths).await?);
            }
        }
        reachable.insert(found.folder.child(layout::METADATA)?.uri());
        reachable.extend(names.into_iter().map(|(object, _handle)| object));
    }
    let grace = i64::try_from(options.grace.as_millis()).unwrap_or(i64::MAX);
    let youngest = WallTime(options.now.0.saturating_sub(grace));
    for found in surveyed {
        let uri = base.child(&found.name).map(|location| location.uri());
        if uri.is_ok_and(|uri| reachable.contains(&uri)) || found.name == layout::CLAIM {
            report.reachable.add(found.length);
        } else if found.kind != SurveyedKind::Object || !is_ours(base, &found.name) {
            report.foreign.add(found.length);
        } else if found.modified > youngest {
            report.pending.add(found.length);
        } else {
            report.orphans.push(found);
        }
    }
    Ok(report)
}

fn lengths(base: &Location, surveyed: &[Surveyed]) -> BTreeMap<String, u64> {
    let objects = surveyed.iter().filter(|found| found.kind == SurveyedKind::Object);
    objects
        .filter_map(|found| Some((base.child(&found.name).ok()?.uri(), found.length)))
        .collect()
}

/// What is wrong with an object of a snapshot. What a listing does not show may be there all the same: it is looked at.
async fn missing(
    snapshot: &str,
    object: &str,
    expected: u64,
    lengths: &BTreeMap<String, u64>,
) -> Result<Option<Missing>, SnapshotError> {
    let actual = match lengths.get(object) {
        Some(length) => Some(*length),
        None => Location::open(object)?.head().await?,
    };
    Ok((actual != Some(expected)).then(|| Missing {
        snapshot: snapshot.to_owned(),
        object: object.to_owned(),
        expected,
        actual,
    }))
}

/// Whether streamd makes such names: in the folder of a checkpoint or savepoint, or a record of completion. Everything else was put
/// there by somebody else.
fn is_ours(base: &Location, name: &str) -> bool {
    let segments: Vec<&str> = base.name().into_iter().chain(name.split('/')).collect();
    let (folders, file) = segments.split_at(segments.len() - 1);
    // The folder of a job may have been renamed, but then it is what was asked for.
    let is_in_job = |at: usize| at <= 1 || folders[at - 1].parse::<JobId>().is_ok();
    folders.iter().enumerate().any(|(at, folder)| {
        let is_last = at + 1 == folders.len();
        layout::is_savepoint_name(folder)
            || (layout::checkpoint_number(folder).is_some() && is_in_job(at))
            || (*folder == layout::COMPLETED && is_last && is_in_job(at) && file[0].contains(".json"))
    })
}
