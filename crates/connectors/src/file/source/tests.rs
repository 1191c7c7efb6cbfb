use std::error::Error as _;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use serde::Deserialize;
use streamd_core::source::{ConnectorError, Source, SourceReader, SourceStatus};
use streamd_core::state::{from_row, to_row};
use tempfile::TempDir;

use super::*;
use crate::conformance::source::{Scenario, reads_every_record_once};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Flight {
    id: u32,
    origin: String,
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

fn read<F: Format>(source: &FileSource<F>) -> Result<Vec<F::Out>, ConnectorError> {
    read_splits(source, source.enumerate(1)?)
}

fn read_splits<F: Format>(source: &FileSource<F>, splits: Vec<FileSplit>) -> Result<Vec<F::Out>, ConnectorError> {
    let mut reader = source.reader()?;
    reader.add_splits(splits)?;
    let mut records = Vec::new();
    while reader.poll(&mut records, 3)? != SourceStatus::End {}
    Ok(records)
}

fn lines_of(content: &[u8]) -> Vec<String> {
    let folder = folder(&[("a", content)]);
    read(&FileSource::text_lines(folder.path())).unwrap()
}

/// An error and its causes.
fn chain(error: ConnectorError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_line_comes_once_however_files_and_job_are_cut(
        scenario: Scenario,
        widths in prop::collection::vec(prop::collection::vec(0usize..40, 0..60), 1..4),
        split_bytes in 1u64..300,
        line_end in prop::sample::select(vec!["\n", "\r\n"]),
        ends_with_line_end: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        for (file, widths) in widths.iter().enumerate() {
            let lines: Vec<String> = (0..).zip(widths).map(|(line, width)| format!("{file}.{line}:{:width$}", "")).collect();
            let end = if ends_with_line_end && !lines.is_empty() { line_end } else { "" };
            fs::write(folder.path().join(format!("{file}.txt")), lines.join(line_end) + end).unwrap();
            expected.extend(lines);
        }
        let source = FileSource::text_lines(folder.path()).split_size(split_bytes);
        prop_assert_eq!(read(&source).unwrap(), expected);
        reads_every_record_once(&source, &scenario);
    }

    #[test]
    fn every_row_comes_once_however_the_job_is_cut(
        scenario: Scenario,
        origins in prop::collection::vec(prop::collection::vec("[a-z\",\n\r é]{0,9}", 0..60), 1..4),
        line_end in prop::sample::select(vec!["\n", "\r\n", "\n\n"]),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut expected = Vec::new();
        for (file, origins) in origins.iter().enumerate() {
            let mut text = format!("origin,unused,id{line_end}");
            for (line, origin) in (0..).zip(origins) {
                let id = file as u32 * 1000 + line;
                text += &format!("\"{}\",,{id}{line_end}", origin.replace('"', "\"\""));
                expected.push(Flight { id, origin: origin.clone() });
            }
            fs::write(folder.path().join(format!("{file}.csv")), text).unwrap();
        }
        let source = FileSource::csv::<Flight>(folder.path());
        prop_assert_eq!(read(&source).unwrap(), expected);
        reads_every_record_once(&source, &scenario);
    }
}

/// The content, compressed as the extension says.
fn compressed(extension: &str, content: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    match extension {
        "bz2" => {
            let stream = |content: &[u8]| {
                let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            };
            let (first, second) = content.split_at(content.len() / 2);
            [stream(first), stream(second)].concat()
        }
        "gz" => {
            // Of two members, as `cat a.gz b.gz` makes them.
            let member = |content: &[u8]| {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            };
            let (first, second) = content.split_at(content.len() / 2);
            [member(first), member(second)].concat()
        }
        // With checksums, as the programs `zstd` and `lz4` write them.
        "zst" => {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.include_checksum(true).unwrap();
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        }
        "lz4" => {
            let info = lz4_flex::frame::FrameInfo::new().content_checksum(true);
            let frame = |content: &[u8]| {
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info.clone(), Vec::new());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            };
            let (first, second) = content.split_at(content.len() / 2);
            [frame(first), frame(second)].concat()
        }
        other => panic!("{other}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn compressed_files_are_read_like_others_however_the_job_is_cut(
        scenario: Scenario,
        extension in prop::sample::select(vec!["gz", "zst", "lz4", "bz2"]),
        origins in prop::collection::vec(prop::collection::vec("[a-z\",\n é]{0,9}", 0..60), 1..4),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut flights, mut lines) = (Vec::new(), Vec::new());
        for (file, origins) in origins.iter().enumerate() {
            let (mut csv, mut text) = ("origin,id\n".to_owned(), String::new());
            for (line, origin) in (0..).zip(origins) {
                let id = file as u32 * 1000 + line;
                csv += &format!("\"{}\",{id}\n", origin.replace('"', "\"\""));
                flights.push(Flight { id, origin: origin.clone() });
                text += &format!("{id}\n");
                lines.push(id.to_string());
            }
            for (kind, content) in [("csv", csv), ("txt", text)] {
                fs::create_dir_all(folder.path().join(kind)).unwrap();
                let path = folder.path().join(kind).join(format!("{file}.{extension}"));
                fs::write(path, compressed(extension, content.as_bytes())).unwrap();
            }
        }
        let source = FileSource::csv::<Flight>(folder.path().join("csv"));
        prop_assert_eq!(read(&source).unwrap(), flights);
        reads_every_record_once(&source, &scenario);
        let source = FileSource::text_lines(folder.path().join("txt")).split_size(10);
        prop_assert_eq!(read(&source).unwrap(), lines);
        reads_every_record_once(&source, &scenario);
    }
}

