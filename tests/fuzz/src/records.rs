//! Records in the storage that outlives job managers. An input holds the records of a folder, in order, with a zero byte between them.

use std::sync::atomic::{AtomicU64, Ordering};

use streamd_core::time::WallTime;
use streamd_snapshot::{
    JobStore, LeaderRecords, Location, OperationCatalogue, claim_of, cluster_identity, list_completed, list_retained,
};

use crate::waiting::wait;

/// The ids of the records of the corpus.
const ID: &str = "0b376cecf7394b2d86de5414cfb2d2b4";

/// Who leads, in two epochs.
pub fn leaders(bytes: &[u8]) -> bool {
    let names = ["leaders/00000000000000000001.json", "leaders/00000000000000000002.json"];
    in_store(&names.map(str::to_owned), bytes, async |base| {
        LeaderRecords::new(base).latest().await.is_ok()
    })
}

/// A job: submission, result, attempt, takeover, end, committed savepoint.
pub fn jobs(bytes: &[u8]) -> bool {
    let names = [
        "job.json",
        "result.json",
        "attempts/0000000002.json",
        "epochs/00000000000000000002.json",
        "epochs/00000000000000000002.ended.json",
        "committed/00000000000000000009.json",
    ];
    let names = names.map(|name| format!("jobs/{ID}/{name}"));
    in_store(&names, bytes, async |base| {
        JobStore::new(base).list().await.is_ok_and(|jobs| !jobs.is_empty())
    })
}

/// The record of completion of a checkpoint, and its metadata.
pub fn completions(bytes: &[u8]) -> bool {
    let names = [
        format!("{ID}/completed/00000000000000000042.json"),
        format!("{ID}/chk-42/_metadata"),
    ];
    in_store(&names, bytes, async |base| {
        let listed = list_completed(&base.child(ID).expect("an id is a name")).await;
        listed.is_ok() | list_retained(&base).await.is_ok()
    })
}

/// The catalogue of savepoints: a beginning and an end.
pub fn operations(bytes: &[u8]) -> bool {
    let names = ["begun", "ended"].map(|what| format!("operations/{ID}.{what}.json"));
    in_store(&names, bytes, async |base| {
        OperationCatalogue::new(base)
            .list()
            .await
            .is_ok_and(|all| !all.is_empty())
    })
}

/// Whose a folder of checkpoints is, and who a cluster is.
pub fn claims(bytes: &[u8]) -> bool {
    let names = ["claimed-by.json", "cluster.json"].map(str::to_owned);
    in_store(&names, bytes, async |base| {
        claim_of(&base).await.is_ok() & cluster_identity(&base, WallTime(0)).await.is_ok()
    })
}

/// Puts the parts of an input under these names into a place of its own, and clears it away after the look.
fn in_store(names: &[String], bytes: &[u8], look: impl AsyncFnOnce(Location) -> bool) -> bool {
    static PLACES: AtomicU64 = AtomicU64::new(0);
    let place = PLACES.fetch_add(1, Ordering::Relaxed);
    let base = Location::open(&format!("memory://fuzz/records-{place}")).expect("a place in memory");
    wait(async {
        for (name, part) in names.iter().zip(bytes.split(|byte| *byte == 0)) {
            let record = base.child(name).expect("records have names");
            record.put_create(part.to_vec()).await.expect("memory takes everything");
        }
        let accepted = look(base.clone()).await;
        base.delete_folder().await.expect("memory gives everything back");
        accepted
    })
}
