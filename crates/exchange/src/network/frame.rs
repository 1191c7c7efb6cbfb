//! Frames: what goes over a connection after the handshake.
//!
//! ```text
//!   channel u32 │ sequence u64 │ kind u8 │ records u32 │ length u32 │ crc32 u32 │ payload        (little endian)
//! ```
//!
//! The checksum covers the payload and then the header's other fields. Lengths are checked before anything is allocated.
//!
//! The payload of a batch of records begins with the [`Origin`](crate::origin::Origin) of them all:
//!
//! ```text
//!   length u16 │ origin │ records and timestamps
//! ```

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use streamd_core::time::{EventTime, Watermark};

use super::key::ChannelKey;
use crate::origin::{MAX_ORIGIN_BYTES, Origin};

/// The size of a header in bytes.
pub const HEADER_BYTES: usize = 25;
/// The part of the header that the checksum covers.
const CHECKED_HEADER_BYTES: usize = HEADER_BYTES - 4;
/// The most bytes of a barrier: a location of this length is no URI of a real store.
const MAX_CONTROL_BYTES: usize = 64 << 10;
/// The most bytes of a reason: a line for a person.
pub(crate) const MAX_REASON_BYTES: usize = 1 << 10;
/// The size of a watermark: what it is, and a time.
const WATERMARK_BYTES: usize = 9;
/// The size of the length of an origin.
const ORIGIN_LENGTH_BYTES: usize = 2;
/// What one read takes from the socket beyond the payload at hand: many small frames at once, and a small part of a large
/// one, which is the only part that is copied twice.
const READ_AHEAD_BYTES: usize = 16 << 10;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Producer to consumer: the channel with this number is the one with the key in the payload.
    Open = 1,
    /// Producer to consumer: a batch of records. The only kind that needs credit.
    Records = 2,
    /// Producer to consumer: a barrier.
    Barrier = 3,
    /// Producer to consumer: no records follow.
    EndOfData = 4,
    /// Producer to consumer: nothing follows, the producer is gone.
    Close = 5,
    /// Consumer to producer: so many more frames of records may be sent.
    Credit = 6,
    /// Consumer to producer: nothing is wanted any more, the consumer is gone.
    Stop = 7,
    /// Either way: the connection ends for this reason.
    Error = 8,
    /// Producer to consumer: a watermark.
    Watermark = 9,
}

