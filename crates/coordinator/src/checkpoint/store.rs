//! The completed checkpoints of a job, and which of them can go.

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::graph::ExternalizedCheckpointRetention;
use streamd_core::id::CheckpointId;
use streamd_core::snapshot::SnapshotMetadata;

use crate::lifecycle::JobState;
use crate::restore::absolute;

/// A snapshot folder that is to be deleted.
pub type Discarded = (CheckpointId, String);

/// What can go of the checkpoints that were subsumed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Nothing refers into their folders any more: all of them.
    pub unneeded: Vec<Discarded>,
    /// Others refer to some of their objects: all but those. What they refer to themselves may be gone.
    pub partly_needed: Vec<PartlyNeeded>,
}

/// A subsumed checkpoint that is one no more, and holds objects that others refer to.
#[derive(Debug, PartialEq, Eq)]
pub struct PartlyNeeded {
    /// Which.
    pub checkpoint: CheckpointId,
    /// The URI of its folder.
    pub location: String,
    /// The URIs of its objects that nothing refers to any more. Each is told of once.
    pub unneeded: Vec<String>,
}

/// A checkpoint that this job completed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedCheckpoint {
    /// The URI of its folder.
    pub location: String,
    /// Bytes of its metadata and of all objects that it refers to.
    pub bytes: u64,
    /// Milliseconds from trigger to completion.
    pub duration_ms: u64,
    /// What it consists of.
    pub objects: Objects,
}

/// The objects of a checkpoint that are files, as URIs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    /// Those in its own folder.
    pub own: BTreeSet<String>,
    /// Those of earlier checkpoints that it refers to.
    pub elsewhere: BTreeSet<String>,
}

impl Objects {
    /// The objects of a snapshot whose folder is `folder`.
    pub fn of(metadata: &SnapshotMetadata, folder: &str) -> Self {
        let handles = metadata.operators.iter().flat_map(|operator| &operator.keyed);
        let files = handles
            .flat_map(|handle| &handle.objects)
            .filter(|object| object.inline.is_none());
        let mut objects = Self::default();
        for file in files {
            let uri = absolute(folder, &file.path);
            match file.is_elsewhere() {
                true => objects.elsewhere.insert(uri),
                false => objects.own.insert(uri),
            };
        }
        objects
    }

    /// Takes out its own objects that none of the others refers to.
    fn keep_only(&mut self, others: &[&Self]) -> Vec<String> {
        let is_needed = |object: &String| others.iter().any(|other| other.elsewhere.contains(object));
        let (needed, unneeded): (BTreeSet<String>, BTreeSet<String>) =
            std::mem::take(&mut self.own).into_iter().partition(is_needed);
        self.own = needed;
        unneeded.into_iter().collect()
    }

    /// Whether it refers to an object in or below a folder.
    pub fn refers_into(&self, folder: &str) -> bool {
        let below = format!("{folder}/");
        let first = self.elsewhere.range(below.clone()..).next();
        first.is_some_and(|object| object.starts_with(&below))
    }

    /// The folders outside its own that it refers into, as URIs.
    pub fn folders_elsewhere(&self) -> BTreeSet<String> {
        let folders = self.elsewhere.iter().filter_map(|object| object.rsplit_once('/'));
        folders.map(|(folder, _)| folder.to_owned()).collect()
    }
}

/// Holds the newest few completed checkpoints, and older ones only as long as something refers into their folders.
#[derive(Debug, Clone)]
pub struct CompletedStore {
    num_retained: usize,
    retained: BTreeMap<CheckpointId, CompletedCheckpoint>,
    lingering: BTreeMap<CheckpointId, CompletedCheckpoint>,
    /// Those that linger for some objects, and are checkpoints no more.
    partly: BTreeSet<CheckpointId>,
}

