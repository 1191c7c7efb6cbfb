use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use streamd_core::error::chain;
use streamd_core::sink::{Sink, SinkWriter};
use streamd_core::source::{ConnectorError, Source, SourceReader, SourceStatus};

use crate::conformance::sink::{Suite, context};
use crate::conformance::source::{Scenario, reads_every_record_once};
use crate::file::sink::RollingPolicy;
use crate::{FileSink, FileSource};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum Kind {
    Arrival,
    Departure,
}

#[derive(Debug, Clone, PartialEq, PartialOrd, Serialize, Deserialize)]
struct Place {
    name: String,
    position: Option<(f64, f64)>,
}

#[derive(Debug, Clone, PartialEq, PartialOrd, Serialize, Deserialize)]
struct Flight {
    number: u64,
    delay: Option<i32>,
    kind: Kind,
    place: Place,
    via: Vec<Option<Place>>,
    code: char,
    is_late: bool,
    small: (i8, u8, i16, u16, u32),
    share: f32,
    seats: BTreeMap<String, Option<u32>>,
    stops: Option<BTreeMap<i64, Vec<Place>>>,
    by_kind: BTreeMap<Kind, BTreeMap<u8, bool>>,
}

fn flight(number: u64) -> Flight {
    let place = |n: u64| Place {
        name: format!("plače {n}"),
        position: (!n.is_multiple_of(3)).then_some((n as f64, -0.5)),
    };
    Flight {
        number,
        delay: (!number.is_multiple_of(2)).then_some(-(number as i32)),
        kind: if number.is_multiple_of(3) {
            Kind::Arrival
        } else {
            Kind::Departure
        },
        place: place(number),
        via: (0..number % 4).map(|n| (n > 0).then(|| place(n))).collect(),
        code: 'é',
        is_late: number.is_multiple_of(5),
        small: (-1, 255, i16::MIN, u16::MAX, number as u32),
        share: 0.25,
        seats: (0..number % 3)
            .map(|n| (format!("class {n}"), (n > 0).then_some(7)))
            .collect(),
        stops: (!number.is_multiple_of(4)).then(|| {
            (0..number % 3)
                .map(|n| (-(n as i64), vec![place(n); n as usize]))
                .collect()
        }),
        by_kind: BTreeMap::from([(Kind::Departure, BTreeMap::from([(number as u8, true)]))]),
    }
}

fn read<T: serde::de::DeserializeOwned + Send + 'static>(path: &Path) -> Result<Vec<T>, ConnectorError> {
    let source = FileSource::parquet::<T>(path);
    let mut reader = source.reader()?;
    reader.add_splits(source.enumerate(1)?)?;
    let mut records = Vec::new();
    while reader.poll(&mut records, 100)? != SourceStatus::End {}
    Ok(records)
}

fn write<T: Serialize + serde::de::DeserializeOwned + Send + 'static>(path: &Path, records: Vec<T>) {
    let sink = FileSink::parquet(path);
    let mut writer = sink.writer(&context(0, "a")).unwrap();
    let mut records = records.into_iter();
    loop {
        let mut batch: Vec<T> = records.by_ref().take(100).collect();
        if batch.is_empty() {
            break;
        }
        writer.write(&mut batch).unwrap();
    }
    sink.commit(&writer.prepare_commit().unwrap()).unwrap();
}

#[test]
fn records_of_every_kind_come_back_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let flights: Vec<Flight> = (0..3_000).map(flight).collect();
    write(folder.path(), flights.clone());
    assert_eq!(read::<Flight>(folder.path()).unwrap(), flights);

    #[derive(Debug, PartialEq, Deserialize)]
    struct Part {
        delay: Option<i64>,
        number: u32,
        #[serde(default)]
        unknown: Option<String>,
    }
    let parts = read::<Part>(folder.path()).unwrap();
    assert_eq!(
        parts[3],
        Part {
            delay: Some(-3),
            number: 3,
            unknown: None
        }
    );
}

#[test]
fn tuples_are_columns_without_names() {
    let folder = tempfile::tempdir().unwrap();
    let pairs: Vec<(String, Option<u64>)> = (0..50).map(|n| (n.to_string(), (n > 7).then_some(n))).collect();
    write(folder.path(), pairs.clone());
    assert_eq!(read::<(String, Option<u64>)>(folder.path()).unwrap(), pairs);
}