#[test]
fn a_compressed_file_that_is_cut_short_or_damaged_or_none_is_an_error_with_its_position() {
    let content: String = (0..20_000)
        .map(|line| format!("{line} {}\n", line * 7919 % 10_007))
        .collect();
    for extension in ["gz", "zst", "lz4", "bz2"] {
        let name = format!("a.{extension}");
        let whole = compressed(extension, content.as_bytes());
        let failure = |bytes: &[u8]| {
            let folder = folder(&[(&name, bytes)]);
            let read = read(&FileSource::text_lines(folder.path()));
            let records = read.as_ref().map_or(0, Vec::len);
            let error = read.err();
            chain(error.unwrap_or_else(|| {
                panic!(
                    "{extension}: {} of {} bytes gave {records} records",
                    bytes.len(),
                    whole.len()
                )
            }))
        };
        for length in [5, whole.len() / 3, whole.len() - 9, whole.len() - 1] {
            let error = failure(&whole[..length]);
            assert!(
                error.starts_with("cannot decompress the file `/"),
                "{extension} {length}: {error}"
            );
            assert!(error.contains(&format!("/{name}` after byte ")), "{error}");
        }
        let mut damaged = whole.clone();
        damaged[whole.len() / 2] ^= 0x55;
        let error = failure(&damaged);
        assert!(
            error.contains("it is damaged, incomplete or no "),
            "{extension}: {error}"
        );
        let error = failure(content.as_bytes());
        assert!(error.contains("after byte 0 of its content"), "{extension}: {error}");
        let grown = [&whole[..], b"and something else"].concat();
        let error = failure(&grown);
        assert!(error.contains("it is damaged"), "{extension}: {error}");
    }
}

#[test]
fn a_bad_record_in_a_compressed_file_has_its_place_in_the_content() {
    let bytes = compressed("gz", b"{\"id\":1,\"origin\":\"ATL\"}\n{\"id\":2,");
    let folder = folder(&[("bad.gz", &bytes)]);
    let error = chain(read(&FileSource::json_lines::<Flight>(folder.path())).unwrap_err());
    assert!(
        error.contains("at byte 24 of the content of the compressed file `/") && error.contains("EOF while parsing"),
        "{error}"
    );
}

#[test]
fn an_archive_of_another_kind_is_refused_before_the_job_runs() {
    let folder = folder(&[("a.XZ", b"xz")]);
    let error = chain(FileSource::text_lines(folder.path()).enumerate(1).unwrap_err());
    assert!(
        error.contains("is compressed as `.xz`, which cannot be read"),
        "{error}"
    );
}