impl FrameKind {
    fn from_number(number: u8) -> Option<Self> {
        [
            Self::Open,
            Self::Records,
            Self::Barrier,
            Self::EndOfData,
            Self::Close,
            Self::Credit,
            Self::Stop,
            Self::Error,
            Self::Watermark,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }

    /// The least and the most bytes of payload.
    fn length_limits(self, max_frame_bytes: usize) -> (usize, usize) {
        match self {
            Self::Open => (ChannelKey::BYTES, ChannelKey::BYTES),
            Self::Records => (
                ORIGIN_LENGTH_BYTES,
                max_frame_bytes + ORIGIN_LENGTH_BYTES + MAX_ORIGIN_BYTES,
            ),
            Self::Barrier => (1, MAX_CONTROL_BYTES),
            Self::EndOfData | Self::Close | Self::Stop => (0, 0),
            Self::Credit => (4, 4),
            Self::Watermark => (WATERMARK_BYTES, WATERMARK_BYTES),
            Self::Error => (0, MAX_REASON_BYTES),
        }
    }
}

/// What is wrong with a frame, or with its place among the others.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The kind is none of this version.
    #[error("frame kind `{kind}` is unknown")]
    UnknownKind {
        /// The number found.
        kind: u8,
    },
    /// The length does not fit the kind.
    #[error("a frame of kind `{kind:?}` announces {length} bytes, the limits are {least} to {most}")]
    Length {
        /// The kind.
        kind: FrameKind,
        /// The length announced, in bytes.
        length: u32,
        /// The least.
        least: usize,
        /// The most.
        most: usize,
    },
    /// The bytes changed on their way.
    #[error("frame {sequence} of channel `{channel}` is corrupt: checksum {found:08x} instead of {expected:08x}")]
    Checksum {
        /// The number of the channel.
        channel: u32,
        /// The number of the frame.
        sequence: u64,
        /// What the header says.
        expected: u32,
        /// What the bytes give.
        found: u32,
    },
    /// The connection ended within a frame.
    #[error("the connection ended within a frame")]
    Truncated,
    /// A frame is missing or came twice.
    #[error("frame {found} of channel `{channel}` came where {expected} was due")]
    Sequence {
        /// The number of the channel.
        channel: u32,
        /// The number due.
        expected: u64,
        /// The number found.
        found: u64,
    },
    /// The channel was never opened.
    #[error("channel `{channel}` is not open")]
    UnknownChannel {
        /// The number of the channel.
        channel: u32,
    },
    /// Channels are numbered from 0 in the order in which they are opened.
    #[error("channel `{channel}` was opened where `{expected}` was due")]
    OpenOrder {
        /// The number found.
        channel: u32,
        /// The number due.
        expected: u32,
    },
    /// Two channels have one key.
    #[error("channel `{key}` was opened twice")]
    OpenTwice {
        /// The key.
        key: ChannelKey,
    },
    /// More channels than any job has.
    #[error("more than {limit} channels were opened")]
    TooManyChannels {
        /// The limit.
        limit: u32,
    },
    /// Records came without credit.
    #[error("channel `{channel}` got records without credit")]
    NoCredit {
        /// The number of the channel.
        channel: u32,
    },
    /// Control elements came by the thousand.
    #[error("channel `{channel}` got more control elements than may wait")]
    TooMuchControl {
        /// The number of the channel.
        channel: u32,
    },
    /// The kind does not go in this direction.
    #[error("a frame of kind `{kind:?}` came from the wrong side")]
    Direction {
        /// The kind.
        kind: FrameKind,
    },
    /// The payload is not what the kind says.
    #[error("a frame of kind `{kind:?}` on channel `{channel}` cannot be decoded")]
    Payload {
        /// The kind.
        kind: FrameKind,
        /// The number of the channel.
        channel: u32,
        /// Why.
        #[source]
        source: Option<bitcode::Error>,
    },
    /// The socket failed.
    #[error("the connection cannot be read")]
    Io(#[source] io::Error),
}

/// The fixed part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) channel: u32,
    pub(crate) sequence: u64,
    pub(crate) kind: FrameKind,
    /// How many records the payload holds; 0 for other kinds.
    pub(crate) records: u32,
    pub(crate) length: u32,
    pub(crate) checksum: u32,
}

impl Header {
    fn parse(bytes: &[u8; HEADER_BYTES], max_frame_bytes: usize) -> Result<Self, FrameError> {
        let mut fields = &bytes[..];
        let channel = fields.get_u32_le();
        let sequence = fields.get_u64_le();
        let kind = fields.get_u8();
        let kind = FrameKind::from_number(kind).ok_or(FrameError::UnknownKind { kind })?;
        let records = fields.get_u32_le();
        let length = fields.get_u32_le();
        let (least, most) = kind.length_limits(max_frame_bytes);
        if !(least..=most).contains(&(length as usize)) {
            return Err(FrameError::Length {
                kind,
                length,
                least,
                most,
            });
        }
        Ok(Self {
            channel,
            sequence,
            kind,
            records,
            length,
            checksum: fields.get_u32_le(),
        })
    }
}

/// A frame ready to be written.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) header: [u8; HEADER_BYTES],
    /// The beginning of the payload, where that is made of two parts.
    pub(crate) lead: Bytes,
    pub(crate) payload: Bytes,
}

/// A frame before it has its place in a channel: the expensive part of its checksum is done.
pub(crate) struct Draft {
    kind: FrameKind,
    records: u32,
    lead: Bytes,
    payload: Bytes,
    checksum: crc32fast::Hasher,
}

impl Draft {
    pub(crate) fn new(kind: FrameKind, payload: Bytes) -> Self {
        Self::with_lead(kind, 0, Bytes::new(), payload)
    }