#[test]
fn parquet_files_are_exact_over_any_life() {
    for seed in 0..25 {
        let folder = tempfile::tempdir().unwrap();
        // This policy would keep files open, and may not.
        let sink = FileSink::parquet(folder.path()).rolling(RollingPolicy::by_size_and_time());
        Suite {
            sink: &sink,
            record: &|number| (number,),
            view: &|number| number,
            visible: &|| match fs::read_dir(folder.path())
                .unwrap()
                .any(|entry| is_visible(&entry.unwrap()))
            {
                true => read::<(u64,)>(folder.path())
                    .unwrap()
                    .into_iter()
                    .map(|(number,)| number)
                    .collect(),
                false => Vec::new(),
            },
        }
        .survives(seed);
    }
}

fn is_visible(entry: &fs::DirEntry) -> bool {
    !entry.file_name().as_encoded_bytes().starts_with(b".")
}

/// A file of many row groups.
fn in_groups(path: &Path, records: u64, rows: usize) {
    use arrow_array::{RecordBatch, UInt64Array};
    use parquet::file::properties::WriterProperties;
    let numbers = UInt64Array::from_iter_values(0..records);
    let batch = RecordBatch::try_from_iter([("number", std::sync::Arc::new(numbers) as _)]).unwrap();
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows))
        .build();
    let file = fs::File::create(path).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
struct Number {
    number: u64,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_row_comes_once_however_files_and_job_are_cut(
        scenario: Scenario,
        records in 0u64..200,
        rows in 1usize..50,
        split_bytes in 1u64..400,
    ) {
        let folder = tempfile::tempdir().unwrap();
        in_groups(&folder.path().join("a.parquet"), records, rows);
        let source = FileSource::parquet::<Number>(folder.path()).split_size(split_bytes);
        reads_every_record_once(&source, &scenario);
        let numbers: Vec<u64> = read::<Number>(folder.path()).unwrap().iter().map(|row| row.number).collect();
        prop_assert!(numbers.into_iter().eq(0..records));
    }
}

#[test]
fn a_split_is_a_row_group_or_several_small_ones() {
    let folder = tempfile::tempdir().unwrap();
    in_groups(&folder.path().join("a"), 100, 10);
    let bounds = |bytes| {
        let source = FileSource::parquet::<Number>(folder.path()).split_size(bytes);
        let splits = source.enumerate(1).unwrap();
        splits.iter().map(|split| (split.start, split.end)).collect::<Vec<_>>()
    };
    assert_eq!(bounds(1), (0..10).map(|n| (n * 10, n * 10 + 10)).collect::<Vec<_>>());
    assert_eq!(bounds(u64::MAX), [(0, 100)]);
}

#[test]
fn a_file_that_is_damaged_or_none_or_does_not_fit_is_an_error_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    in_groups(&path, 5_000, 1_000);
    let whole = fs::read(&path).unwrap();
    let failure = || chain(&read::<Number>(&path).unwrap_err());
    for length in [3, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = failure();
        assert!(error.starts_with("cannot read the Parquet file `/"), "{error}");
        assert!(
            error.contains("/a.parquet`: it is damaged, incomplete or none"),
            "{error}"
        );
    }
    fs::write(&path, &whole).unwrap();

    #[derive(Debug, Deserialize)]
    struct Small {
        #[expect(dead_code, reason = "it is only read")]
        number: u8,
    }
    let error = chain(&read::<Small>(&path).unwrap_err());
    assert!(
        error.starts_with("cannot read row 256 of the Parquet file `/")
            && error.contains("column `number`: invalid value"),
        "{error}"
    );

    let source = FileSource::parquet::<Number>(&path);
    let splits = source.enumerate(1).unwrap();
    in_groups(&path, 5_001, 1_000);
    let mut reader = source.reader().unwrap();
    reader.add_splits(splits).unwrap();
    let mut read = || -> Result<(), ConnectorError> {
        while reader.poll(&mut Vec::new(), 10)? != SourceStatus::End {}
        Ok(())
    };
    let error = chain(&read().unwrap_err());
    assert!(error.contains("bytes where it had"), "{error}");
}