#[test]
fn lines_come_without_their_ends_and_empty_ones_count() {
    assert_eq!(lines_of(b"a\n\nb\r\n\r\nc"), ["a", "", "b", "", "c"]);
    assert_eq!(lines_of(b"\n"), [""]);
    assert_eq!(lines_of(b""), [""; 0]);
    assert_eq!(lines_of("\u{feff}a\n\u{feff}b".as_bytes()), ["a", "\u{feff}b"]);
    assert_eq!(lines_of("\u{feff}".as_bytes()), [""; 0]);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_column() {
    let folder = folder(&[("a", "\u{feff}id,origin\n1,ATL\n".as_bytes())]);
    let flights = read(&FileSource::csv::<Flight>(folder.path())).unwrap();
    assert_eq!(flights[0].id, 1);
}

#[test]
fn a_line_longer_than_the_buffer_is_one_record() {
    let long = "x".repeat(1_000_000);
    let folder = folder(&[("a", format!("a\n{long}\nb").as_bytes())]);
    for split_bytes in [1000, 10_000_000] {
        let source = FileSource::text_lines(folder.path()).split_size(split_bytes);
        assert_eq!(read(&source).unwrap(), ["a", long.as_str(), "b"]);
    }
}

#[test]
fn a_folder_is_read_in_the_order_of_names_without_hidden_files() {
    let folder = folder(&[
        ("b", b"3"),
        ("a/2", b"2"),
        ("a/1", b"1"),
        (".hidden", b"no"),
        ("_SUCCESS", b"no"),
        ("a/.git/x", b"no"),
        ("c", b""),
    ]);
    assert_eq!(read(&FileSource::text_lines(folder.path())).unwrap(), ["1", "2", "3"]);
    assert_eq!(
        read(&FileSource::text_lines(folder.path().join(".hidden"))).unwrap(),
        ["no"]
    );
}

#[test]
fn input_that_is_missing_or_empty_is_refused() {
    let folder = folder(&[("full/_x", b"")]);
    let refused = |path: &Path| chain(FileSource::text_lines(path).enumerate(1).unwrap_err());
    let missing = refused(&folder.path().join("missing"));
    assert!(missing.starts_with("cannot read the input `/"), "{missing}");
    assert!(missing.contains("/missing`: No such file"), "{missing}");
    let empty = refused(&folder.path().join("full"));
    assert!(empty.contains("/full` holds no files"), "{empty}");
    assert!(refused(Path::new("/dev/null")).contains("`/dev/null` is neither a file nor a folder"));
}

#[test]
fn a_folder_that_contains_itself_is_refused() {
    let folder = folder(&[("a", b"")]);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("b")).unwrap();
    let error = FileSource::text_lines(folder.path())
        .enumerate(1)
        .unwrap_err()
        .to_string();
    assert!(error.contains("does a symbolic link lead back?"), "{error}");
}

#[test]
fn json_lines_are_decoded_and_blank_ones_passed_over() {
    let folder = folder(&[(
        "a",
        b"{\"id\":1,\"origin\":\"ATL\"}\n  \n\n{\"id\":2,\"origin\":\"JFK\"}",
    )]);
    let flights = read(&FileSource::json_lines::<Flight>(folder.path())).unwrap();
    assert_eq!(flights.iter().map(|flight| flight.id).collect::<Vec<_>>(), [1, 2]);
    reads_every_record_once(
        &FileSource::json_lines::<Flight>(folder.path()).split_size(5),
        &Scenario { lives: vec![], last: 2 },
    );
}

#[test]
fn a_bad_record_is_an_error_that_says_where_it_is() {
    let failure = |content: &[u8], decode: fn(&Path) -> ConnectorError| {
        let folder = folder(&[("bad", content)]);
        chain(decode(folder.path()))
    };
    let text = failure(b"good\nb\xffd\n", |path| {
        read(&FileSource::text_lines(path)).unwrap_err()
    });
    assert!(
        text.contains("at byte 5 of the file `/") && text.contains("/bad`: `b\u{fffd}d`: invalid utf-8"),
        "{text}"
    );

    let json = failure(b"{\"id\":1,\"origin\":\"ATL\"}\n{\"id\":2,", |path| {
        read(&FileSource::json_lines::<Flight>(path)).unwrap_err()
    });
    assert!(
        json.contains("at byte 24 of") && json.contains("`{\"id\":2,`: EOF while parsing"),
        "{json}"
    );

    for (row, reason) in [
        ("x,ATL", "invalid digit"),
        ("2", "found record with 1 fields"),
        ("2,a,b", "3 fields"),
    ] {
        let content = format!("id,origin\n1,ATL\n{row}\n");
        let csv = failure(content.as_bytes(), |path| {
            read(&FileSource::csv::<Flight>(path)).unwrap_err()
        });
        assert!(
            csv.contains("at byte 16 of the file `/") && csv.contains(&format!("`{row}`")),
            "{csv}"
        );
        assert!(csv.contains(reason), "{csv}");
    }

    let column = failure(b"id,start\n1,ATL\n", |path| {
        read(&FileSource::csv::<Flight>(path)).unwrap_err()
    });
    assert!(column.contains("missing field `origin`"), "{column}");
}

