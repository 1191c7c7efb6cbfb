//! Batches of records as bytes, and back: bitcode over the whole batch, on the slot's thread.
//!
//! The encoding is not self-describing and lives only in flight: both ends are the same binary.

use std::any::Any;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use streamd_core::time::EventTime;

use crate::batch::Batch;
use crate::element::Payload;

/// Records per batch under load: enough to make the cost of a hand-over vanish, few enough to stay in the L2 cache.
pub const BATCH_RECORDS: usize = 1024;

/// The size that an encoded batch aims not to exceed, in bytes: a consumer's memory is credit times this per channel.
pub const TARGET_FRAME_BYTES: usize = 1 << 20;

/// The size that a single encoded record must not exceed, in bytes, unless the data plane is configured lower.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// Records that cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// One record alone is larger than a frame may be.
    #[error("a record of type `{record}` takes {size} bytes encoded, more than the limit of {limit} bytes for a frame")]
    RecordTooLarge {
        /// The Rust type of the record.
        record: &'static str,
        /// Its encoded size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The record's `Serialize` refuses.
    #[error("cannot encode a batch of {count} records of type `{record}`")]
    Serialize {
        /// The Rust type of the records.
        record: &'static str,
        /// How many there are.
        count: usize,
        /// What serde says.
        #[source]
        source: bitcode::Error,
    },
}

/// A payload that is not a batch of the expected records.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes are no batch of this type.
    #[error("cannot decode a frame of {size} bytes as records of type `{record}`")]
    Malformed {
        /// The Rust type of the records.
        record: &'static str,
        /// The size of the frame in bytes.
        size: usize,
        /// What serde says.
        #[source]
        source: bitcode::Error,
    },
    /// Some records have a timestamp, others none: the peer is not of this build.
    #[error("a batch of {records} records came with {timestamps} timestamps")]
    Timestamps {
        /// How many records came.
        records: usize,
        /// How many timestamps.
        timestamps: usize,
    },
    /// The channel carries another type: the two ends of an edge were wired differently.
    #[error("a local batch does not hold records of type `{record}`")]
    WrongType {
        /// The Rust type that was expected.
        record: &'static str,
    },
}

/// How large the frames of a channel may be, and how many records make one of about the right size.
#[derive(Debug)]
pub(crate) struct FrameSizer {
    target: usize,
    limit: usize,
    records: usize,
}

impl FrameSizer {
    /// A sizer for frames of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            target: TARGET_FRAME_BYTES.min(limit),
            limit,
            records: BATCH_RECORDS,
        }
    }

    /// Encodes all records, in order, into as many frames as their sizes ask for, and gives each with its count to `send`.
    ///
    /// Too large a frame is encoded again in halves; the sizer remembers, so that the next batches come out right at once.
    pub(crate) fn encode<T: Serialize, E: From<EncodeError>>(
        &mut self,
        batch: &Batch<T>,
        mut send: impl FnMut(Bytes, u32) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut records, mut timestamps) = (batch.records(), batch.timestamps());
        while !records.is_empty() {
            let count = self.records.min(records.len());
            let timed = count.min(timestamps.len());
            let frame = serialize(&records[..count], &timestamps[..timed])?;
            if frame.len() > self.target && count > 1 {
                self.records = count / 2;
                continue;
            }
            if frame.len() > self.limit {
                return Err(E::from(EncodeError::RecordTooLarge {
                    record: std::any::type_name::<T>(),
                    size: frame.len(),
                    limit: self.limit,
                }));
            }
            if frame.len() < self.target / 4 && count == self.records {
                self.records = (self.records * 2).min(BATCH_RECORDS);
            }
            send(Bytes::from(frame), count_of(count))?;
            records = &records[count..];
            timestamps = &timestamps[timed..];
        }
        Ok(())
    }
}

fn serialize<T: Serialize>(records: &[T], timestamps: &[EventTime]) -> Result<Vec<u8>, EncodeError> {
    bitcode::serialize(&(records, timestamps)).map_err(|source| EncodeError::Serialize {
        record: std::any::type_name::<T>(),
        count: records.len(),
        source,
    })
}

/// The number of records of one batch as it is written in elements and frames.
pub(crate) fn count_of(records: usize) -> u32 {
    u32::try_from(records).expect("a batch of four thousand million records does not fit in memory")
}

/// The payload of a batch, as it travels to another process, in one piece. A [`ResultPartition`](crate::ResultPartition) makes
/// pieces that are not too large for a frame.
pub fn encode<T: Serialize>(batch: &Batch<T>) -> Result<Bytes, EncodeError> {
    serialize(batch.records(), batch.timestamps()).map(Bytes::from)
}

/// The batch of a payload. Prefer [`receive_into`] where batches come in numbers: it lets the buffers go round.
pub fn decode<T: DeserializeOwned + 'static>(payload: Payload) -> Result<Batch<T>, DecodeError> {
    let mut batch = Batch::new();
    receive_into(payload, &mut batch)?;
    Ok(batch)
}

