//! Which snapshot a job goes on from when it is only named: one pure decision (scenario RS19).
//!
//! Within one job the greatest id is the latest, whatever it is. Between jobs of the same name ids and times must agree: a
//! job that went on from another has greater ids *and* later times. Where they do not, the jobs are no line but a fork, or
//! one of them began anew, and a person has to choose.

use streamd_core::barrier::SnapshotKind;
use streamd_core::id::{CheckpointId, JobId};
use streamd_core::time::WallTime;

/// A snapshot that a job may go on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The job that took it.
    pub job_id: JobId,
    /// Its number in that job.
    pub checkpoint_id: CheckpointId,
    /// Checkpoint or savepoint.
    pub kind: SnapshotKind,
    /// When it was triggered.
    pub triggered_at: WallTime,
    /// The URI of its folder.
    pub uri: String,
}

/// What was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// There is none.
    Nothing,
    /// This one is the latest.
    Latest(Candidate),
    /// Each is the latest of its job, and none is the latest of all.
    Ambiguous(Vec<Candidate>),
}

/// Selects the latest of the snapshots that jobs of one name have left. The order of `candidates` plays no part.
pub fn select_latest(candidates: &[Candidate]) -> Selection {
    let mut latest: Vec<&Candidate> = Vec::new();
    for candidate in candidates {
        match latest.iter_mut().find(|known| known.job_id == candidate.job_id) {
            Some(known) if rank(known) < rank(candidate) => *known = candidate,
            Some(_older) => {}
            None => latest.push(candidate),
        }
    }
    latest.sort_by_key(|candidate| std::cmp::Reverse((candidate.triggered_at, rank(candidate), candidate.job_id)));
    match latest.as_slice() {
        [] => Selection::Nothing,
        [newest, others @ ..] => {
            let follows = |other: &&Candidate| {
                newest.checkpoint_id > other.checkpoint_id && newest.triggered_at > other.triggered_at
            };
            if others.iter().all(follows) {
                Selection::Latest((*newest).clone())
            } else {
                Selection::Ambiguous(latest.into_iter().cloned().collect())
            }
        }
    }
}

/// Of one job's snapshots the one with the greatest id is the latest. The same snapshot may be found twice, as a checkpoint
/// and as the savepoint that was made of it: the savepoint can be relied upon, since nobody deletes it but its owner.
fn rank(candidate: &Candidate) -> (CheckpointId, SnapshotKind, &str) {
    (candidate.checkpoint_id, candidate.kind, &candidate.uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(job: u8, id: u64, kind: SnapshotKind, at: i64) -> Candidate {
        Candidate {
            job_id: JobId::from_bytes([job; 16]),
            checkpoint_id: CheckpointId(id),
            kind,
            triggered_at: WallTime(at),
            uri: format!("file:///{job}/{id}"),
        }
    }

    const CHECKPOINT: SnapshotKind = SnapshotKind::Checkpoint;
    const SAVEPOINT: SnapshotKind = SnapshotKind::Savepoint;

    #[test]
    fn of_one_job_the_greatest_id_is_the_latest_be_it_checkpoint_or_savepoint() {
        let older_savepoint = candidate(1, 7, SAVEPOINT, 70);
        let checkpoint = candidate(1, 9, CHECKPOINT, 90);
        let newer_savepoint = candidate(1, 12, SAVEPOINT, 120);
        assert_eq!(
            select_latest(&[checkpoint.clone(), older_savepoint.clone()]),
            Selection::Latest(checkpoint.clone())
        );
        assert_eq!(
            select_latest(&[newer_savepoint.clone(), checkpoint, older_savepoint]),
            Selection::Latest(newer_savepoint)
        );
    }

    #[test]
    fn a_savepoint_made_of_a_checkpoint_goes_before_it() {
        let (checkpoint, savepoint) = (candidate(1, 9, CHECKPOINT, 90), candidate(1, 9, SAVEPOINT, 90));
        for order in [[&checkpoint, &savepoint], [&savepoint, &checkpoint]] {
            assert_eq!(
                select_latest(&order.map(Clone::clone)),
                Selection::Latest(savepoint.clone())
            );
        }
    }

    #[test]
    fn a_job_that_went_on_from_another_is_the_later_of_the_two() {
        let (before, after) = (candidate(1, 9, SAVEPOINT, 90), candidate(2, 14, CHECKPOINT, 140));
        assert_eq!(select_latest(&[before, after.clone()]), Selection::Latest(after));
    }

    #[test]
    fn jobs_whose_ids_and_times_disagree_are_left_to_a_person() {
        // The second began anew: its ids are smaller, though it came later.
        let (before, anew) = (candidate(1, 50, CHECKPOINT, 90), candidate(2, 3, CHECKPOINT, 140));
        assert_eq!(
            select_latest(&[before.clone(), anew.clone()]),
            Selection::Ambiguous(vec![anew, before])
        );
        // Two forks of one savepoint that have come equally far.
        let (one, other) = (candidate(1, 10, CHECKPOINT, 90), candidate(2, 10, CHECKPOINT, 95));
        assert!(matches!(select_latest(&[one, other]), Selection::Ambiguous(_)));
    }

    #[test]
    fn nothing_is_selected_of_nothing() {
        assert_eq!(select_latest(&[]), Selection::Nothing);
    }
}