impl CompletedStore {
    /// An empty store that keeps this many, at least one.
    pub fn new(num_retained: u32) -> Self {
        Self {
            num_retained: usize::try_from(num_retained.max(1)).unwrap_or(usize::MAX),
            retained: BTreeMap::new(),
            lingering: BTreeMap::new(),
            partly: BTreeSet::new(),
        }
    }

    /// The one with the greatest id, whenever it was added.
    pub fn latest(&self) -> Option<(CheckpointId, &CompletedCheckpoint)> {
        self.retained.last_key_value().map(|(id, checkpoint)| (*id, checkpoint))
    }

    /// Adds a checkpoint. The oldest beyond the number to retain are subsumed; [`sweep`](Self::sweep) says which can go.
    pub fn add(&mut self, id: CheckpointId, checkpoint: CompletedCheckpoint) {
        self.retained.insert(id, checkpoint);
        while self.retained.len() > self.num_retained
            && let Some((id, subsumed)) = self.retained.pop_first()
        {
            self.lingering.insert(id, subsumed);
        }
    }

    /// Adds the folder of one that is no checkpoint any more, with the objects that are there.
    pub fn add_partly_needed(&mut self, id: CheckpointId, location: String, own: BTreeSet<String>) {
        let objects = Objects {
            own,
            elsewhere: BTreeSet::new(),
        };
        let left = CompletedCheckpoint {
            location,
            bytes: 0,
            duration_ms: 0,
            objects,
        };
        self.lingering.insert(id, left);
    }

    /// Takes out what can go of the subsumed checkpoints: that to which neither a retained one refers nor `bases`, the checkpoints
    /// that snapshots under way may build upon.
    pub fn sweep(&mut self, bases: &BTreeSet<CheckpointId>) -> Swept {
        let (building, subsumed): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.lingering)
            .into_iter()
            .partition(|(id, _)| bases.contains(id));
        let roots = self.retained.values().chain(building.values());
        let roots: Vec<&Objects> = roots.map(|root| &root.objects).collect();
        let (mut swept, mut kept) = (Swept::default(), BTreeMap::new());
        for (id, mut checkpoint) in subsumed {
            if !roots.iter().any(|root| root.refers_into(&checkpoint.location)) {
                self.partly.remove(&id);
                swept.unneeded.push((id, checkpoint.location));
                continue;
            }
            let unneeded = checkpoint.objects.keep_only(&roots);
            if self.partly.insert(id) || !unneeded.is_empty() {
                swept.partly_needed.push(PartlyNeeded {
                    checkpoint: id,
                    location: checkpoint.location.clone(),
                    unneeded,
                });
            }
            kept.insert(id, checkpoint);
        }
        kept.extend(building);
        self.lingering = kept;
        swept
    }

    /// The job has ended: takes out everything that is not to be kept.
    pub fn end(&mut self, end: End) -> Swept {
        if end == End::Discard {
            self.lingering.append(&mut self.retained);
        }
        self.sweep(&BTreeSet::new())
    }
}

/// What becomes of the retained checkpoints of a job that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// They are the user's now.
    Keep,
    /// They are deleted.
    Discard,
}

