//! Doors to what reads from connections, for whoever feeds it bytes that no worker sends (`tests/fuzz`).
//!
//! Each takes any bytes, gives its frames the checksums that a forger would give them, reads until the end or the first error, and
//! says whether it was the end.

use std::sync::Arc;

use streamd_core::id::{Attempt, JobId, WorkerId};

use super::error::NetworkError;
use super::frame::{FrameReader, HEADER_BYTES};
use super::handshake::{self, Hello};
use super::inboxes::Inboxes;
use super::incoming::Incoming;
use super::key::ChannelKey;
use super::options::DataPlaneOptions;
use super::outgoing::{OutgoingLink, read_notices};
use crate::wake::Waker;

/// Whoever sends the bytes.
const PEER: WorkerId = WorkerId(7);

/// Bytes of a frame at most: small, as all that is read here.
const MAX_FRAME_BYTES: usize = 1 << 16;

/// Frames that may wait in a channel.
const CREDIT: u32 = 8;

/// The channels that there are: those of source 0 to 3.
fn channels() -> impl Iterator<Item = ChannelKey> {
    (0..4).map(|source| ChannelKey {
        edge: 0,
        source,
        target: 0,
    })
}

/// The bytes as a producer sends them.
pub async fn frames(bytes: &[u8]) -> bool {
    let bytes = sealed(bytes);
    let inboxes = Arc::new(Inboxes::new(CREDIT, std::iter::once(PEER)));
    let (consumer, _parker) = Waker::new();
    let receivers: Vec<_> = channels()
        .map(|key| inboxes.receiver(PEER, key, consumer.clone()))
        .collect();
    let mut reader = FrameReader::new(&bytes[..], MAX_FRAME_BYTES);
    let ended = Incoming::new(PEER, inboxes).read_frames(&mut reader).await;
    drop(receivers);
    is_in_order(&ended)
}

/// The bytes as a consumer sends them, about channels that there are.
pub async fn notices(bytes: &[u8]) -> bool {
    let bytes = sealed(bytes);
    let link = OutgoingLink::new(PEER);
    let (producer, _parker) = Waker::new();
    let senders: Vec<_> = channels()
        .map(|key| link.open(key, &DataPlaneOptions::new("token"), producer.clone()))
        .collect();
    let ended = read_notices(&link, &bytes[..]).await;
    drop(senders);
    is_in_order(&ended)
}

fn is_in_order(ended: &NetworkError) -> bool {
    match ended {
        NetworkError::PeerClosed { .. } | NetworkError::Reported { .. } => true,
        refused => refused.to_string().is_empty(),
    }
}

/// The bytes as somebody who connects begins with, and as somebody who was connected to answers.
pub async fn handshake(bytes: &[u8]) -> bool {
    let heard = handshake::listen(&mut &bytes[..], "token").await;
    let hello = Hello {
        job: JobId::from_bytes([7; 16]),
        attempt: Attempt(1),
        from: WorkerId(1),
        to: PEER,
    };
    let mut answer = tokio::io::join(bytes, tokio::io::sink());
    let introduced = handshake::introduce(&mut answer, &hello, "token").await;
    heard.is_ok() || introduced.is_ok()
}

/// Every whole frame with the checksum that its bytes have.
fn sealed(bytes: &[u8]) -> Vec<u8> {
    let mut sealed = bytes.to_vec();
    let mut at = 0;
    while let Some(frame) = sealed.get_mut(at..).filter(|rest| rest.len() >= HEADER_BYTES) {
        let (header, rest) = frame.split_at_mut(HEADER_BYTES);
        let length = u32::from_le_bytes([header[17], header[18], header[19], header[20]]) as usize;
        let Some(payload) = rest.get(..length) else { break };
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(payload);
        checksum.update(&header[..HEADER_BYTES - 4]);
        header[HEADER_BYTES - 4..].copy_from_slice(&checksum.finalize().to_le_bytes());
        at += HEADER_BYTES + length;
    }
    sealed
}
