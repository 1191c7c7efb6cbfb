//! The socket source.

use std::io::{ErrorKind, Read};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use memchr::memchr;
use streamd_core::graph::Guarantee;
use streamd_core::row::{DataType, RowError, RowReader};
use streamd_core::source::{ConnectorError, Source, SourceReader, SourceStatus, Stretch, Unit};
use streamd_core::state::State;

/// How long the reader waits where nothing has come: short enough for a person who types.
const PAUSE: Duration = Duration::from_millis(10);

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// The longest line. A longer one is no text, and would fill the memory.
const MAX_LINE_BYTES: usize = 1024 * 1024;

/// Connects to a server, and reads the lines that it sends until it closes the connection. One subtask reads.
///
/// Guarantee: at-most-once. What was sent before a failure is not sent again, and what is sent while nobody is connected is the
/// server's to keep. So is the whole job at most once that has such a source.
///
/// ```
/// # use streamd_connectors::SocketTextSource;
/// let lines = SocketTextSource::new("localhost", 9999);
/// ```
#[derive(Debug, Clone)]
pub struct SocketTextSource {
    host: String,
    port: u16,
}

impl SocketTextSource {
    /// The lines of the server at this host and port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }
}

/// A connection: there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketSplit {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether the server has closed it: then all is read.
    pub is_closed: bool,
}

impl State for SocketSplit {
    fn data_type() -> DataType {
        DataType::structure(
            "SocketSplit",
            [
                ("host", DataType::String),
                ("port", DataType::UInt16),
                ("is_closed", DataType::Bool),
            ],
        )
    }

    fn encode(&self, row: &mut Vec<u8>) {
        self.host.encode(row);
        self.port.encode(row);
        self.is_closed.encode(row);
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(Self {
            host: String::decode(row)?,
            port: u16::decode(row)?,
            is_closed: bool::decode(row)?,
        })
    }
}

impl Source for SocketTextSource {
    type Out = String;
    type Split = SocketSplit;
    type Reader = SocketReader;

    fn guarantee(&self) -> Guarantee {
        Guarantee::AtMostOnce
    }

    /// Does not connect: a server may take the first connection for the only one.
    fn enumerate(&self, _parallelism: u32) -> Result<Vec<SocketSplit>, ConnectorError> {
        Ok(vec![SocketSplit {
            host: self.host.clone(),
            port: self.port,
            is_closed: false,
        }])
    }

    fn reader(&self) -> Result<SocketReader, ConnectorError> {
        Ok(SocketReader {
            connections: Vec::new(),
            last_read: Vec::new(),
        })
    }
}

/// Reads the lines of a connection.
#[derive(Debug)]
pub struct SocketReader {
    /// One, or none where another subtask has it.
    connections: Vec<Connection>,
    last_read: Vec<Stretch>,
}

#[derive(Debug)]
struct Connection {
    split: SocketSplit,
    /// `None` once it is closed.
    stream: Option<TcpStream>,
    /// What has come and is not handed out: `bytes[start..]`.
    bytes: Vec<u8>,
    start: usize,
    lines: u64,
    /// Of the server, for messages.
    name: Arc<str>,
}

impl Connection {
    fn open(split: SocketSplit) -> Result<Self, ConnectorError> {
        let stream = match split.is_closed {
            true => None,
            false => Some(connect(&split)?),
        };
        Ok(Self {
            name: Arc::from(format!("{}:{}", split.host, split.port)),
            split,
            stream,
            bytes: Vec::new(),
            start: 0,
            lines: 0,
        })
    }

    /// The next line that has come whole.
    fn line(&mut self) -> Result<Option<String>, ConnectorError> {
        let unread = &self.bytes[self.start..];
        let (line, length) = match memchr(b'\n', unread) {
            Some(end) => (&unread[..end], end + 1),
            None if self.stream.is_none() && !unread.is_empty() => (unread, unread.len()),
            None => return Ok(None),
        };
        self.lines += 1;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = std::str::from_utf8(line).map_err(|cause| {
            let message = format!(
                "cannot read line {} of this connection to {}",
                self.lines,
                self.server()
            );
            ConnectorError::caused(message, cause)
        })?;
        let text = text.to_owned();
        self.start += length;
        Ok(Some(text))
    }

    /// Reads what has come. Returns whether anything has.
    fn receive(&mut self) -> Result<bool, ConnectorError> {
        self.bytes.drain(..self.start);
        self.start = 0;
        if self.bytes.len() > MAX_LINE_BYTES {
            return Err(ConnectorError::new(format!(
                "line {} from {} is longer than {MAX_LINE_BYTES} bytes",
                self.lines + 1,
                self.server()
            )));
        }
        let Some(stream) = self.stream.as_mut() else {
            return Ok(false);
        };
        let had = self.bytes.len();
        self.bytes.resize(had + BUFFER_BYTES, 0);
        let read = stream.read(&mut self.bytes[had..]);
        self.bytes.truncate(had + read.as_ref().map_or(0, |count| *count));
        match read {
            Ok(0) => {
                self.stream = None;
                Ok(true)
            }
            Ok(_) => Ok(true),
            Err(cause) if matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(false),
            Err(cause) => {
                let message = format!("the connection to {} broke after {} lines", self.server(), self.lines);
                Err(ConnectorError::caused(message, cause))
            }
        }
    }

    fn is_at_end(&self) -> bool {
        self.stream.is_none() && self.start == self.bytes.len()
    }

    fn server(&self) -> String {
        format!("`{}`", self.name)
    }
}

fn connect(split: &SocketSplit) -> Result<TcpStream, ConnectorError> {
    let (host, port) = (&split.host, split.port);
    let cannot_connect = |cause| ConnectorError::caused(format!("cannot connect to `{host}:{port}`"), cause);
    let addresses = (&**host, port).to_socket_addrs().map_err(cannot_connect)?;
    let mut failure = std::io::Error::new(ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nonblocking(true).map_err(cannot_connect)?;
                return Ok(stream);
            }
            Err(cause) => failure = cause,
        }
    }
    Err(cannot_connect(failure))
}

impl SourceReader for SocketReader {
    type Out = String;
    type Split = SocketSplit;

    fn add_splits(&mut self, splits: Vec<SocketSplit>) -> Result<(), ConnectorError> {
        for split in splits {
            self.connections.push(Connection::open(split)?);
        }
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<String>, limit: usize) -> Result<SourceStatus, ConnectorError> {
        let before = out.len();
        let mut has_received = false;
        self.last_read.clear();
        for connection in &mut self.connections {
            let from = connection.lines;
            while out.len() < before + limit {
                if let Some(line) = connection.line()? {
                    out.push(line);
                } else if connection.receive()? {
                    has_received = true;
                } else {
                    break;
                }
            }
            if connection.lines > from {
                self.last_read.push(Stretch {
                    of: Some(Arc::clone(&connection.name)),
                    unit: Unit::Lines,
                    from,
                    to: connection.lines,
                });
            }
        }
        Ok(if self.connections.iter().all(Connection::is_at_end) {
            SourceStatus::End
        } else if has_received || out.len() > before {
            SourceStatus::More
        } else {
            SourceStatus::Idle(PAUSE)
        })
    }

    fn last_read(&self) -> &[Stretch] {
        &self.last_read
    }

    fn snapshot(&self) -> Vec<SocketSplit> {
        let split = |connection: &Connection| SocketSplit {
            is_closed: connection.is_at_end(),
            ..connection.split.clone()
        };
        self.connections.iter().map(split).collect()
    }
}
