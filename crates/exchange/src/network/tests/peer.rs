//! A worker played by the test, byte by byte, on a plain blocking socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use bytes::Bytes;
use streamd_core::id::{Attempt, JobId, WorkerId};

use super::{ATTEMPT, JOB, LEFT, PATIENCE, RIGHT, TOKEN};
use crate::network::ChannelKey;
use crate::network::frame::{Draft, Frame, FrameKind, HEADER_BYTES};

/// What a scripted worker says first.
pub(super) struct Introduction {
    pub(super) version: u16,
    pub(super) job: JobId,
    pub(super) attempt: Attempt,
    pub(super) from: WorkerId,
    pub(super) to: WorkerId,
    pub(super) token: &'static str,
}

impl Default for Introduction {
    fn default() -> Self {
        Self {
            version: 3,
            job: JOB,
            attempt: ATTEMPT,
            from: LEFT,
            to: RIGHT,
            token: TOKEN,
        }
    }
}

impl Introduction {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = b"streamdx".to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.job.as_bytes());
        bytes.extend(self.attempt.0.to_le_bytes());
        bytes.extend(self.from.0.to_le_bytes());
        bytes.extend(self.to.0.to_le_bytes());
        bytes.extend(u16::try_from(self.token.len()).unwrap().to_le_bytes());
        bytes.extend(self.token.as_bytes());
        bytes
    }

    /// Connects and says it; the socket and the verdict.
    pub(super) fn connect(&self, address: SocketAddr) -> (Peer, u8) {
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&self.to_bytes()).unwrap();
        let mut answer = [0; 11];
        socket.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..10], *b"streamdx\x03\0");
        (Peer { socket }, answer[10])
    }
}

/// The other end of a connection.
pub(super) struct Peer {
    pub(super) socket: TcpStream,
}

/// A frame as the peer reads it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) channel: u32,
    pub(super) kind: u8,
    pub(super) payload: Vec<u8>,
}

impl Peer {
    /// Connects as the left worker and is let in.
    pub(super) fn connect(address: SocketAddr) -> Self {
        let (peer, verdict) = Introduction::default().connect(address);
        assert_eq!(verdict, 0);
        peer
    }

    /// Accepts one connection whatever it says.
    pub(super) fn accept(listener: &TcpListener, hello: &Introduction) -> Self {
        let (mut socket, _) = listener.accept().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut heard = vec![0; hello.to_bytes().len()];
        socket.read_exact(&mut heard).unwrap();
        assert_eq!(heard, hello.to_bytes());
        socket.write_all(b"streamdx\x03\0\0").unwrap();
        Self { socket }
    }

    pub(super) fn write(&mut self, frame: &Frame) {
        self.socket.write_all(&frame.header).unwrap();
        self.socket.write_all(&frame.lead).unwrap();
        self.socket.write_all(&frame.payload).unwrap();
    }

    pub(super) fn open(&mut self, channel: u32, key: ChannelKey) {
        self.write(&frame(FrameKind::Open, key.to_bytes().to_vec(), channel, 0));
    }

    /// The next frame; `None` at the end of the stream.
    pub(super) fn read(&mut self) -> Option<Seen> {
        let mut header = [0; HEADER_BYTES];
        match self.socket.read(&mut header[..1]) {
            Ok(1) => {}
            Ok(_) => return None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("{error}"),
        }
        self.socket.read_exact(&mut header[1..]).unwrap();
        let number = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let mut payload = vec![0; number(17) as usize];
        self.socket.read_exact(&mut payload).unwrap();
        Some(Seen {
            channel: number(0),
            kind: header[12],
            payload,
        })
    }
}

pub(super) fn frame(kind: FrameKind, payload: Vec<u8>, channel: u32, sequence: u64) -> Frame {
    Draft::new(kind, Bytes::from(payload)).finish(channel, sequence)
}
