//! Frames on their way into a socket, so arranged that one system call takes many.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use super::frame::Frame;

/// Up to this size a payload is copied behind its header, which is cheaper than a slice of its own.
const COPIED_PAYLOAD_BYTES: usize = 1 << 10;
/// Headers and small payloads are gathered in pieces of this size.
const PIECE_BYTES: usize = 16 << 10;

/// Frames as a chain of pieces of memory: large payloads where they are, headers and small payloads gathered.
#[derive(Default)]
pub(crate) struct WriteQueue {
    pieces: VecDeque<Bytes>,
    /// The end of the chain, still growing.
    tail: BytesMut,
    remaining: usize,
}

impl WriteQueue {
    pub(crate) fn push(&mut self, frame: Frame) {
        let Frame { header, lead, payload } = frame;
        self.remaining += header.len() + lead.len() + payload.len();
        let copied = header.len() + lead.len() + COPIED_PAYLOAD_BYTES;
        if self.tail.capacity() - self.tail.len() < copied {
            self.seal();
            self.tail.reserve(PIECE_BYTES.max(copied));
        }
        self.tail.extend_from_slice(&header);
        self.tail.extend_from_slice(&lead);
        if payload.len() <= COPIED_PAYLOAD_BYTES {
            self.tail.extend_from_slice(&payload);
        } else {
            self.seal();
            self.pieces.push_back(payload);
        }
    }

    /// Makes the tail a piece of the chain.
    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }
}

impl Buf for WriteQueue {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&self.tail[..], |piece| &piece[..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = Some(&self.tail[..]).filter(|tail| !tail.is_empty());
        let pieces = self.pieces.iter().map(|piece| &piece[..]).chain(tail);
        slices
            .iter_mut()
            .zip(pieces)
            .map(|(slice, piece)| *slice = IoSlice::new(piece))
            .count()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "cannot advance beyond the end");
        self.remaining -= count;
        while let Some(piece) = self.pieces.front_mut() {
            if count < piece.len() {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
        self.tail.advance(count);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::network::frame::Draft;
    use crate::origin::Origin;

    fn queue(sizes: &[usize]) -> (WriteQueue, Vec<u8>) {
        let mut queue = WriteQueue::default();
        let mut expected = Vec::new();
        for (sequence, size) in (0..).zip(sizes) {
            let payload: Vec<u8> = (0..*size).map(|byte| byte as u8).collect();
            let source = Arc::from("x".repeat(size % 300));
            let frame = Draft::records(1, &Origin::read(&source, 0, &[]), Bytes::from(payload)).finish(7, sequence);
            expected.extend_from_slice(&frame.header);
            expected.extend_from_slice(&frame.lead);
            expected.extend_from_slice(&frame.payload);
            queue.push(frame);
        }
        (queue, expected)
    }

    #[test]
    fn the_bytes_come_out_in_order_at_whatever_step() {
        let sizes: Vec<usize> = (0..60).map(|n| n * 137 % 3000).collect();
        for step in [7, 24, 25, 1000, 100_000] {
            let (mut queue, expected) = queue(&sizes);
            let mut written = Vec::new();
            while queue.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 8];
                let filled = queue.chunks_vectored(&mut slices);
                let seen: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
                let take = step.min(seen.len());
                assert!(take > 0 && queue.chunk()[0] == seen[0]);
                written.extend_from_slice(&seen[..take]);
                queue.advance(take);
            }
            assert!(written == expected, "step {step}");
        }
    }
}