#[test]
fn a_long_bad_record_is_shortened() {
    let content = format!("{{{}", "é".repeat(10_000));
    let folder = folder(&[("a", content.as_bytes())]);
    let error = read(&FileSource::json_lines::<Flight>(folder.path()))
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("éé…`") && error.chars().count() < 300, "{error}");
}

#[test]
fn bytes_appended_after_the_start_are_not_read() {
    let folder = folder(&[("a", b"id,origin\n1,ATL\n2,JF")]);
    let path = folder.path().join("a");
    let (text, csv) = (FileSource::text_lines(&path), FileSource::csv::<Flight>(&path));
    let (text_splits, csv_splits) = (text.enumerate(1).unwrap(), csv.enumerate(1).unwrap());
    fs::write(&path, b"id,origin\n1,ATL\n2,JFK\n3,SFO\n").unwrap();
    assert_eq!(read_splits(&text, text_splits).unwrap(), ["id,origin", "1,ATL", "2,JF"]);
    let flights = read_splits(&csv, csv_splits).unwrap();
    assert_eq!(
        flights.iter().map(|flight| flight.origin.as_str()).collect::<Vec<_>>(),
        ["ATL", "JF"]
    );
}

#[test]
fn a_file_that_shrank_or_was_replaced_or_is_gone_is_an_error() {
    let folder = folder(&[("a", b"one\ntwo\nthree\n")]);
    let path = folder.path().join("a");
    let source = FileSource::text_lines(&path);
    let splits = source.enumerate(1).unwrap();
    let mut reader = source.reader().unwrap();
    reader.add_splits(splits).unwrap();
    reader.poll(&mut Vec::new(), 1).unwrap();
    assert_eq!(reader.poll(&mut Vec::new(), 1).unwrap(), SourceStatus::More);
    let splits = reader.snapshot();
    assert_eq!(splits[0].position, 8);
    assert_eq!(from_row::<FileSplit>(&to_row(&splits[0])).unwrap(), splits[0]);
    let error = || read_splits(&source, splits.clone()).unwrap_err().to_string();

    fs::write(&path, b"one\n").unwrap();
    assert!(
        error().contains("has 4 bytes where it had 14") && error().contains("from byte 8 on"),
        "{}",
        error()
    );
    fs::write(&path, b"One\ntwo\nthree\n").unwrap();
    assert!(error().contains("is not the one that was there"), "{}", error());
    fs::remove_file(&path).unwrap();
    assert!(error().starts_with("cannot read the file `/"), "{}", error());
    assert!(
        source.reader().unwrap().add_splits(splits.clone()).is_ok(),
        "nothing is opened before its turn"
    );
}

#[test]
fn a_file_that_shrinks_while_it_is_read_is_an_error() {
    let folder = folder(&[("a", "line\n".repeat(200_000).as_bytes())]);
    let path = folder.path().join("a");
    let source = FileSource::text_lines(&path);
    let mut reader = source.reader().unwrap();
    reader.add_splits(source.enumerate(1).unwrap()).unwrap();
    reader.poll(&mut Vec::new(), 10).unwrap();
    fs::write(&path, "line\n").unwrap();
    let error = chain(reader.poll(&mut Vec::new(), 200_000).unwrap_err());
    assert!(error.contains("at byte 262144: the file now ends here"), "{error}");
}

#[test]
fn a_huge_input_is_cut_into_no_more_splits_than_a_snapshot_can_hold() {
    let folder = folder(&[("a", &[b'\n'; 200_000])]);
    let splits = FileSource::text_lines(folder.path())
        .split_size(1)
        .enumerate(1)
        .unwrap();
    assert!(splits.len() > 40_000 && splits.len() <= 65_536, "{}", splits.len());
    let covered: u64 = splits.iter().map(|split| split.end - split.start).sum();
    assert_eq!(covered, 200_000);
}
