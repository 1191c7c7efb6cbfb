use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use streamd_core::error::chain;
use streamd_core::source::{ConnectorError, Source, SourceReader, SourceStatus};
use streamd_core::state::{from_row, to_row};
use streamd_core::time::ManualClock;
use tempfile::TempDir;

use super::*;
use crate::FileSource;
use crate::conformance::random::Random;
use crate::file::source::TextLines;

struct Folder {
    folder: TempDir,
    clock: Arc<ManualClock>,
    source: MonitoredFiles<TextLines>,
    readers: Vec<LaneReader<TextLines>>,
    seen: Vec<String>,
}

impl Folder {
    fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), Arc::new(ManualClock::default()));
        let source = FileSource::text_lines(folder.path()).clock(clock.clone());
        let source = source.monitor_continuously(Duration::from_secs(1)).lanes(5);
        let mut new = Self {
            folder,
            clock,
            source,
            readers: Vec::new(),
            seen: Vec::new(),
        };
        let lanes = new.source.enumerate(1).unwrap();
        new.deal(lanes, 1);
        new
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn deal(&mut self, lanes: Vec<Lane>, readers: usize) {
        let mut dealt: Vec<Vec<Lane>> = (0..readers).map(|_| Vec::new()).collect();
        for (index, lane) in lanes.iter().enumerate() {
            dealt[index % readers].push(from_row(&to_row(lane)).unwrap());
        }
        let reader = |lanes| {
            let mut reader = self.source.reader().unwrap();
            reader.add_splits(lanes).unwrap();
            reader
        };
        self.readers = dealt.into_iter().map(reader).collect();
    }

    fn snapshot(&self) -> Vec<Lane> {
        self.readers.iter().flat_map(SourceReader::snapshot).collect()
    }

    /// Polls all readers until none has more for now.
    fn read(&mut self) -> Result<(), ConnectorError> {
        for reader in &mut self.readers {
            while reader.poll(&mut self.seen, 3)? == SourceStatus::More {}
        }
        Ok(())
    }

    /// Two looks: what was there before the first is read.
    fn settle(&mut self) -> Result<(), ConnectorError> {
        for _ in 0..2 {
            self.clock.advance(1_000);
            self.read()?;
        }
        Ok(())
    }

    fn failure(&mut self) -> String {
        chain(&self.settle().unwrap_err())
    }
}

#[test]
fn what_is_there_and_what_comes_is_read_once() {
    let mut folder = Folder::new();
    folder.write("a", "1\n2\n");
    folder.settle().unwrap();
    assert_eq!(folder.seen, ["1", "2"]);
    folder.write("b/c", "3");
    folder.write("b/.hidden", "no");
    folder.write("_SUCCESS", "no");
    folder.write("empty", "");
    folder.settle().unwrap();
    folder.settle().unwrap();
    assert_eq!(folder.seen, ["1", "2", "3"]);
}

#[test]
fn a_folder_is_looked_into_once_in_an_interval_and_the_thread_sleeps_meanwhile() {
    let mut folder = Folder::new();
    let reader = &mut folder.readers[0];
    assert_eq!(
        reader.poll(&mut folder.seen, 9).unwrap(),
        SourceStatus::Idle(Duration::from_secs(1))
    );
    folder.clock.advance(400);
    assert_eq!(
        reader.poll(&mut folder.seen, 9).unwrap(),
        SourceStatus::Idle(Duration::from_millis(600))
    );
}

#[test]
fn a_file_is_new_when_it_has_stopped_growing() {
    let mut folder = Folder::new();
    for content in ["1\n", "1\n2\n", "1\n2\n3\n"] {
        folder.write("a", content);
        folder.clock.advance(1_000);
        folder.read().unwrap();
        assert!(folder.seen.is_empty());
    }
    folder.clock.advance(1_000);
    folder.read().unwrap();
    assert_eq!(folder.seen, ["1", "2", "3"]);
}

#[test]
fn every_line_of_every_file_comes_once_whatever_comes_when_and_however_the_job_is_cut() {
    for seed in 0..150 {
        let mut random = Random::new(seed);
        let mut folder = Folder::new();
        let mut expected = Vec::new();
        let mut kept: (Vec<Lane>, Vec<String>) = (folder.snapshot(), Vec::new());
        for step in 0..random.below(40) {
            match random.below(6) {
                0 | 1 => {
                    let lines: Vec<String> = (0..random.below(9)).map(|line| format!("{step}.{line}")).collect();
                    folder.write(&format!("d{}/{step}", random.below(3)), &lines.join("\n"));
                    expected.extend(lines);
                }
                2 => {
                    folder.clock.advance(1_000);
                    folder.read().unwrap();
                }
                3 => {
                    let readers = folder.readers.len();
                    let reader = &mut folder.readers[random.below(readers as u64) as usize];
                    reader.poll(&mut folder.seen, 1 + random.below(4) as usize).unwrap();
                }
                4 => kept = (folder.snapshot(), folder.seen.clone()),
                _ => {
                    // A failure: back to the last snapshot, with other readers.
                    folder.seen = kept.1.clone();
                    folder.deal(kept.0.clone(), 1 + random.below(4) as usize);
                }
            }
        }
        folder.settle().unwrap();
        folder.settle().unwrap();
        folder.seen.sort();
        expected.sort();
        assert_eq!(folder.seen, expected, "seed {seed}");
    }
}

