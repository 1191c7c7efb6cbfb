//! What sources and sinks read from the world.

#![allow(
    clippy::redundant_closure,
    reason = "a generic function is none for paths of every lifetime"
)]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;

use serde::Deserialize;
use streamd_connectors::{FileSource, SocketTextSource};
use streamd_core::source::{Source, SourceReader, SourceStatus};

use crate::waiting::wait;

/// Records that are read of one input: compressed, a few bytes can hold any number of them.
const MOST_RECORDS: usize = 1 << 16;

/// A record with something of everything that columns can hold.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "fields are there to be read from a file")]
struct Flight {
    number: u32,
    airport: String,
    delay: Option<i64>,
    late: bool,
    share: f64,
    #[serde(default)]
    stops: Vec<(String, i16)>,
    #[serde(default)]
    by_class: BTreeMap<String, Option<u8>>,
}

/// A row of a file of comma-separated values.
#[derive(Debug, Deserialize)]
#[expect(dead_code, reason = "fields are there to be read from a file")]
struct Row {
    number: u32,
    airport: String,
    delay: Option<i64>,
    late: bool,
    share: f64,
}

/// A file of text, and of one JSON value on each line.
pub fn lines(bytes: &[u8]) -> bool {
    let text = read("lines.txt", bytes, |path| FileSource::text_lines(path));
    let typed = read("lines.json", bytes, |path| FileSource::json_lines::<Flight>(path));
    let any = read("lines.json", bytes, |path| {
        FileSource::json_lines::<serde_json::Value>(path)
    });
    text | typed | any
}

/// A file of comma-separated values.
pub fn csv(bytes: &[u8]) -> bool {
    let typed = read("rows.csv", bytes, |path| FileSource::csv::<Row>(path));
    typed | read("rows.csv", bytes, |path| FileSource::csv::<(String, i64)>(path))
}

/// A file that is compressed, in each of the ways.
pub fn compressed(bytes: &[u8]) -> bool {
    let as_one = |name: &str| read(name, bytes, |path| FileSource::text_lines(path));
    let names = ["a.gz", "a.bz2", "a.zst", "a.lz4"];
    names.into_iter().filter(|name| as_one(name)).count() > 0
}

/// A Parquet file.
pub fn parquet(bytes: &[u8]) -> bool {
    let typed = read("rows.parquet", bytes, |path| FileSource::parquet::<Flight>(path));
    let tuple = read("rows.parquet", bytes, |path| {
        FileSource::parquet::<(String, Option<u64>)>(path)
    });
    typed | tuple
}

/// Reads the bytes as a file of this name, to its end or the first error. Returns whether there was a record and no error.
fn read<S: Source>(name: &str, bytes: &[u8], source: impl Fn(&Path) -> S) -> bool {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a file can be written");
    let source = source(&path);
    let Ok(splits) = source.enumerate(2) else { return false };
    let mut reader = source.reader().expect("a reader reads nothing yet");
    reader.add_splits(splits).is_ok() && drain(&mut reader)
}

/// Reads until the end, the first error, or enough. Returns whether there was a record and no error.
fn drain<R: SourceReader>(reader: &mut R) -> bool {
    let (mut records, mut read) = (Vec::new(), 0);
    while read < MOST_RECORDS {
        let status = reader.poll(&mut records, 256);
        read += records.len();
        records.clear();
        let _positions = reader.snapshot();
        match status {
            Ok(SourceStatus::More) => {}
            Ok(SourceStatus::Idle(_pause)) => std::thread::yield_now(),
            Ok(SourceStatus::End) => return read > 0,
            Err(_) => return false,
        }
    }
    true
}

/// What a server sends to the source that reads a socket.
pub fn socket(bytes: &[u8]) -> bool {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = server.local_addr().expect("it has an address").port();
    let source = SocketTextSource::new("127.0.0.1", port);
    let splits = source.enumerate(1).expect("nothing is asked");
    let mut reader = source.reader().expect("a reader reads nothing yet");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut connection, _from) = server.accept().expect("the source connects");
            // It may have given up on what came first.
            let _refused = connection.write_all(bytes);
        });
        reader.add_splits(splits).expect("the server listens");
        let accepted = drain(&mut reader);
        // The server may wait for somebody who reads.
        drop(reader);
        accepted
    })
}

/// What a ledger answers.
pub fn ledger(bytes: &[u8]) -> bool {
    wait(streamd_connectors::ledger::read_answer(bytes)).is_some()
}
