//! The result partition: the typed output of one subtask to the consumers of one edge.

use std::{iter, vec};

use serde::Serialize;
use streamd_core::time::EventTime;

use crate::batch::{Batch, Drain};
use crate::channel::{ChannelLoss, ChannelSender, SendResult};
use crate::element::{Element, Payload};
use crate::encode::{BATCH_RECORDS, EncodeError, FrameSizer, count_of};
use crate::origin::{Noted, Origin};

/// From this size a batch is handed on as it is; smaller ones are gathered, since a hand-over costs as much as copying
/// a few hundred records.
const HAND_OVER_RECORDS: usize = BATCH_RECORDS / 2;

/// To another thread a hand-over costs some microseconds, most of them for cache lines that change processors: dealt out to few
/// consumers, more records are gathered for each.
const GATHERED_RECORDS: usize = 2 * BATCH_RECORDS;

/// With many consumers, so many records may be gathered for all of them, or [`BATCH_RECORDS`] for each.
const GATHERED_FOR_ALL: usize = 16 * BATCH_RECORDS;

/// Which consumer a record goes to.
pub enum Partitioner<T> {
    /// To the one channel there is.
    Forward,
    /// To the channel with the index that a function gives; see [`Partitioner::hash`] and [`Partitioner::by_key`].
    Hash(Dealer<T>),
    /// To all channels in turn.
    Rebalance,
    /// To every channel; see [`Partitioner::broadcast`].
    Broadcast(fn(&T) -> T),
    /// To the first channel.
    Global,
}

/// Deals records out until so many are gathered for one of the outputs: which one. Called for many records at once.
pub struct Dealer<T>(Box<DealOut<T>>);

