//! The producing end of a connection: connects, then writes frames in turn and reads credit.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Buf;
use streamd_core::id::WorkerId;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::error::NetworkError;
use super::frame::{FrameError, FrameKind, FrameReader, reason_of};
use super::handshake::{HandshakeError, Hello, introduce};
use super::key::ChannelKey;
use super::options::DataPlaneOptions;
use super::outlet::{Outlet, SendTurns};
use super::write_queue::WriteQueue;
use crate::channel::{ChannelLoss, ChannelSender};
use crate::encode::count_of;
use crate::inbox::lock;
use crate::wake::Waker;

/// Bytes gathered for one write, one frame of each channel in turn: a few full batches, enough to fill a system call.
const WRITE_BYTES: usize = 256 << 10;
/// The pause after the first failed try to connect; it doubles up to [`MAX_RETRY_PAUSE`].
const FIRST_RETRY_PAUSE: Duration = Duration::from_millis(20);
/// The longest pause between two tries to connect.
const MAX_RETRY_PAUSE: Duration = Duration::from_millis(500);

/// The channels to one worker, as the slot threads see them.
pub(crate) struct OutgoingLink {
    peer: WorkerId,
    turns: Arc<SendTurns>,
    outlets: Mutex<Outlets>,
}

#[derive(Default)]
struct Outlets {
    /// By number.
    channels: Vec<Arc<Outlet>>,
    loss: Option<ChannelLoss>,
}

/// How to reach the worker, and what to say to it.
pub(crate) struct Route {
    pub(crate) address: String,
    pub(crate) hello: Hello,
    pub(crate) options: Arc<DataPlaneOptions>,
}

impl OutgoingLink {
    pub(crate) fn new(peer: WorkerId) -> Arc<Self> {
        Arc::new(Self {
            peer,
            turns: Arc::default(),
            outlets: Mutex::default(),
        })
    }

    /// A new channel. Its open frame is in line before that of the next: the numbers arrive in order.
    pub(crate) fn open(&self, key: ChannelKey, options: &DataPlaneOptions, producer: Waker) -> ChannelSender {
        let mut outlets = lock(&self.outlets);
        let channel = count_of(outlets.channels.len());
        let outlet = Arc::new(Outlet::new(channel, key, &self.turns, options, producer));
        outlets.channels.push(Arc::clone(&outlet));
        let loss = outlets.loss.clone();
        drop(outlets);
        if let Some(loss) = loss {
            outlet.lose(loss);
        }
        ChannelSender::remote(outlet)
    }

    /// All channels are lost, those too that are opened later.
    pub(crate) fn lose(&self, error: NetworkError) {
        let loss = ChannelLoss::Connection(Arc::new(error));
        let mut outlets = lock(&self.outlets);
        outlets.loss = Some(loss.clone());
        let channels = outlets.channels.clone();
        drop(outlets);
        channels.iter().for_each(|outlet| outlet.lose(loss.clone()));
    }

    /// Takes frames for one write, one of each channel in turn.
    fn gather(&self, queue: &mut WriteQueue) {
        let outlets = lock(&self.outlets);
        while queue.remaining() < WRITE_BYTES {
            let Some(channel) = self.turns.pop() else { return };
            if let Some(frame) = outlets.channels[channel as usize].take_turn() {
                queue.push(frame);
            }
        }
    }

    fn outlet(&self, channel: u32) -> Result<Arc<Outlet>, FrameError> {
        let outlets = lock(&self.outlets);
        let outlet = outlets.channels.get(channel as usize);
        outlet.cloned().ok_or(FrameError::UnknownChannel { channel })
    }
}

/// Carries the channels until the connection breaks or the attempt is closed. Loses them all in the end.
pub(crate) async fn run(link: Arc<OutgoingLink>, route: Route, token: CancellationToken) {
    let connected = tokio::select! {
        connected = connect(&route) => connected,
        () = token.cancelled() => Err(NetworkError::Closed),
    };
    let error = match connected {
        Ok(stream) => carry(&link, stream, &route.options, &token).await,
        Err(error) => error,
    };
    tracing::debug!(peer = %link.peer, %error, "the connection to a worker ended");
    link.lose(error);
}

