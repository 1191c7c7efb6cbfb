use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use streamd_core::sink::{Sink, SinkWriter};
use streamd_core::source::{Source, SourceReader, SourceStatus};
use streamd_core::time::ManualClock;

use super::*;
use crate::conformance::sink::{Suite, context};
use crate::file::FileSource;
use crate::file::source::Format;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Airport {
    name: String,
    flights: u64,
}

fn airport(number: u64) -> Airport {
    Airport {
        name: format!("airport, \"{number}\""),
        flights: number,
    }
}

/// What a job that reads the sink's folder would get.
fn read<F: Format>(source: FileSource<F>) -> Vec<F::Out> {
    let Ok(splits) = source.enumerate(1) else {
        return Vec::new();
    };
    let mut reader = source.reader().unwrap();
    reader.add_splits(splits).unwrap();
    let mut records = Vec::new();
    while reader.poll(&mut records, 100).unwrap() != SourceStatus::End {}
    records
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn prepared(directory: &Path) -> (FileSink<String>, Vec<FileCommittable>) {
    let sink = FileSink::text(directory);
    let mut writer = sink.writer(&context(3, "n0nce")).unwrap();
    writer
        .write(&mut vec!["to be".to_owned(), "or not".to_owned()])
        .unwrap();
    let committables = writer.prepare_commit().unwrap();
    (sink, committables)
}

fn conforms<F: Format<Out = Airport>>(
    sink: impl Fn(&Path) -> FileSink<Airport>,
    source: impl Fn(&Path) -> FileSource<F>,
) {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("made/by/the sink");
    Suite {
        sink: &sink(&directory),
        record: &airport,
        view: &airport,
        visible: &|| read(source(&directory)),
    }
    .shows_exactly_what_is_committed();
}

#[test]
fn csv_files_show_exactly_what_is_committed() {
    conforms(|path| FileSink::csv(path), |path| FileSource::csv(path));
}

#[test]
fn json_files_show_exactly_what_is_committed() {
    conforms(|path| FileSink::json_lines(path), |path| FileSource::json_lines(path));
}

#[test]
fn text_files_show_exactly_what_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    Suite {
        sink: &FileSink::text(folder.path()),
        record: &|number| number,
        view: &|number| number.to_string(),
        visible: &|| read(FileSource::text_lines(folder.path())),
    }
    .shows_exactly_what_is_committed();
}

#[test]
fn a_file_has_a_hidden_name_until_it_is_committed() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, committables) = prepared(folder.path());
    assert_eq!(names(folder.path()), [".part-results-3-n0nce-0.txt.inprogress"]);
    assert_eq!(committables[0].length, 13);
    sink.commit(&committables).unwrap();
    assert_eq!(names(folder.path()), ["part-results-3-n0nce-0.txt"]);
}

#[test]
fn a_large_interval_is_one_complete_file() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::<u64>::text(folder.path());
    let mut writer = sink.writer(&context(0, "a")).unwrap();
    for start in 0..100 {
        writer.write(&mut (start * 1000..(start + 1) * 1000).collect()).unwrap();
    }
    sink.commit(&writer.prepare_commit().unwrap()).unwrap();
    let expected: Vec<String> = (0..100_000).map(|number: u64| number.to_string()).collect();
    assert_eq!(read(FileSource::text_lines(folder.path())), expected);
}

#[test]
fn output_that_is_gone_before_its_commit_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, committables) = prepared(folder.path());
    fs::remove_file(folder.path().join(&committables[0].staged)).unwrap();
    let error = sink.commit(&committables).unwrap_err();
    assert!(error.is_output_lost(), "{error}");
    let error = error.to_string();
    assert!(error.starts_with("output is lost"), "{error}");
    assert!(
        error.contains(&committables[0].staged) && error.contains("/part-results-3-n0nce-0.txt`"),
        "{error}"
    );
}