#[test]
fn a_folder_passes_the_suite_for_sources_that_do_not_end() {
    use crate::conformance::source::{Scenario, reads_every_record_once_without_end};
    let folder = tempfile::tempdir().unwrap();
    for file in 0..9 {
        let lines: Vec<String> = (0..file * 3).map(|line| format!("{file}.{line}")).collect();
        fs::write(folder.path().join(file.to_string()), lines.join("\n")).unwrap();
    }
    let source = FileSource::text_lines(folder.path())
        .monitor_continuously(Duration::from_millis(1))
        .lanes(4);
    for seed in 0..20 {
        reads_every_record_once_without_end(&source, 108, &Scenario::seeded(seed));
    }
}

#[test]
fn a_file_that_was_read_may_go_and_one_of_its_name_may_come() {
    let mut folder = Folder::new();
    folder.write("a", "1\n");
    folder.settle().unwrap();
    assert_eq!(folder.snapshot().iter().map(|lane| lane.files.len()).sum::<usize>(), 1);
    fs::remove_file(folder.path("a")).unwrap();
    folder.settle().unwrap();
    assert_eq!(folder.snapshot().iter().map(|lane| lane.files.len()).sum::<usize>(), 0);
    folder.write("a", "2\n");
    folder.settle().unwrap();
    assert_eq!(folder.seen, ["1", "2"]);
}

#[test]
fn a_file_that_is_gone_too_early_or_has_changed_is_an_error_that_names_it() {
    let unread = || {
        let mut folder = Folder::new();
        folder.write("a", "1\n2\n3\n4\n5\n");
        folder.clock.advance(1_000);
        folder.readers[0].poll(&mut folder.seen, 1).unwrap();
        folder.clock.advance(1_000);
        folder.readers[0].poll(&mut folder.seen, 1).unwrap();
        assert_eq!(folder.seen, ["1"]);
        folder
    };
    let mut folder = unread();
    fs::remove_file(folder.path("a")).unwrap();
    let error = folder.failure();
    assert!(
        error.contains("/a` is gone before it was read to its end: the records from byte 2 on"),
        "{error}"
    );

    let mut folder = unread();
    let lanes = folder.snapshot();
    fs::remove_file(folder.path("a")).unwrap();
    folder.deal(lanes, 2);
    assert!(folder.failure().contains("is gone before it was read to its end"));

    for (content, reason) in [
        ("1\n2\n3\n4\n5\n6\n", "has 12 bytes where it had 10"),
        ("1\n", "has 2 bytes where it had 10"),
        ("1\n2\nX\n4\n5\n", "it was replaced while it was in the folder"),
    ] {
        let mut folder = Folder::new();
        folder.write("a", "1\n2\n3\n4\n5\n");
        folder.settle().unwrap();
        folder.write("a", content);
        touch(&folder.path("a"), 1);
        let error = folder.failure();
        assert!(error.contains("/a` ") && error.contains(reason), "{error}");
    }
    let mut folder = Folder::new();
    folder.write("a", "1\n");
    folder.settle().unwrap();
    touch(&folder.path("a"), 2);
    folder.settle().unwrap();
    assert_eq!(folder.seen, ["1"], "a file that is touched is the same");
}

/// Sets the time of change, so that it differs for certain.
fn touch(path: &Path, seconds: u64) {
    let file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(seconds))
        .unwrap();
}

#[test]
fn a_folder_that_is_none_is_refused_and_an_empty_one_waited_in() {
    let folder = tempfile::tempdir().unwrap();
    let source = |path: &Path| FileSource::text_lines(path).monitor_continuously(Duration::from_secs(1));
    assert_eq!(source(folder.path()).enumerate(2).unwrap().len(), 32);
    assert_eq!(source(folder.path()).enumerate(50).unwrap().len(), 50);
    let error = chain(&source(&folder.path().join("missing")).enumerate(1).unwrap_err());
    assert!(error.contains("cannot read the input folder `/"), "{error}");
    let mut reader = source(folder.path()).reader().unwrap();
    assert_eq!(
        reader.poll(&mut Vec::new(), 1).unwrap(),
        SourceStatus::End,
        "without a lane there is nothing to wait for"
    );
}