type DealOut<T> = dyn FnMut(&mut Drain<'_, T>, &mut [Output<T>], usize) -> Option<usize> + Send;

impl<T> Dealer<T> {
    /// `target` gives the index of the output, and the hash of the key where that goes on with the record.
    fn new(mut target: impl FnMut(&T) -> (u32, Option<u64>) + Send + 'static) -> Self {
        Self(Box::new(move |records, outputs, gathered| {
            let (records, timestamps) = records.columns();
            if timestamps.as_slice().is_empty() {
                // The way of all streams without event time: no second column to walk along.
                return deal_out(records, &mut iter::empty(), outputs, gathered, &mut target);
            }
            deal_out(records, timestamps, outputs, gathered, &mut target)
        }))
    }
}

#[inline]
fn deal_out<T>(
    records: &mut vec::Drain<'_, T>,
    timestamps: &mut impl Iterator<Item = EventTime>,
    outputs: &mut [Output<T>],
    gathered: usize,
    target: &mut impl FnMut(&T) -> (u32, Option<u64>),
) -> Option<usize> {
    // Where the record is, and not where it would be copied to: what was just copied cannot be read at once.
    while let Some((index, key_hash)) = records.as_slice().first().map(&mut *target) {
        let index = index as usize;
        let pending = &mut outputs[index].pending;
        let record = records.next().expect("it was looked at");
        pending.push(record, timestamps.next().unwrap_or(EventTime::MIN));
        if let Some(hash) = key_hash {
            pending.push_key_hash(hash);
        }
        if pending.len() >= gathered {
            return Some(index);
        }
    }
    None
}

impl<T> Partitioner<T> {
    /// To the channel with the index that `index` gives.
    pub fn hash(mut index: impl FnMut(&T) -> u32 + Send + 'static) -> Self {
        Self::Hash(Dealer::new(move |record| (index(record), None)))
    }

    /// To the channel with the index that `owner` gives for the stable hash of the record's key, as `key_hash` gives it. The hash goes on
    /// with the record, to consumers in this process, who take it for that of their own key: see [`Batch::key_hashes`].
    pub fn by_key(
        mut key_hash: impl FnMut(&T) -> u64 + Send + 'static,
        mut owner: impl FnMut(u64) -> u32 + Send + 'static,
    ) -> Self {
        Self::Hash(Dealer::new(move |record| {
            let hash = key_hash(record);
            (owner(hash), Some(hash))
        }))
    }
}

impl<T: Clone> Partitioner<T> {
    /// To every channel. Only this partitioner asks for records that can be cloned.
    pub fn broadcast() -> Self {
        Self::Broadcast(T::clone)
    }
}

/// Why records could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection to a consumer is lost.
    #[error("channel {channel} of the output is lost")]
    Lost {
        /// The index of the channel in the partition.
        channel: usize,
        /// Why.
        #[source]
        loss: ChannelLoss,
    },
    /// The records cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Distributes the records of one subtask over the channels of one edge, in batches.
///
/// Within a channel, order is kept. A consumer that is gone without failure gets nothing more, silently.
pub struct ResultPartition<T> {
    partitioner: Partitioner<T>,
    outputs: Vec<Output<T>>,
    /// Records that wait for their batch to fill, where all channels get the same.
    shared: Batch<T>,
    /// Where the records come from that wait.
    noted: Noted,
    /// The number of the first batch that `shared` has records of.
    shared_since: u64,
    /// For frames that go to every channel.
    sizer: FrameSizer,
}

impl<T: Serialize + Send + 'static> ResultPartition<T> {
    /// A partition over these channels, at least one.
    pub fn new(mut partitioner: Partitioner<T>, channels: Vec<ChannelSender>) -> Self {
        assert!(!channels.is_empty(), "an edge has at least one consumer");
        if let Partitioner::Rebalance = partitioner {
            partitioner = Partitioner::hash(in_turn(count_of(channels.len())));
        }
        let max_frame = channels.iter().map(ChannelSender::max_frame_bytes).min();
        Self {
            partitioner,
            sizer: FrameSizer::new(max_frame.expect("there is at least one channel")),
            outputs: channels.into_iter().enumerate().map(Output::new).collect(),
            shared: Batch::new(),
            noted: Noted::default(),
            shared_since: 0,
        }
    }

    /// How many channels there are.
    pub fn channels(&self) -> usize {
        self.outputs.len()
    }

    /// Takes all records out of `batch` and sends every batch that is full; the rest waits for more, or for
    /// [`flush`](Self::flush). `batch` may come back with another buffer. `origin` is where all of them come from.
    pub fn emit(&mut self, batch: &mut Batch<T>, origin: &Origin) -> Result<(), SendError> {
        if batch.is_empty() {
            return Ok(());
        }
        batch.forget_key_hashes();
        let number = self.noted.note(origin);
        for output in self.outputs.iter_mut().filter(|output| output.pending.is_empty()) {
            output.since = number;
        }
        let single = self.outputs.len() == 1;
        match &mut self.partitioner {
            Partitioner::Hash(Dealer(deal_out)) if !single => {
                let gathered = (GATHERED_FOR_ALL / self.outputs.len()).clamp(BATCH_RECORDS, GATHERED_RECORDS);
                let mut records = batch.drain(batch.len());
                while let Some(full) = deal_out(&mut records, &mut self.outputs, gathered) {
                    let output = &mut self.outputs[full];
                    output.send_pending(&self.noted)?;
                    output.since = self.noted.last();
                }
                Ok(())
            }
            Partitioner::Broadcast(clone) if !single => {
                let clone = *clone;
                if self.shared.is_empty() {
                    self.shared_since = number;
                }
                self.shared.append(batch);
                if self.shared.len() >= HAND_OVER_RECORDS {
                    self.send_shared(clone)?;
                }
                Ok(())
            }
            Partitioner::Forward
            | Partitioner::Global
            | Partitioner::Hash(_)
            | Partitioner::Rebalance
            | Partitioner::Broadcast(_) => self.outputs[0].accept(batch, &self.noted, number),
        }
    }

    /// Sends what waits for more records: at the end of the producer's turn.
    pub fn flush(&mut self) -> Result<(), SendError> {
        if let Partitioner::Broadcast(clone) = &self.partitioner
            && !self.shared.is_empty()
        {
            let clone = *clone;
            self.send_shared(clone)?;
        }
        for output in &mut self.outputs {
            output.send_pending(&self.noted)?;
        }
        self.noted.clear();
        Ok(())
    }

    /// Sends everything that waits, then the control element to every channel.
    ///
    /// # Panics
    ///
    /// If given records: those go through [`emit`](Self::emit).
    pub fn control(&mut self, element: Element) -> Result<(), SendError> {
        self.flush()?;
        for output in &self.outputs {
            let copy = element
                .copy_control()
                .expect("records are emitted, not broadcast as control");
            output.send(copy)?;
        }
        Ok(())
    }

    /// Whether every channel has room. Ask before each turn.
    pub fn has_room(&self) -> bool {
        self.outputs.iter().all(|output| output.channel.has_room())
    }

    /// A channel whose connection is lost, if any: for a producer that has nothing to send and would not notice.
    pub fn failed(&self) -> Option<SendError> {
        self.outputs.iter().find_map(|output| {
            let loss = output.channel.loss()?;
            Some(SendError::Lost {
                channel: output.index,
                loss,
            })
        })
    }

    /// Sends the shared records to every channel: clones to those of this process, the same bytes to the others.
    fn send_shared(&mut self, clone: fn(&T) -> T) -> Result<(), SendError> {
        let origin = self.noted.since(self.shared_since);
        let (local, remote): (Vec<_>, Vec<_>) = self.outputs.iter_mut().partition(|output| output.channel.is_local());
        if !remote.is_empty() {
            self.sizer.encode(&self.shared, |bytes, count| {
                let send =
                    |output: &&mut Output<T>| output.send_records(Payload::Encoded(bytes.clone()), count, &origin);
                remote.iter().try_for_each(send)
            })?;
        }
        for output in local {
            output.pending.append(&mut self.shared.map_copy(clone));
            output.send_from(&origin)?;
        }
        self.shared.clear();
        Ok(())
    }
}