#[test]
fn output_that_changed_before_or_after_its_commit_is_an_error() {
    for is_committed in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (sink, committables) = prepared(folder.path());
        let mut name = &committables[0].staged;
        if is_committed {
            sink.commit(&committables).unwrap();
            name = &committables[0].name;
        }
        fs::write(folder.path().join(name), "to b").unwrap();
        let error = sink.commit(&committables).unwrap_err().to_string();
        assert!(error.contains("has 4 bytes, but 13 were prepared"), "{error}");
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_at_the_start_of_the_writer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let Err(error) = FileSink::<String>::text(file.join("results")).writer(&context(0, "a")) else {
        panic!("a folder inside of a file was made");
    };
    assert!(
        error.to_string().starts_with("cannot create the output folder `/"),
        "{error}"
    );
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn an_unfinished_interval_leaves_nothing_when_its_writer_ends_and_prepared_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::<u64>::text(folder.path());
    let mut writer = sink.writer(&context(0, "a")).unwrap();
    writer.write(&mut vec![1]).unwrap();
    writer.prepare_commit().unwrap();
    writer.write(&mut vec![2]).unwrap();
    assert_eq!(names(folder.path()).len(), 2);
    drop(writer);
    assert_eq!(names(folder.path()), [".part-results-0-a-0.txt.inprogress"]);
}

#[test]
fn a_writer_that_failed_prepares_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::<u64>::with_encoder(folder.path(), "x", |number, bytes| match number {
        13 => Err("unlucky".into()),
        _ => {
            bytes.extend(number.to_le_bytes());
            Ok(())
        }
    });
    let mut writer = sink.writer(&context(0, "a")).unwrap();
    writer.write(&mut vec![1]).unwrap();
    assert!(writer.write(&mut vec![2, 13]).is_err());
    let error = writer.prepare_commit().unwrap_err().to_string();
    assert!(error.contains("has failed before"), "{error}");
}

#[test]
fn an_operator_name_cannot_lead_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::<u64>::text(folder.path());
    let mut evil = context(0, "a");
    evil.operator = format!("../../{}", "ü/".repeat(300));
    let mut writer = sink.writer(&evil).unwrap();
    writer.write(&mut vec![1]).unwrap();
    sink.commit(&writer.prepare_commit().unwrap()).unwrap();
    assert!(names(folder.path())[0].starts_with("part-.._.._"));
}

#[test]
fn a_folder_that_cannot_be_written_into_is_known_before_the_job_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let check = |path: &std::path::Path| FileSink::<u64>::text(path).check();
    check(folder.path()).unwrap();
    check(&folder.path().join("a/b/c")).unwrap();
    for path in [file.clone(), file.join("below/it")] {
        let error = check(&path).unwrap_err();
        let text = streamd_core::error::chain(&error);
        assert!(
            text.contains(path.to_str().unwrap()) && text.contains("is no folder"),
            "{text}"
        );
    }
    assert_eq!(names(folder.path()), ["file"], "nothing was made");
}

fn survives_many_lives(make: impl Fn(&Path) -> FileSink<u64>) {
    for seed in 0..60 {
        let folder = tempfile::tempdir().unwrap();
        Suite {
            sink: &make(folder.path()),
            record: &|number| number,
            view: &|number| number.to_string(),
            visible: &|| read(FileSource::text_lines(folder.path())),
        }
        .survives(seed);
    }
}

#[test]
fn files_that_end_at_checkpoints_are_exact_over_any_life() {
    survives_many_lives(|path| FileSink::text(path));
}

#[test]
fn files_that_live_through_checkpoints_are_exact_over_any_life() {
    survives_many_lives(|path| FileSink::text(path).rolling(RollingPolicy::by_size_and_time().max_part_size(20)));
}

#[test]
fn files_in_more_buckets_than_may_be_open_are_exact_over_any_life() {
    survives_many_lives(|path| {
        FileSink::text(path)
            .bucket_by(|number: &u64| format!("mod/{}", number % 7))
            .max_open_buckets(3)
            .rolling(RollingPolicy::by_size_and_time())
    });
}

fn written(sink: &FileSink<u64>, numbers: &[u64]) -> FileWriter<u64> {
    let mut writer = sink.writer(&context(0, "a")).unwrap();
    writer.write(&mut numbers.to_vec()).unwrap();
    writer
}