    /// A frame of so many records, all of them from there.
    pub(crate) fn records(count: u32, origin: &Origin, payload: Bytes) -> Self {
        let origin = origin.to_bytes();
        let mut lead = BytesMut::with_capacity(ORIGIN_LENGTH_BYTES + origin.len());
        lead.put_u16_le(u16::try_from(origin.len()).expect("origins are limited to less than 64 KiB"));
        lead.put_slice(&origin);
        Self::with_lead(FrameKind::Records, count, lead.freeze(), payload)
    }

    fn with_lead(kind: FrameKind, records: u32, lead: Bytes, payload: Bytes) -> Self {
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(&lead);
        checksum.update(&payload);
        Self {
            kind,
            records,
            lead,
            payload,
            checksum,
        }
    }

    /// Whether it may only leave with credit.
    pub(crate) fn needs_credit(&self) -> bool {
        self.kind == FrameKind::Records
    }

    /// A frame without payload.
    pub(crate) fn empty(kind: FrameKind) -> Self {
        Self::new(kind, Bytes::new())
    }

    /// A frame that tells the other side why the connection ends.
    pub(crate) fn error(reason: &str) -> Self {
        let mut end = reason.len().min(MAX_REASON_BYTES);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        Self::new(FrameKind::Error, Bytes::copy_from_slice(&reason.as_bytes()[..end]))
    }

    /// The frame at its place.
    pub(crate) fn finish(mut self, channel: u32, sequence: u64) -> Frame {
        let mut header = [0; HEADER_BYTES];
        let length =
            u32::try_from(self.lead.len() + self.payload.len()).expect("frames are limited to far less than 4 GiB");
        let mut fields = &mut header[..];
        fields.put_u32_le(channel);
        fields.put_u64_le(sequence);
        fields.put_u8(self.kind as u8);
        fields.put_u32_le(self.records);
        fields.put_u32_le(length);
        self.checksum.update(&header[..CHECKED_HEADER_BYTES]);
        header[CHECKED_HEADER_BYTES..].copy_from_slice(&self.checksum.finalize().to_le_bytes());
        Frame {
            header,
            lead: self.lead,
            payload: self.payload,
        }
    }
}

/// Reads frames from a connection: first the header, then, if it pleases, the payload.
///
/// Not cancel-safe: after a dropped future the stream is in the middle of a frame.
pub(crate) struct FrameReader<R> {
    stream: R,
    /// What was read beyond the last frame; never shared, so that its memory is used again and again.
    ahead: BytesMut,
    header: [u8; HEADER_BYTES],
    max_frame_bytes: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(crate) fn new(stream: R, max_frame_bytes: usize) -> Self {
        Self {
            stream,
            ahead: BytesMut::with_capacity(READ_AHEAD_BYTES),
            header: [0; HEADER_BYTES],
            max_frame_bytes,
        }
    }

    /// The stream, in the middle of whatever it was.
    pub(crate) fn into_inner(self) -> R {
        self.stream
    }

    /// The next header; `None` where the connection ends between two frames.
    pub(crate) async fn header(&mut self) -> Result<Option<Header>, FrameError> {
        while self.ahead.len() < HEADER_BYTES {
            let missing = READ_AHEAD_BYTES - self.ahead.len();
            self.ahead.reserve(missing);
            let read = self.stream.read_buf(&mut (&mut self.ahead).limit(missing)).await;
            if read.map_err(FrameError::Io)? == 0 {
                return if self.ahead.is_empty() {
                    Ok(None)
                } else {
                    Err(FrameError::Truncated)
                };
            }
        }
        self.ahead.copy_to_slice(&mut self.header);
        Header::parse(&self.header, self.max_frame_bytes).map(Some)
    }

    /// The payload of the header just read, in memory of its own: a small frame that waits pins nothing large.
    pub(crate) async fn payload(&mut self, header: &Header) -> Result<Bytes, FrameError> {
        let length = header.length as usize;
        let mut payload = BytesMut::with_capacity(length);
        let buffered = length.min(self.ahead.len());
        payload.extend_from_slice(&self.ahead[..buffered]);
        self.ahead.advance(buffered);
        while payload.len() < length {
            let missing = length - payload.len();
            let read = self.stream.read_buf(&mut (&mut payload).limit(missing)).await;
            if read.map_err(FrameError::Io)? == 0 {
                return Err(FrameError::Truncated);
            }
        }
        self.verify(header, &payload)?;
        Ok(payload.freeze())
    }

