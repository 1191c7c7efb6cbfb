//! The connections that a server accepts: so many at once, and only those that soon say that they speak HTTP/2.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// Connections at once. A cluster of a hundred task managers with ten jobs needs some 1,100; each costs about 20 kB while idle.
const CONNECTIONS: usize = 2048;

/// How long a peer may take for the first bytes of HTTP/2 (posture S11).
const HANDSHAKE: Duration = Duration::from_secs(20);

/// Bytes of the preface that every HTTP/2 client begins with.
const PREFACE_BYTES: usize = 24;

/// The pause after the operating system could not accept a connection, most likely for want of file descriptors: others are
/// closed meanwhile, and the log is not flooded.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The connections of a listener, with the limits of [`limits`](crate::limits). Never ends, and never fails: what cannot be
/// accepted is logged and tried again.
pub fn incoming(listener: TcpListener) -> impl Stream<Item = io::Result<Connection>> {
    capped(listener, CONNECTIONS, HANDSHAKE)
}

fn capped(
    listener: TcpListener,
    connections: usize,
    handshake: Duration,
) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(connections));
    let state = (listener, places, false);
    futures::stream::unfold(state, move |(listener, places, mut is_full)| async move {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => {
                        let connection = Connection::new(stream, place, handshake);
                        return Some((Ok(connection), (listener, places, false)));
                    }
                    Err(_full) if is_full => {}
                    Err(_full) => {
                        is_full = true;
                        tracing::warn!(%peer, connections, "refused a connection: as many as can be are open");
                    }
                },
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    })
}

/// A connection that was accepted. Its place is free again when it is dropped.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// Until the preface has come: what is missing of it, and when patience ends.
    handshake: Option<(usize, Pin<Box<Sleep>>)>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: TcpStream, place: OwnedSemaphorePermit, handshake: Duration) -> Self {
        set_options(&stream);
        Self {
            stream,
            handshake: Some((PREFACE_BYTES, Box::pin(sleep(handshake)))),
            _place: place,
        }
    }
}

/// Best effort: a peer that is gone already will be noticed when it is read from.
fn set_options(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot turn Nagle's algorithm off");
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let Some((missing, patience)) = &mut this.handshake else {
            return read;
        };
        let came = buffer.filled().len() - before;
        if came >= *missing {
            this.handshake = None;
            return read;
        }
        *missing -= came;
        if read.is_pending() {
            ready!(patience.as_mut().poll(cx));
            let reason = "the peer did not say in time that it speaks HTTP/2";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, reason)));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn listener() -> (TcpListener, std::net::SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn one_connection_too_many_is_closed_and_a_place_is_free_again_later() {
        let (listener, address) = listener().await;
        let mut incoming = Box::pin(capped(listener, 1, HANDSHAKE));
        let _first_peer = TcpStream::connect(address).await.unwrap();
        let first = incoming.next().await.unwrap().unwrap();
        let mut second_peer = TcpStream::connect(address).await.unwrap();
        let mut byte = [0];
        let refused = async {
            tokio::select! {
                _ = incoming.next() => panic!("there is no place for it"),
                read = second_peer.read(&mut byte) => read,
            }
        };
        // Closed by the other side: nothing to read, or a reset.
        assert!(matches!(refused.await, Ok(0) | Err(_)));
        drop(first);
        let _third_peer = TcpStream::connect(address).await.unwrap();
        assert!(incoming.next().await.unwrap().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_says_nothing_or_not_enough_is_given_up() {
        for said in [&b""[..], &b"PRI * HTTP/2.0"[..]] {
            let (listener, address) = listener().await;
            let mut incoming = Box::pin(capped(listener, 8, HANDSHAKE));
            let mut peer = TcpStream::connect(address).await.unwrap();
            peer.write_all(said).await.unwrap();
            let mut connection = incoming.next().await.unwrap().unwrap();
            let mut read = Vec::new();
            let error = connection.read_to_end(&mut read).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_has_said_it_may_be_silent_for_ever() {
        let (listener, address) = listener().await;
        let mut incoming = Box::pin(capped(listener, 8, HANDSHAKE));
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(&[b'x'; PREFACE_BYTES]).await.unwrap();
        let mut connection = incoming.next().await.unwrap().unwrap();
        let mut preface = [0; PREFACE_BYTES];
        connection.read_exact(&mut preface).await.unwrap();
        let silence = tokio::time::timeout(HANDSHAKE * 1000, connection.read_u8()).await;
        assert!(silence.is_err(), "{silence:?}");
    }
}