#[test]
fn a_file_ends_when_it_is_large_enough_and_is_hidden_until_its_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::<u64>::text(folder.path()).rolling(RollingPolicy::on_checkpoint().max_part_size(6));
    let mut writer = written(&sink, &[100, 200]);
    writer.write(&mut vec![300]).unwrap();
    assert_eq!(names(folder.path()).len(), 2);
    let committables = writer.prepare_commit().unwrap();
    assert_eq!(committables.iter().map(|file| file.length).collect::<Vec<_>>(), [8, 4]);
    sink.commit(&committables).unwrap();
    assert_eq!(
        names(folder.path()),
        ["part-results-0-a-0.txt", "part-results-0-a-1.txt"]
    );
}

#[test]
fn a_file_goes_on_over_checkpoints_until_it_is_old_or_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let clock = std::sync::Arc::new(ManualClock::default());
    let seconds = std::time::Duration::from_secs;
    let policy = RollingPolicy::by_size_and_time()
        .rollover_interval(seconds(60))
        .inactivity_interval(seconds(10));
    let sink = FileSink::<u64>::text(folder.path())
        .rolling(policy)
        .clock(clock.clone());
    let mut writer = written(&sink, &[1]);
    for number in 2..=11 {
        assert!(writer.prepare_commit().unwrap().is_empty());
        assert_eq!(writer.unfinished().unwrap()[0].length, 2 * (number - 1));
        clock.advance(6_000);
        if number < 11 {
            writer.write(&mut vec![number % 10]).unwrap();
        }
    }
    // A minute has passed.
    assert_eq!(writer.prepare_commit().unwrap()[0].length, 20);
    assert!(writer.unfinished().unwrap().is_empty());
    writer.write(&mut vec![12]).unwrap();
    clock.advance(10_000);
    assert_eq!(writer.prepare_commit().unwrap()[0].length, 3);
}

#[test]
fn a_restored_file_that_was_unfinished_shows_what_the_snapshot_holds_and_other_snapshots_keep_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::<u64>::text(folder.path()).rolling(RollingPolicy::by_size_and_time());
    let mut writer = written(&sink, &[1, 2]);
    let early = writer.unfinished().unwrap();
    writer.write(&mut vec![3]).unwrap();
    let late = writer.unfinished().unwrap();
    writer.write(&mut vec![4]).unwrap();
    let seen = || read(FileSource::text_lines(folder.path()));

    sink.commit(&early).unwrap();
    sink.commit(&early).unwrap();
    assert_eq!(seen(), ["1", "2"]);
    // A writer that does not know yet that it is superseded goes on; another job resumes from the other snapshot.
    writer.write(&mut vec![5]).unwrap();
    sink.commit(&late).unwrap();
    assert_eq!(seen(), ["1", "2", "1", "2", "3"]);
    // The run that went on has shown the whole file; going back still finds its beginning.
    writer.leave_nothing_unfinished();
    sink.commit(&writer.prepare_commit().unwrap()).unwrap();
    fs::remove_file(folder.path().join(&early[0].name)).unwrap();
    sink.commit(&early).unwrap();
    assert!(folder.path().join(&early[0].name).is_file());
    assert_eq!(early[0].name, "part-results-0-a-0-cut-4.txt");
}

#[test]
fn an_unfinished_file_that_is_gone_or_shorter_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::<u64>::text(folder.path()).rolling(RollingPolicy::by_size_and_time());
    let unfinished = written(&sink, &[1, 2]).unfinished().unwrap();
    let staged = folder.path().join(&unfinished[0].staged);
    fs::write(&staged, "1").unwrap();
    let error = streamd_core::error::chain(&sink.commit(&unfinished).unwrap_err());
    assert!(
        error.contains("cannot copy 4 bytes of") && error.contains("it has only 1 bytes"),
        "{error}"
    );
    fs::remove_file(staged).unwrap();
    let error = sink.commit(&unfinished).unwrap_err();
    assert!(error.is_output_lost(), "{error}");
    assert!(
        error.to_string().starts_with("output is lost: the unfinished file `/"),
        "{error}"
    );
}

