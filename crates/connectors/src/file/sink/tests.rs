use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use streamd_core::sink::{Sink, SinkWriter};
use streamd_core::source::{Source, SourceReader, SourceStatus};

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
    let error = sink.commit(&committables).unwrap_err().to_string();
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