/// Tries until it succeeds, is refused for good, or the time is up.
async fn connect(route: &Route) -> Result<TcpStream, NetworkError> {
    let mut last = None;
    let tries = async {
        let mut pause = FIRST_RETRY_PAUSE;
        loop {
            match try_connect(route).await {
                Ok(stream) => return Ok(stream),
                Err(error) if error.is_final() => return Err(error),
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_RETRY_PAUSE);
        }
    };
    match tokio::time::timeout(route.options.connect_timeout, tries).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(source)) => Err(NetworkError::Refused {
            peer: route.hello.to,
            address: route.address.clone(),
            source,
        }),
        Err(_) => Err(NetworkError::Connect {
            peer: route.hello.to,
            address: route.address.clone(),
            timeout: route.options.connect_timeout,
            source: last,
        }),
    }
}

async fn try_connect(route: &Route) -> Result<TcpStream, HandshakeError> {
    let mut stream = TcpStream::connect(&route.address).await.map_err(HandshakeError::Io)?;
    stream.set_nodelay(true).map_err(HandshakeError::Io)?;
    introduce(&mut stream, &route.hello, &route.options.token).await?;
    Ok(stream)
}

enum Ended {
    Reading(NetworkError),
    Writing(Result<(), io::Error>),
}

async fn carry(
    link: &OutgoingLink,
    stream: TcpStream,
    options: &DataPlaneOptions,
    token: &CancellationToken,
) -> NetworkError {
    let (read, write) = stream.into_split();
    let mut reading = pin!(read_notices(link, read));
    let ended = tokio::select! {
        error = &mut reading => Ended::Reading(error),
        result = write_frames(link, write, options.close_grace, token) => Ended::Writing(result),
    };
    match ended {
        Ended::Reading(error) => error,
        Ended::Writing(Err(source)) => NetworkError::Io {
            peer: link.peer,
            source,
        },
        Ended::Writing(Ok(())) => {
            // Closing a socket that holds unread bytes would destroy what the peer has not read: let it close first.
            let _ = tokio::time::timeout(options.close_grace, reading).await;
            NetworkError::Closed
        }
    }
}

/// Writes until the attempt is closed; then what may still be sent, and the end of the stream.
async fn write_frames(
    link: &OutgoingLink,
    mut stream: impl AsyncWrite + Unpin,
    grace: Duration,
    token: &CancellationToken,
) -> Result<(), io::Error> {
    let mut queue = WriteQueue::default();
    let mut deadline = pin!(async {
        token.cancelled().await;
        tokio::time::sleep(grace).await;
    });
    loop {
        link.gather(&mut queue);
        if queue.has_remaining() {
            tokio::select! {
                written = stream.write_all_buf(&mut queue) => written?,
                () = &mut deadline => return Err(io::ErrorKind::TimedOut.into()),
            }
        } else if token.is_cancelled() {
            return stream.shutdown().await;
        } else {
            tokio::select! {
                () = link.turns.changed() => {}
                () = token.cancelled() => {}
            }
        }
    }
}

/// Reads what the consumers have to say, until the connection ends.
pub(crate) async fn read_notices(link: &OutgoingLink, stream: impl AsyncRead + Unpin) -> NetworkError {
    let peer = link.peer;
    let mut reader = FrameReader::new(stream, 0);
    let mut expected = 0;
    loop {
        match read_notice(link, &mut reader, expected).await {
            Ok(Notified::Done) => expected += 1,
            Ok(Notified::Error(reason)) => return NetworkError::Reported { peer, reason },
            Ok(Notified::End) => return NetworkError::PeerClosed { peer },
            Err(FrameError::Io(source)) => return NetworkError::Io { peer, source },
            Err(source) => return NetworkError::Frame { peer, source },
        }
    }
}

enum Notified {
    Done,
    Error(String),
    End,
}

async fn read_notice<R>(link: &OutgoingLink, reader: &mut FrameReader<R>, expected: u64) -> Result<Notified, FrameError>
where
    R: AsyncRead + Unpin,
{
    let Some(header) = reader.header().await? else {
        return Ok(Notified::End);
    };
    let payload = reader.payload(&header).await?;
    if header.sequence != expected {
        return Err(FrameError::Sequence {
            channel: header.channel,
            expected,
            found: header.sequence,
        });
    }
    match header.kind {
        FrameKind::Credit => link.outlet(header.channel)?.add_credit((&payload[..]).get_u32_le()),
        FrameKind::Stop => link.outlet(header.channel)?.consumer_gone(),
        FrameKind::Error => return Ok(Notified::Error(reason_of(&payload))),
        kind @ (FrameKind::Open
        | FrameKind::Records
        | FrameKind::Barrier
        | FrameKind::EndOfData
        | FrameKind::Close
        | FrameKind::Watermark) => {
            return Err(FrameError::Direction { kind });
        }
    }
    Ok(Notified::Done)
}
