//! Local files are on the disk before anybody is told so: data first, then the name, then the folder that holds the name.
//!
//! The calls of a child process are recorded by `strace`, which sees what a test of results cannot: an omitted sync changes nothing until
//! the power fails.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::path::Path;
use std::process::Command;

use streamd_snapshot::Location;

/// Tells the child that it is one, and where to write.
const FOLDER: &str = "STREAMD_TEST_DURABLE_FOLDER";

/// What the child does: an object of one part, and one of several.
fn child(folder: &str) {
    let folder = Location::open(folder).unwrap();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        folder.child("new/small").unwrap().create("nonce".into()).await.unwrap();
        let mut upload = folder.child("new/large").unwrap().upload();
        upload.write(&vec![1; 17 << 20]).await.unwrap();
        upload.finish().await.unwrap();
    });
}

/// The calls that a child made on a folder, in order, without what they return.
fn calls(folder: &Path) -> Option<Vec<String>> {
    let record = folder.join("calls");
    let ran = Command::new("strace")
        .args([
            "-f",
            "-y",
            "-qq",
            "-s",
            "8",
            "-e",
            "trace=fsync,fdatasync,link,linkat,rename,renameat,renameat2",
            "-o",
        ])
        .arg(&record)
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "data_reaches_the_disk_before_its_name_and_the_name_before_success",
        ])
        .env(FOLDER, folder)
        .output();
    match ran {
        Ok(ran) if ran.status.success() => {}
        Ok(ran) if String::from_utf8_lossy(&ran.stderr).contains("PTRACE") => return None,
        Ok(ran) => panic!("{}", String::from_utf8_lossy(&ran.stderr)),
        Err(_absent) => return None,
    }
    let record = std::fs::read_to_string(record).unwrap();
    // The name of a staged file ends with a number of its own.
    Some(record.lines().map(str::to_owned).collect())
}

/// The index of the first call from `start` on that has all of these words.
fn find(calls: &[String], start: usize, words: &[&str]) -> usize {
    let found = calls[start..]
        .iter()
        .position(|call| words.iter().all(|word| call.contains(word)));
    start + found.unwrap_or_else(|| panic!("no call {words:?} from {start} on: {calls:#?}"))
}

#[test]
fn data_reaches_the_disk_before_its_name_and_the_name_before_success() {
    if let Ok(folder) = std::env::var(FOLDER) {
        return child(&folder);
    }
    let folder = tempfile::tempdir().unwrap();
    let Some(calls) = calls(folder.path()) else {
        return servers::not_tested("strace is not installed (bin/test installs it), or may not trace here");
    };
    for name in ["small", "large"] {
        let data = find(&calls, 0, &["sync(", &format!("/new/{name}#")]);
        let named = find(&calls, data, &[&format!("/new/{name}\"")]);
        assert!(
            calls[named].contains("link") || calls[named].contains("rename"),
            "{}",
            calls[named]
        );
        find(&calls, named, &["sync(", "/new>"]);
    }
    // The folder was new itself: its name is in the folder above.
    let above = folder.path().file_name().unwrap().to_str().unwrap();
    find(&calls, 0, &["sync(", &format!("/{above}>")]);
}
