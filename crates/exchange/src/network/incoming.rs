//! The consuming end of a connection: reads frames into inboxes and writes credit.
//!
//! Reading never waits for a consumer: whatever a peer may send, there is room for.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use streamd_core::id::WorkerId;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::credit::{CreditLine, Notice, NoticeBoard};
use super::error::NetworkError;
use super::frame::{Draft, FrameError, FrameKind, FrameReader, Header, origin_of, reason_of, watermark_of};
use super::inboxes::Inboxes;
use super::key::ChannelKey;
use super::options::DataPlaneOptions;
use super::write_queue::WriteQueue;
use crate::element::{Element, Payload};
use crate::encode::count_of;
use crate::inbox::{Inbox, Overrun};

/// Channels that one connection may open: more than any pair of workers has, few enough to be held in memory.
const MAX_CHANNELS: u32 = 1 << 20;

/// A connection from a worker of the attempt, past its handshake.
pub(crate) struct Incoming {
    peer: WorkerId,
    inboxes: Arc<Inboxes>,
    board: Arc<NoticeBoard>,
    /// By number.
    channels: Vec<Channel>,
}

struct Channel {
    inbox: Arc<Inbox>,
    /// The number of the next frame.
    sequence: u64,
}

enum Ended {
    Reading(NetworkError),
    Writing(io::Error),
    Closed,
}

/// What a frame came to.
enum Received {
    Done,
    Error(String),
    End,
}

impl Incoming {
    pub(crate) fn new(peer: WorkerId, inboxes: Arc<Inboxes>) -> Self {
        Self {
            peer,
            inboxes,
            board: Arc::default(),
            channels: Vec::new(),
        }
    }

    /// Feeds the inboxes until the connection breaks or the attempt is closed. The channels are lost at once; then the
    /// peer hears the reason, in a time that is bounded.
    pub(crate) async fn run(mut self, stream: TcpStream, options: &DataPlaneOptions, token: CancellationToken) {
        let peer = self.peer;
        let board = Arc::clone(&self.board);
        let inboxes = Arc::clone(&self.inboxes);
        let (read, write) = stream.into_split();
        let mut reader = FrameReader::new(read, options.max_frame_bytes);
        let mut writing = pin!(write_notices(&board, write));
        let ended = tokio::select! {
            error = self.read_frames(&mut reader) => Ended::Reading(error),
            error = &mut writing => Ended::Writing(error),
            () = token.cancelled() => Ended::Closed,
        };
        let (error, reason) = match ended {
            Ended::Writing(source) => {
                inboxes.lose(peer, NetworkError::Io { peer, source });
                return;
            }
            Ended::Reading(error) => {
                let reason = if let NetworkError::Frame { source, .. } = &error {
                    Some(source.to_string())
                } else {
                    None
                };
                (error, reason)
            }
            Ended::Closed => (NetworkError::Closed, None),
        };
        tracing::debug!(%peer, %error, "the connection from a worker ended");
        inboxes.lose(peer, error);
        board.end(reason);
        let last_words = async {
            writing.await;
            discard(reader.into_inner()).await;
        };
        // A peer that does not listen is left alone.
        let _ = tokio::time::timeout(options.close_grace, last_words).await;
    }

    pub(crate) async fn read_frames<R: AsyncRead + Unpin>(&mut self, reader: &mut FrameReader<R>) -> NetworkError {
        let peer = self.peer;
        loop {
            match self.read_frame(reader).await {
                Ok(Received::Done) => {}
                Ok(Received::Error(reason)) => return NetworkError::Reported { peer, reason },
                Ok(Received::End) => return NetworkError::PeerClosed { peer },
                Err(FrameError::Io(source)) => return NetworkError::Io { peer, source },
                Err(source) => return NetworkError::Frame { peer, source },
            }
        }
    }

    async fn read_frame<R: AsyncRead + Unpin>(&mut self, reader: &mut FrameReader<R>) -> Result<Received, FrameError> {
        let Some(header) = reader.header().await? else {
            return Ok(Received::End);
        };
        match header.kind {
            FrameKind::Open => {
                let payload = reader.payload(&header).await?;
                self.open(&header, &payload)?;
            }
            FrameKind::Records
            | FrameKind::Barrier
            | FrameKind::Watermark
            | FrameKind::EndOfData
            | FrameKind::Close => {
                let inbox = self.admit(&header)?;
                let payload = reader.payload(&header).await?;
                deliver(&inbox, &header, payload)?;
            }
            FrameKind::Error => return Ok(Received::Error(reason_of(&reader.payload(&header).await?))),
            kind @ (FrameKind::Credit | FrameKind::Stop) => return Err(FrameError::Direction { kind }),
        }
        Ok(Received::Done)
    }