impl End {
    /// Flink's table.
    pub fn of(state: JobState, retention: ExternalizedCheckpointRetention) -> Self {
        use ExternalizedCheckpointRetention::{DeleteOnCancellation, NoExternalizedCheckpoints, RetainOnCancellation};
        match (state, retention) {
            (JobState::Canceled, RetainOnCancellation) => Self::Keep,
            (JobState::Failed, RetainOnCancellation | DeleteOnCancellation) => Self::Keep,
            (JobState::Canceled, NoExternalizedCheckpoints | DeleteOnCancellation)
            | (JobState::Failed, NoExternalizedCheckpoints)
            | (JobState::Finished, _) => Self::Discard,
            (
                JobState::Initializing
                | JobState::Created
                | JobState::Reconciling
                | JobState::Running
                | JobState::Restarting
                | JobState::Failing
                | JobState::Cancelling,
                _,
            ) => Self::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use streamd_core::barrier::SnapshotKind;
    use streamd_core::graph::JobGraph;
    use streamd_core::id::{Attempt, JobId, OperatorId};
    use streamd_core::key_group::{KEY_HASH_VERSION, KeyGroupRange};
    use streamd_core::row::DataType;
    use streamd_core::snapshot::{KeyedStateFormat, KeyedStateHandle, METADATA_VERSION, ObjectHandle, OperatorState};
    use streamd_core::time::WallTime;

    use super::*;

    const NONE: [u64; 0] = [];

    fn checkpoint(id: u64, refers_to: &[u64]) -> CompletedCheckpoint {
        CompletedCheckpoint {
            location: format!("s3://b/chk-{id}"),
            bytes: 0,
            duration_ms: 0,
            objects: Objects {
                own: [object(id)].into(),
                elsewhere: refers_to.iter().copied().map(object).collect(),
            },
        }
    }

    /// The only object of a checkpoint.
    fn object(id: u64) -> String {
        format!("s3://b/chk-{id}/a.state")
    }

    fn add(store: &mut CompletedStore, id: u64, refers_to: &[u64], bases: &[u64]) -> Vec<u64> {
        numbers(&swept(store, id, refers_to, bases).unneeded)
    }

    fn swept(store: &mut CompletedStore, id: u64, refers_to: &[u64], bases: &[u64]) -> Swept {
        store.add(CheckpointId(id), checkpoint(id, refers_to));
        store.sweep(&bases.iter().copied().map(CheckpointId).collect())
    }

    fn partly(swept: &Swept) -> Vec<u64> {
        swept.partly_needed.iter().map(|it| it.checkpoint.0).collect()
    }

    fn numbers(discarded: &[Discarded]) -> Vec<u64> {
        discarded.iter().map(|(id, _)| id.0).collect()
    }

    #[test]
    fn as_many_are_kept_as_asked_for_and_the_oldest_goes_first() {
        let mut store = CompletedStore::new(2);
        assert_eq!(add(&mut store, 1, &[], &[]), NONE);
        assert_eq!(add(&mut store, 2, &[], &[]), NONE);
        assert_eq!(add(&mut store, 3, &[], &[]), [1]);
    }

    #[test]
    fn a_late_completion_of_an_older_checkpoint_never_becomes_the_latest() {
        let mut store = CompletedStore::new(1);
        add(&mut store, 5, &[], &[]);
        assert_eq!(add(&mut store, 4, &[], &[]), [4]);
        assert_eq!(store.latest().map(|(id, _)| id), Some(CheckpointId(5)));
    }

    #[test]
    fn a_folder_that_a_retained_checkpoint_refers_into_stays_until_nothing_does() {
        let mut store = CompletedStore::new(1);
        add(&mut store, 1, &[], &[]);
        assert_eq!(add(&mut store, 2, &[1], &[]), NONE);
        assert_eq!(add(&mut store, 3, &[], &[]), [1, 2]);
    }

    #[test]
    fn what_stays_for_an_object_alone_is_no_checkpoint_any_more_unless_one_may_build_upon_it() {
        let mut store = CompletedStore::new(1);
        assert_eq!(swept(&mut store, 1, &[], &[]), Swept::default());
        assert_eq!(partly(&swept(&mut store, 2, &[1], &[])), [1]);
        // 4 was triggered when 2 was the latest.
        assert_eq!(swept(&mut store, 3, &[2, 1], &[2]), Swept::default());
        let at_last = swept(&mut store, 4, &[2], &[]);
        assert_eq!((numbers(&at_last.unneeded), partly(&at_last)), (vec![1, 3], vec![2]));
        assert_eq!(add(&mut store, 5, &[], &[]), [2, 4]);
    }

    #[test]
    fn an_object_goes_with_the_last_that_refers_to_it_and_the_folder_with_its_last_object() {
        let mut store = CompletedStore::new(1);
        let left = ["a", "b", "c"].map(|name| format!("s3://b/chk-1/{name}.state"));
        // Another job manager may have deleted only half of what made it a checkpoint.
        store.add_partly_needed(CheckpointId(1), "s3://b/chk-1".to_owned(), left.clone().into());
        let mut unneeded_with = |id: u64, needed: &[String]| {
            let mut new = checkpoint(id, &[]);
            new.objects.elsewhere = needed.iter().cloned().collect();
            store.add(CheckpointId(id), new);
            let partly = store.sweep(&BTreeSet::new()).partly_needed;
            partly.into_iter().map(|it| it.unneeded).collect::<Vec<_>>()
        };
        assert_eq!(unneeded_with(2, &left[..2]), [&left[2..]]);
        assert_eq!(unneeded_with(3, &left[..2]), Vec::<Vec<String>>::new());
        assert_eq!(unneeded_with(4, &left[..1]), [&left[1..2]]);
        assert_eq!(add(&mut store, 5, &[], &[]), [1, 4]);
    }

    #[test]
    fn a_folder_is_not_mistaken_for_one_whose_name_it_begins_with() {
        let mut store = CompletedStore::new(1);
        add(&mut store, 1, &[], &[]);
        assert_eq!(add(&mut store, 20, &[10], &[]), [1]);
    }

    #[test]
    fn what_a_snapshot_under_way_may_build_upon_stays() {
        let mut store = CompletedStore::new(1);
        add(&mut store, 1, &[], &[]);
        add(&mut store, 2, &[1], &[]);
        // 4 was triggered when 2 was the latest: it may refer to 2, and to 1 through it.
        assert_eq!(add(&mut store, 3, &[], &[2]), NONE);
        assert_eq!(add(&mut store, 4, &[], &[]), [1, 2, 3]);
    }

    fn metadata(paths: &[&str]) -> SnapshotMetadata {
        let object = |path: &&str| ObjectHandle {
            inline: None,
            path: (*path).to_owned(),
            length: 1,
            digest: String::new(),
        };
        let keyed = KeyedStateHandle {
            state: "count".to_owned(),
            key: DataType::UInt64,
            namespace: None,
            value: DataType::UInt64,
            key_groups: KeyGroupRange::all(1),
            format: KeyedStateFormat::Native { segments: Vec::new() },
            objects: paths.iter().map(object).collect(),
            rows: 0,
            bytes: 0,
        };
        SnapshotMetadata {
            version: METADATA_VERSION,
            key_hash_version: KEY_HASH_VERSION,
            kind: SnapshotKind::Checkpoint,
            job_id: JobId::from_bytes([1; 16]),
            checkpoint_id: CheckpointId(9),
            triggered_at: WallTime(0),
            leader_epoch: 1,
            attempt: Attempt(1),
            nonce: "n".to_owned(),
            graph: JobGraph::new("counts"),
            operators: vec![OperatorState {
                id: OperatorId::from_uid("u"),
                uid: None,
                name: "count".to_owned(),
                parallelism: 1,
                max_parallelism: 1,
                keyed: vec![keyed],
                lists: Vec::new(),
            }],
        }
    }

    #[test]
    fn a_checkpoint_refers_into_the_folders_beside_its_own_and_into_absolute_ones() {
        let metadata = metadata(&[
            "a.state",
            "../chk-7/b.state",
            "../chk-7/c.state",
            "s3://b/j/chk-8/d.state",
        ]);
        let objects = Objects::of(&metadata, "s3://b/j/chk-9");
        let folders: Vec<String> = objects.folders_elsewhere().into_iter().collect();
        assert_eq!(folders, ["s3://b/j/chk-7", "s3://b/j/chk-8"]);
        assert_eq!(objects.own, BTreeSet::from(["s3://b/j/chk-9/a.state".to_owned()]));
        assert_eq!(objects.elsewhere.len(), 3);
        assert!(objects.refers_into("s3://b/j/chk-7") && !objects.refers_into("s3://b/j/chk-9"));
    }

    proptest! {
        /// Each checkpoint refers to some of those that its base may refer to, or is full; some complete late, some never.
        #[test]
        fn what_a_kept_checkpoint_refers_to_is_never_swept_and_everything_else_is(
            retained in 1u32..4,
            steps in prop::collection::vec((any::<bool>(), 0usize..3, any::<u8>()), 1..60),
        ) {
            let mut store = CompletedStore::new(retained);
            let mut refers: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
            let mut pending: Vec<(u64, Option<u64>, BTreeSet<u64>)> = Vec::new();
            let (mut completed, mut gone, mut shrunk) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
            let mut next = 1u64;
            for (begins, which, choice) in steps {
                if begins || pending.is_empty() {
                    let base = store.latest().map(|(id, _)| id.0);
                    let reachable = base.map(|base| {
                        let mut all = refers[&base].clone();
                        all.insert(base);
                        all
                    });
                    let chosen = reachable.into_iter().flatten().enumerate();
                    let chosen = chosen.filter(|(index, _)| choice >> (index % 8) & 1 == 1).map(|(_, id)| id);
                    pending.push((next, base, chosen.collect()));
                    next += 1;
                } else {
                    let (id, _, chosen) = pending.remove(which % pending.len());
                    // One in eight is given up.
                    if choice % 8 > 0 {
                        let references: Vec<u64> = chosen.iter().copied().collect();
                        store.add(CheckpointId(id), checkpoint(id, &references));
                        refers.insert(id, chosen);
                        completed.insert(id);
                    }
                }
                let bases: BTreeSet<CheckpointId> =
                    pending.iter().filter_map(|(_, base, _)| base.map(CheckpointId)).collect();
                let swept = store.sweep(&bases);
                gone.extend(numbers(&swept.unneeded));
                shrunk.extend(partly(&swept));
                let lost = swept.partly_needed.into_iter().flat_map(|it| it.unneeded);
                prop_assert_eq!(lost.collect::<Vec<_>>(), Vec::<String>::new());

                let latest = completed.iter().rev().take(retained as usize).copied();
                let roots: BTreeSet<u64> = latest.chain(bases.iter().map(|id| id.0)).collect();
                let needed: BTreeSet<u64> =
                    roots.iter().flat_map(|root| refers[root].iter().copied()).chain(roots.iter().copied()).collect();
                prop_assert!(needed.is_disjoint(&gone), "{:?} are needed, {:?} are gone", needed, gone);
                let left: BTreeSet<u64> = completed.difference(&gone).copied().collect();
                prop_assert_eq!(&left, &needed);
                let whole: BTreeSet<u64> = left.difference(&shrunk).copied().collect();
                prop_assert_eq!(whole, roots);
            }
        }
    }

    #[test]
    fn the_end_keeps_and_discards_as_in_flinks_table() {
        use ExternalizedCheckpointRetention::{DeleteOnCancellation, NoExternalizedCheckpoints, RetainOnCancellation};
        let table = [
            (NoExternalizedCheckpoints, [End::Discard, End::Discard, End::Discard]),
            (DeleteOnCancellation, [End::Discard, End::Discard, End::Keep]),
            (RetainOnCancellation, [End::Discard, End::Keep, End::Keep]),
        ];
        for (retention, ends) in table {
            let states = [JobState::Finished, JobState::Canceled, JobState::Failed];
            assert_eq!(states.map(|state| End::of(state, retention)), ends, "{retention:?}");
        }
    }

    #[test]
    fn keeping_the_last_keeps_what_it_refers_into() {
        let mut store = CompletedStore::new(1);
        add(&mut store, 1, &[], &[]);
        add(&mut store, 2, &[1], &[]);
        assert_eq!(numbers(&store.end(End::Keep).unneeded), NONE);
        assert_eq!(numbers(&store.end(End::Discard).unneeded), [1, 2]);
    }
}
