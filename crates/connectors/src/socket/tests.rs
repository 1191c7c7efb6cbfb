use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

use streamd_core::error::chain;
use streamd_core::graph::Guarantee;
use streamd_core::source::{Source, SourceReader, SourceStatus};
use streamd_core::state::{from_row, to_row};

use super::*;

/// A reader, and the server's side of its connection.
fn connected() -> (SocketReader, TcpStream) {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let source = SocketTextSource::new("127.0.0.1", server.local_addr().unwrap().port());
    let mut reader = source.reader().unwrap();
    reader.add_splits(source.enumerate(3).unwrap()).unwrap();
    (reader, server.accept().unwrap().0)
}

/// Polls until there are so many lines.
fn read(reader: &mut SocketReader, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < count {
        reader.poll(&mut lines, 2).unwrap();
        std::thread::yield_now();
    }
    lines
}

fn read_to_end(reader: &mut SocketReader) -> Result<Vec<String>, String> {
    let mut lines = Vec::new();
    while reader.poll(&mut lines, 2).map_err(|error| chain(&error))? != SourceStatus::End {
        std::thread::yield_now();
    }
    Ok(lines)
}

#[test]
fn lines_come_as_they_are_sent_and_the_last_needs_no_end() {
    let (mut reader, mut server) = connected();
    assert!(matches!(
        reader.poll(&mut Vec::new(), 9).unwrap(),
        SourceStatus::Idle(_)
    ));
    server.write_all(b"to be\r\nor ").unwrap();
    assert_eq!(read(&mut reader, 1), ["to be"]);
    server.write_all(b"not\n\nto").unwrap();
    assert_eq!(read(&mut reader, 2), ["or not", ""]);
    drop(server);
    assert_eq!(read_to_end(&mut reader).unwrap(), ["to"]);
}

#[test]
fn a_connection_that_was_closed_is_not_opened_again() {
    let (mut reader, server) = connected();
    assert!(!reader.snapshot()[0].is_closed);
    drop(server);
    assert!(read_to_end(&mut reader).unwrap().is_empty());
    let splits: Vec<SocketSplit> = reader
        .snapshot()
        .iter()
        .map(|split| from_row(&to_row(split)).unwrap())
        .collect();
    let source = SocketTextSource::new("nobody.invalid", 1);
    let mut reader = source.reader().unwrap();
    reader.add_splits(splits).unwrap();
    assert!(read_to_end(&mut reader).unwrap().is_empty());
    assert_eq!(source.guarantee(), Guarantee::AtMostOnce);
}

#[test]
fn bytes_that_are_no_text_and_servers_that_are_none_are_errors() {
    let (mut reader, mut server) = connected();
    server.write_all(b"good\nb\xffd\n").unwrap();
    let error = read_to_end(&mut reader).unwrap_err();
    assert!(
        error.contains("cannot read line 2 of this connection to `127.0.0.1:"),
        "{error}"
    );

    let (mut reader, mut server) = connected();
    let sender = std::thread::spawn(move || drop(server.write_all(&vec![b'x'; 3 << 20])));
    let error = read_to_end(&mut reader).unwrap_err();
    assert!(
        error.contains("line 1 from `127.0.0.1:") && error.contains("is longer than"),
        "{error}"
    );
    drop(reader);
    sender.join().unwrap();

    let free = servers::own_port();
    let source = SocketTextSource::new(free.ip().to_string(), free.port());
    let error = source
        .reader()
        .unwrap()
        .add_splits(source.enumerate(1).unwrap())
        .unwrap_err();
    let error = chain(&error);
    assert!(
        error.contains(&format!("cannot connect to `{free}`: Connection refused")),
        "{error}"
    );
}