    fn open(&mut self, header: &Header, payload: &[u8]) -> Result<(), FrameError> {
        let channel = header.channel;
        let expected = count_of(self.channels.len());
        if expected >= MAX_CHANNELS {
            return Err(FrameError::TooManyChannels { limit: MAX_CHANNELS });
        }
        if channel != expected || header.sequence != 0 {
            return Err(FrameError::OpenOrder { channel, expected });
        }
        let key = ChannelKey::from_bytes(payload).ok_or(FrameError::Payload {
            kind: header.kind,
            channel,
            source: None,
        })?;
        let inbox = self.inboxes.open(self.peer, key);
        let line = CreditLine {
            board: Arc::clone(&self.board),
            channel,
        };
        if !inbox.connect(line) {
            return Err(FrameError::OpenTwice { key });
        }
        self.channels.push(Channel { inbox, sequence: 1 });
        Ok(())
    }

    /// The inbox for a frame, if its place is right and there is room for it: asked before its payload is allocated.
    fn admit(&mut self, header: &Header) -> Result<Arc<Inbox>, FrameError> {
        let channel = header.channel;
        let open = self.channels.get_mut(channel as usize);
        let open = open.ok_or(FrameError::UnknownChannel { channel })?;
        if header.sequence != open.sequence {
            return Err(FrameError::Sequence {
                channel,
                expected: open.sequence,
                found: header.sequence,
            });
        }
        open.sequence += 1;
        let admitted = if header.kind == FrameKind::Records {
            open.inbox.admit_records()
        } else {
            open.inbox.admit_control()
        };
        admitted.map_err(|overrun| match overrun {
            Overrun::Credit => FrameError::NoCredit { channel },
            Overrun::Control => FrameError::TooMuchControl { channel },
        })?;
        Ok(Arc::clone(&open.inbox))
    }
}

fn deliver(inbox: &Inbox, header: &Header, payload: Bytes) -> Result<(), FrameError> {
    let element = match header.kind {
        FrameKind::Records => {
            let (origin, records) = origin_of(payload).ok_or(FrameError::Payload {
                kind: header.kind,
                channel: header.channel,
                source: None,
            })?;
            Element::Records {
                payload: Payload::Encoded(records),
                count: header.records,
                origin,
            }
        }
        FrameKind::Barrier => {
            let barrier = bitcode::deserialize(&payload).map_err(|source| FrameError::Payload {
                kind: header.kind,
                channel: header.channel,
                source: Some(source),
            })?;
            Element::Barrier(barrier)
        }
        FrameKind::Watermark => {
            let watermark = watermark_of(&payload).ok_or(FrameError::Payload {
                kind: header.kind,
                channel: header.channel,
                source: None,
            })?;
            Element::Watermark(watermark)
        }
        FrameKind::EndOfData => Element::EndOfData,
        FrameKind::Close => {
            inbox.producer_gone();
            return Ok(());
        }
        kind @ (FrameKind::Open | FrameKind::Credit | FrameKind::Stop | FrameKind::Error) => {
            return Err(FrameError::Direction { kind });
        }
    };
    // A consumer that is gone misses nothing: what is in flight to it is dropped.
    let _ = inbox.put(element);
    Ok(())
}

/// Writes notices until the board is ended; returns when the last of them, the reason, and the end of the stream are
/// written, or with the error that stopped it.
async fn write_notices(board: &NoticeBoard, mut stream: impl AsyncWrite + Unpin) -> io::Error {
    let mut notices = Vec::new();
    let mut queue = WriteQueue::default();
    let mut sequence = 0;
    let mut place = |draft: Draft, channel| {
        let frame = draft.finish(channel, sequence);
        sequence += 1;
        frame
    };
    loop {
        let end = board.drain(&mut notices);
        if notices.is_empty() && end.is_none() {
            board.changed().await;
            continue;
        }
        for notice in notices.drain(..) {
            queue.push(match notice {
                Notice::Credit { channel, frames } => {
                    let payload = BytesMut::from(&frames.to_le_bytes()[..]).freeze();
                    place(Draft::new(FrameKind::Credit, payload), channel)
                }
                Notice::Stop { channel } => place(Draft::empty(FrameKind::Stop), channel),
            });
        }
        if let Some(Some(reason)) = &end {
            queue.push(place(Draft::error(reason), 0));
        }
        if let Err(error) = stream.write_all_buf(&mut queue).await {
            return error;
        }
        if end.is_some() {
            return match stream.shutdown().await {
                Ok(()) => io::ErrorKind::NotConnected.into(),
                Err(error) => error,
            };
        }
    }
}

/// Reads to the end of the stream and forgets it: closing a socket that holds unread bytes would destroy what the peer has
/// not read.
async fn discard(mut stream: impl AsyncRead + Unpin) {
    let mut sink = [0; 4096];
    while matches!(stream.read(&mut sink).await, Ok(1..)) {}
}