#[test]
fn what_is_left_of_a_writer_is_what_a_snapshot_may_hold() {
    let folder = tempfile::tempdir().unwrap();
    let policy = RollingPolicy::by_size_and_time().max_part_size(3);
    let sink = FileSink::<u64>::text(folder.path()).rolling(policy);
    let mut held = written(&sink, &[1]);
    held.unfinished().unwrap();
    let mut rolled = sink.writer(&context(1, "b")).unwrap();
    rolled.write(&mut vec![100]).unwrap();
    drop((held, rolled));
    assert_eq!(names(folder.path()), [".part-results-0-a-0.txt.inprogress"]);
}

#[test]
fn records_go_to_the_folders_that_the_function_or_the_time_names() {
    let folder = tempfile::tempdir().unwrap();
    let by_record = FileSink::<u64>::text(folder.path().join("r")).bucket_by(|number| format!("half={}", number / 5));
    by_record
        .commit(&written(&by_record, &[1, 7, 2, 8]).prepare_commit().unwrap())
        .unwrap();
    let lines = |path: &str| read(FileSource::text_lines(folder.path().join(path)));
    assert_eq!(
        (lines("r/half=0"), lines("r/half=1")),
        (vec!["1".into(), "2".into()], vec!["7".into(), "8".into()])
    );

    let clock = std::sync::Arc::new(ManualClock::default());
    let by_time = FileSink::<u64>::text(folder.path().join("t"))
        .bucket_by_time("yyyy-MM-dd--HH")
        .clock(clock.clone());
    let mut writer = written(&by_time, &[1]);
    clock.advance(3_600_000);
    writer.write(&mut vec![2]).unwrap();
    by_time.commit(&writer.prepare_commit().unwrap()).unwrap();
    assert_eq!(
        (lines("t/1970-01-01--00"), lines("t/1970-01-01--01")),
        (vec!["1".to_owned()], vec!["2".to_owned()])
    );
}

#[test]
fn a_bucket_that_is_no_folder_fails_the_writer_and_bad_options_the_submission() {
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::<u64>::text(folder.path()).bucket_by(|_| "../elsewhere".to_owned());
    let mut writer = sink.writer(&context(0, "a")).unwrap();
    let error = writer.write(&mut vec![1]).unwrap_err().to_string();
    assert!(
        error.contains("the bucket `../elsewhere` is no name of a folder"),
        "{error}"
    );
    for (sink, reason) in [
        (
            FileSink::<u64>::text(folder.path()).bucket_by_time("yyyy-DD"),
            "`DD`, which stands for nothing",
        ),
        (
            FileSink::text(folder.path()).part_prefix("a/b"),
            "cannot begin with `a/b`",
        ),
        (FileSink::text(folder.path()).extension("x/y"), "cannot end with `x/y`"),
    ] {
        let error = sink.check().unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let named = FileSink::<u64>::text(folder.path()).part_prefix("out").extension("log");
    named.commit(&written(&named, &[1]).prepare_commit().unwrap()).unwrap();
    assert_eq!(names(folder.path()), ["out-results-0-a-0.log"]);
}

#[test]
fn committables_of_before_there_were_unfinished_files_are_read() {
    use streamd_core::evolution::Evolution;
    use streamd_core::state::State;
    let streamd_core::row::DataType::Struct { name, mut fields } = FileCommittable::data_type() else {
        panic!("a committable is a struct");
    };
    fields.pop();
    let before = streamd_core::row::DataType::Struct { name, fields };
    let mut row = Vec::new();
    for text in ["/out", ".a.inprogress", "a"] {
        text.to_owned().encode(&mut row);
    }
    7u64.encode(&mut row);
    let list = streamd_core::snapshot::ListState {
        name: "committables".to_owned(),
        data_type: before,
        items: vec![row],
    };
    let read = streamd_core::migration::read_items::<FileCommittable>(&list).unwrap();
    assert!(!read[0].is_unfinished && read[0].length == 7);
    assert!(!Evolution::of::<FileCommittable>().is_empty());
}