    fn verify(&self, header: &Header, payload: &[u8]) -> Result<(), FrameError> {
        let mut checksum = crc32fast::Hasher::new();
        checksum.update(payload);
        checksum.update(&self.header[..CHECKED_HEADER_BYTES]);
        let found = checksum.finalize();
        if found == header.checksum {
            return Ok(());
        }
        Err(FrameError::Checksum {
            channel: header.channel,
            sequence: header.sequence,
            expected: header.checksum,
            found,
        })
    }
}

/// The two parts of the payload of a frame of records.
pub(crate) fn origin_of(mut payload: Bytes) -> Option<(Origin, Bytes)> {
    let length = usize::from(payload.try_get_u16_le().ok()?);
    let origin = Origin::from_bytes(payload.get(..length)?)?;
    payload.advance(length);
    Some((origin, payload))
}

/// The words of an error frame, fit for a log: whatever the bytes are.
pub(crate) fn reason_of(payload: &[u8]) -> String {
    String::from_utf8_lossy(payload)
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

/// A watermark as it goes over the wire: 0 and a time in milliseconds, or 1 (idle) or 2 (active) and zeros.
pub(crate) fn watermark_bytes(watermark: Watermark) -> [u8; WATERMARK_BYTES] {
    let (kind, time) = match watermark {
        Watermark::Time(EventTime(time)) => (0, time),
        Watermark::Idle => (1, 0),
        Watermark::Active => (2, 0),
    };
    let mut bytes = [0; WATERMARK_BYTES];
    bytes[0] = kind;
    bytes[1..].copy_from_slice(&time.to_le_bytes());
    bytes
}

/// The watermark of a payload, if it is one.
pub(crate) fn watermark_of(payload: &[u8]) -> Option<Watermark> {
    let (kind, time) = payload.split_first()?;
    let time = i64::from_le_bytes(time.try_into().ok()?);
    match (kind, time) {
        (0, time) => Some(Watermark::Time(EventTime(time))),
        (1, 0) => Some(Watermark::Idle),
        (2, 0) => Some(Watermark::Active),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use streamd_core::source::{Stretch, Unit};

    use super::*;
    use crate::element::Payload;
    use crate::encode::decode;
    use crate::network::handshake::PROTOCOL_VERSION;

    /// A frame of records as version 3 of the protocol has it: two records of `/in/a.csv` with a timestamp each.
    const RECORDS_3: &str = "0700000008000000000000000202000000430000009da9f4732a0000010100000006006576656e74730109002f696e\
                             2f612e637376b004000000000000480d000000000000020101616202000100000000000000ffffffffffffffff";

    #[tokio::test]
    async fn a_frame_of_records_of_this_version_is_written_and_read_as_it_always_was() {
        assert_eq!(PROTOCOL_VERSION, 3, "another version needs another frame here");
        let stretch = Stretch {
            of: Some(Arc::from("/in/a.csv")),
            unit: Unit::Bytes,
            from: 1200,
            to: 3400,
        };
        let origin = Origin::read(&Arc::from("events"), 1, &[stretch]);
        let (records, timestamps) = (vec!["a".to_owned(), "b".to_owned()], vec![EventTime(1), EventTime(-1)]);
        let batch = bitcode::serialize(&(&records, &timestamps)).unwrap();
        let frame = Draft::records(2, &origin, batch.into()).finish(7, 8);
        let bytes = [&frame.header[..], &frame.lead, &frame.payload].concat();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, RECORDS_3);

        let mut reader = FrameReader::new(&bytes[..], 1 << 10);
        let header = reader.header().await.unwrap().unwrap();
        assert_eq!((header.channel, header.sequence, header.records), (7, 8, 2));
        let (read, batch) = origin_of(reader.payload(&header).await.unwrap()).unwrap();
        assert_eq!(read, origin);
        let batch = decode::<String>(Payload::Encoded(batch)).unwrap();
        assert_eq!((batch.records(), batch.timestamps()), (&records[..], &timestamps[..]));
    }
}
