//! Logs of bounded size, and reading them in pieces.

use super::*;

const JOB: JobId = JobId::from_bytes([5; 16]);
const WORKER: WorkerId = WorkerId(3);

async fn read(location: &LogLocation, position: u64) -> String {
    let mut reader = LogReader::open(location, position).await.unwrap();
    let mut text = Vec::new();
    while let Some(piece) = reader.next().await.unwrap() {
        assert!(piece.len() <= PIECE_BYTES);
        text.extend_from_slice(&piece);
    }
    String::from_utf8(text).unwrap()
}

fn book(folder: &Path) -> LogBook {
    LogBook::open(folder, Duration::from_secs(60)).unwrap()
}

#[tokio::test]
async fn a_log_is_followed_by_asking_for_what_one_does_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let location = book(folder.path()).add(JOB, WORKER);
    assert_eq!(read(&location, 0).await, "");
    let mut log = WorkerLog::open(location.clone(), 1 << 20).await.unwrap();
    log.copy_from(&b"one\n"[..]).await;
    assert_eq!(read(&location, 0).await, "one\n");
    log.copy_from(&b"two\n"[..]).await;
    assert_eq!(read(&location, 4).await, "two\n");
    assert_eq!(read(&location, 8).await, "");
    assert_eq!(log.tail(), "one\ntwo\n");
}

#[tokio::test]
async fn an_endless_log_keeps_its_newest_lines_within_the_limit_and_positions_stay_true() {
    let folder = tempfile::tempdir().unwrap();
    let location = book(folder.path()).add(JOB, WORKER);
    let mut log = WorkerLog::open(location.clone(), 2000).await.unwrap();
    let mut all = String::new();
    for number in 0..1000 {
        let line = format!("line {number}\n");
        log.copy_from(line.as_bytes()).await;
        all.push_str(&line);
    }
    let kept = read(&location, 0).await;
    assert!(kept.len() <= 2000 && kept.len() > 1000, "{}", kept.len());
    assert!(all.ends_with(&kept));
    let position = all.len() as u64 - 16;
    assert_eq!(read(&location, position).await, all[all.len() - 16..]);
}

#[tokio::test]
async fn a_task_manager_answers_for_its_own_workers_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut own = book(folder.path());
    let mut other = book(folder.path());
    own.add(JOB, WORKER);
    other.add(JOB, WorkerId(4));
    assert_eq!(own.of_job(JOB).into_keys().collect::<Vec<_>>(), [WORKER]);
    assert!(own.of_job(JobId::from_bytes([6; 16])).is_empty());
}

#[tokio::test]
async fn old_logs_go_and_new_ones_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut book = book(folder.path());
    let location = book.add(JOB, WORKER);
    drop(WorkerLog::open(location.clone(), 1000).await.unwrap());
    let written = last_change(location.path.parent().unwrap()).unwrap();
    book.remove_expired(WallTime(written + 59_000));
    assert!(location.path.exists());
    book.remove_expired(WallTime(written + 61_000));
    assert!(!location.path.exists());
}