/// One channel after the other.
fn in_turn<T>(channels: u32) -> impl FnMut(&T) -> u32 {
    let mut next = 0;
    move |_| {
        let turn = next;
        next = if turn + 1 == channels { 0 } else { turn + 1 };
        turn
    }
}

/// One channel with the records that wait for its batch to fill.
struct Output<T> {
    index: usize,
    channel: ChannelSender,
    pending: Batch<T>,
    /// The number of the first batch that `pending` may have records of.
    since: u64,
    sizer: FrameSizer,
}

impl<T: Serialize + Send + 'static> Output<T> {
    fn new((index, channel): (usize, ChannelSender)) -> Self {
        Self {
            index,
            sizer: FrameSizer::new(channel.max_frame_bytes()),
            channel,
            pending: Batch::new(),
            since: 0,
        }
    }

    /// Takes a whole batch: by exchanging buffers where it can, by copying where batches are small.
    fn accept(&mut self, batch: &mut Batch<T>, noted: &Noted, number: u64) -> Result<(), SendError> {
        if !self.pending.is_empty() {
            if self.pending.len() + batch.len() < BATCH_RECORDS {
                self.pending.append(batch);
                return Ok(());
            }
            // All that was noted but the batch at hand: of that one nothing waits yet.
            let origin = noted.between(self.since, number);
            self.send_from(&origin)?;
            self.since = number;
        }
        std::mem::swap(&mut self.pending, batch);
        if self.pending.len() >= HAND_OVER_RECORDS {
            self.send_pending(noted)?;
        }
        if self.pending.is_empty() && batch.capacity() < self.pending.capacity() {
            // The caller fills its buffer at once, this one may never be needed: it gets the larger.
            std::mem::swap(&mut self.pending, batch);
        }
        Ok(())
    }

    /// Sends what waits, if anything does.
    fn send_pending(&mut self, noted: &Noted) -> Result<(), SendError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let origin = noted.since(self.since);
        self.send_from(&origin)
    }

    /// Sends what waits, all of it from there.
    fn send_from(&mut self, origin: &Origin) -> Result<(), SendError> {
        if self.channel.is_local() {
            return self.send_local(origin);
        }
        let Self {
            index,
            channel,
            pending,
            sizer,
            since: _,
        } = self;
        sizer.encode(pending, |bytes, count| {
            send(channel, *index, records(Payload::Encoded(bytes), count, origin))
        })?;
        pending.clear();
        Ok(())
    }

    /// Hands the buffer itself over; an emptied one that the consumer gave back takes its place.
    fn send_local(&mut self, origin: &Origin) -> Result<(), SendError> {
        let count = count_of(self.pending.len());
        let spare = self
            .channel
            .take_spare()
            .and_then(|spare| spare.downcast::<Batch<T>>().ok());
        let mut batch = spare.unwrap_or_else(|| Box::new(Batch::with_capacity(self.pending.len())));
        batch.clear();
        std::mem::swap(&mut *batch, &mut self.pending);
        self.send_records(Payload::Local(batch), count, origin)
    }

    fn send_records(&self, payload: Payload, count: u32, origin: &Origin) -> Result<(), SendError> {
        self.send(records(payload, count, origin))
    }

    fn send(&self, element: Element) -> Result<(), SendError> {
        send(&self.channel, self.index, element)
    }
}

fn records(payload: Payload, count: u32, origin: &Origin) -> Element {
    Element::Records {
        payload,
        count,
        origin: origin.clone(),
    }
}

fn send(channel: &ChannelSender, index: usize, element: Element) -> Result<(), SendError> {
    match channel.send(element) {
        SendResult::Sent | SendResult::ConsumerGone => Ok(()),
        SendResult::Lost => Err(SendError::Lost {
            channel: index,
            loss: channel.loss().unwrap_or(ChannelLoss::ProducerGone),
        }),
    }
}