#[test]
fn a_type_without_columns_is_refused_before_the_job_runs() {
    #[derive(Serialize, Deserialize)]
    struct WithMap {
        map: BTreeMap<Option<String>, u64>,
    }
    #[derive(Serialize, Deserialize)]
    struct Nested {
        inner: Vec<Nested>,
    }
    #[derive(Serialize, Deserialize)]
    enum WithFields {
        One(u64),
    }
    fn refusal<T: Serialize + serde::de::DeserializeOwned + Send + 'static>() -> String {
        let folder = tempfile::tempdir().unwrap();
        chain(&FileSink::<T>::parquet(folder.path()).check().unwrap_err())
    }
    assert!(refusal::<WithMap>().contains("the keys of a map may be missing"));
    assert!(refusal::<Nested>().contains("does it contain itself?"));
    assert!(refusal::<(WithFields,)>().contains("variants with fields"));
    assert!(refusal::<u64>().contains("`u64` has no columns: it is no struct"));
}

fn python(script: &str, folder: &Path) -> String {
    let ran = Command::new(servers::python())
        .args(["-c", script])
        .arg(folder)
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).unwrap()
}

#[test]
fn what_is_written_pyarrow_reads_and_what_pyarrow_writes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join("ours"), (0..1_000).map(flight).collect());
    let script = r#"
import sys, datetime, pathlib, pyarrow as pa, pyarrow.parquet as pq
folder = pathlib.Path(sys.argv[1])
ours = pq.read_table(folder / "ours")
rows = ours.to_pylist()
assert len(rows) == 1000, len(rows)
print(ours.schema.field("number").type, ours.schema.field("delay").type, ours.schema.field("delay").nullable)
print(rows[5]["seats"], rows[5]["by_kind"], rows[4]["stops"], ours.schema.field("seats").type.item_type)
print(rows[5]["place"], rows[5]["kind"], rows[5]["via"], rows[5]["delay"], rows[6]["delay"])
theirs = pa.table({
    "number": pa.array(range(2500), pa.int32()),
    "text": pa.array([None if n % 2 else str(n) for n in range(2500)]).dictionary_encode(),
    "at": pa.array([datetime.datetime(2026, 11, 21, tzinfo=datetime.timezone.utc)] * 2500, pa.timestamp("ms", "UTC")),
    "day": pa.array([datetime.date(1970, 1, 3)] * 2500),
    "tags": pa.array([["a", "b"]] * 2500),
    "sizes": pa.array([[("a", 1), ("b", None)]] * 2500, pa.map_(pa.string(), pa.int16())),
})
for codec in ["snappy", "gzip", "zstd", "lz4", "none"]:
    (folder / "theirs").mkdir(exist_ok=True)
    pq.write_table(theirs, folder / "theirs" / f"{codec}.parquet", compression=codec, row_group_size=700)
"#;
    let shown = python(script, folder.path());
    assert_eq!(
        shown,
        "uint64 int32 True\n\
         [('class 0', None), ('class 1', 7)] [('Departure', [(5, True)])] None uint32\n\
         {'name': 'plače 5', 'position': {'f0': 5.0, 'f1': -0.5}} Departure [None] -5 None\n"
    );

    #[derive(Debug, PartialEq, Deserialize)]
    struct Theirs {
        number: u64,
        text: Option<String>,
        at: i64,
        day: i32,
        tags: Vec<String>,
        sizes: BTreeMap<String, Option<u64>>,
    }
    let rows = read::<Theirs>(&folder.path().join("theirs")).unwrap();
    assert_eq!(rows.len(), 12_500);
    let expected = Theirs {
        number: 2_000,
        text: Some("2000".to_owned()),
        at: 1_795_219_200_000,
        day: 2,
        tags: vec!["a".to_owned(), "b".to_owned()],
        sizes: BTreeMap::from([("a".to_owned(), Some(1)), ("b".to_owned(), None)]),
    };
    assert_eq!(rows[2_000], expected);
    assert_eq!(rows[2_001].text, None);
}