/// Puts the batch of a payload into `batch`, replacing what it holds.
///
/// A local payload changes buffers with `batch`: what comes back is the emptied buffer that the caller hands to
/// [`ChannelReceiver::recycle`](crate::channel::ChannelReceiver::recycle), so that no batch is allocated twice.
pub fn receive_into<T: DeserializeOwned + 'static>(
    payload: Payload,
    batch: &mut Batch<T>,
) -> Result<Option<Box<dyn Any + Send>>, DecodeError> {
    let record = std::any::type_name::<T>();
    match payload {
        Payload::Local(mut boxed) => {
            let records: &mut Batch<T> = boxed.downcast_mut().ok_or(DecodeError::WrongType { record })?;
            batch.clear();
            std::mem::swap(records, batch);
            Ok(Some(boxed))
        }
        Payload::Encoded(bytes) => {
            let malformed = |source| DecodeError::Malformed {
                record,
                size: bytes.len(),
                source,
            };
            let (records, timestamps): (Vec<T>, Vec<EventTime>) = bitcode::deserialize(&bytes).map_err(malformed)?;
            if !timestamps.is_empty() && timestamps.len() != records.len() {
                return Err(DecodeError::Timestamps {
                    records: records.len(),
                    timestamps: timestamps.len(),
                });
            }
            *batch = Batch::with_timestamps(records, timestamps);
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames<T: Serialize + Clone>(sizer: &mut FrameSizer, records: &[T]) -> Result<Vec<(Bytes, u32)>, EncodeError> {
        let mut frames = Vec::new();
        sizer.encode(&Batch::from(records.to_vec()), |bytes, count| {
            frames.push((bytes, count));
            Ok::<(), EncodeError>(())
        })?;
        Ok(frames)
    }

    #[test]
    fn a_batch_larger_than_a_frame_is_split_and_comes_back_whole_and_in_order() {
        let records: Vec<String> = (0..3000).map(|n| format!("{n:0>2000}")).collect();
        let mut sizer = FrameSizer::new(MAX_FRAME_BYTES);
        let sent = frames(&mut sizer, &records).unwrap();
        assert!(sent.len() > 3 && sent.iter().all(|(bytes, _)| bytes.len() <= TARGET_FRAME_BYTES));
        assert_eq!(
            sent.iter().map(|(_, count)| *count as usize).sum::<usize>(),
            records.len()
        );
        let received: Vec<String> = sent
            .into_iter()
            .flat_map(|(bytes, _)| decode::<String>(Payload::Encoded(bytes)).unwrap().into_records())
            .collect();
        assert_eq!(received, records);
    }

    #[test]
    fn timestamps_travel_with_their_records_over_every_cut() {
        let records: Vec<String> = (0..3000).map(|n| format!("{n:0>2000}")).collect();
        let batch = Batch::with_timestamps(records, (0..3000).map(EventTime).collect());
        let mut received = Batch::new();
        let mut frames = 0;
        let sent: Result<(), EncodeError> = FrameSizer::new(MAX_FRAME_BYTES).encode(&batch, |bytes, _| {
            frames += 1;
            received.append(&mut decode::<String>(Payload::Encoded(bytes)).unwrap());
            Ok(())
        });
        sent.unwrap();
        assert!(frames > 3);
        assert_eq!(received, batch);
        let forged = bitcode::serialize(&(vec![1_u64, 2], vec![EventTime(1)])).unwrap();
        assert!(matches!(
            decode::<u64>(Payload::Encoded(Bytes::from(forged))),
            Err(DecodeError::Timestamps {
                records: 2,
                timestamps: 1
            })
        ));
    }

    #[test]
    fn a_sizer_grows_again_when_records_become_small() {
        let mut sizer = FrameSizer::new(MAX_FRAME_BYTES);
        frames(&mut sizer, &vec!["x".repeat(1 << 19); 64]).unwrap();
        let small = vec![7_u8; 64 * BATCH_RECORDS];
        frames(&mut sizer, &small).unwrap();
        let sent = frames(&mut sizer, &small[..BATCH_RECORDS]).unwrap();
        assert_eq!(sent.len(), 1);
    }

    #[test]
    fn a_single_record_over_the_limit_is_refused_with_both_sizes() {
        let mut sizer = FrameSizer::new(4096);
        let error = frames(&mut sizer, &["small".to_owned(), "x".repeat(5000)]).unwrap_err();
        match error {
            EncodeError::RecordTooLarge { size, limit, .. } => assert!(size > 5000 && limit == 4096),
            EncodeError::Serialize { .. } => panic!("{error}"),
        }
        let large = frames(
            &mut FrameSizer::new(MAX_FRAME_BYTES),
            &["x".repeat(TARGET_FRAME_BYTES + 1)],
        )
        .unwrap();
        assert_eq!(
            large.len(),
            1,
            "one record may exceed the target as long as it keeps the limit"
        );
    }

    #[test]
    fn a_payload_of_another_type_or_of_garbage_is_refused() {
        assert!(matches!(
            decode::<u64>(Payload::Local(Box::new(Batch::from(vec![1_u32])))),
            Err(DecodeError::WrongType { .. })
        ));
        assert!(matches!(
            decode::<String>(Payload::Encoded(Bytes::from_static(&[0xff; 9]))),
            Err(DecodeError::Malformed { .. })
        ));
    }

    #[test]
    fn receiving_a_local_batch_changes_buffers_and_returns_the_emptied_one() {
        let mut batch: Batch<u64> = Batch::with_capacity(77);
        let sent = Batch::from(vec![1_u64, 2]);
        let spare = receive_into(Payload::Local(Box::new(sent)), &mut batch)
            .unwrap()
            .unwrap();
        assert_eq!(batch.records(), [1, 2]);
        let spare = spare.downcast::<Batch<u64>>().unwrap();
        assert!(spare.is_empty() && spare.capacity() == 77);
    }
}
