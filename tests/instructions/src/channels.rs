//! The way from one subtask to another: within a process by pointer, to another process as bytes.

use std::hint::black_box;

use bytes::Bytes;
use streamd_core::key_group::{Owners, key_group_of};
use streamd_core::state::State;
use streamd_core::time::EventTime;
use streamd_exchange::{
    BATCH_RECORDS, Batch, Element, InputGate, Origin, Partitioner, Payload, ResultPartition, Waker, encode as encoded,
    local_channel, receive_into,
};

use crate::counted::{counted, event, mix};

const KEY_GROUPS: u32 = 128;
const CONSUMERS: u32 = 4;
/// Batches that may wait in a channel.
const CAPACITY: usize = 8;
const BATCHES: u64 = 200;

/// Deals records out to four consumers by key, and takes them in again.
pub fn partition() -> u64 {
    let (waker, _parker) = Waker::new();
    let (senders, receivers) = (0..CONSUMERS)
        .map(|_| local_channel(CAPACITY, waker.clone(), waker.clone()))
        .unzip();
    let owners = Owners::new(CONSUMERS, KEY_GROUPS);
    let by_key = Partitioner::by_key(
        |event: &(u64, i64)| event.0.stable_hash(),
        move |hash| owners.of(key_group_of(hash, KEY_GROUPS)),
    );
    let mut output = ResultPartition::new(by_key, senders);
    let mut input = InputGate::new(receivers);
    let mut received: Batch<(u64, i64)> = Batch::with_capacity(BATCH_RECORDS);
    let mut step = |mut batch: Batch<(u64, i64)>| {
        let sent = output.emit(&mut batch, &Origin::UNKNOWN);
        sent.expect("a channel within the process is not lost");
        while let Some((channel, element)) = input.poll() {
            let Element::Records { payload, .. } = element else {
                continue;
            };
            let spare = receive_into(payload, &mut received).expect("the types of both ends agree");
            black_box(received.records());
            if let Some(spare) = spare {
                input.recycle(channel, spare);
            }
        }
    };
    let batch = |number: u64| {
        let first = number * BATCH_RECORDS as u64;
        Batch::from(
            (first..first + BATCH_RECORDS as u64)
                .map(|index| event(index, 1_000_000))
                .collect::<Vec<_>>(),
        )
    };
    (0..20).map(batch).for_each(&mut step);
    let mut batches: Vec<_> = (20..20 + BATCHES).map(batch).collect();
    counted(&mut || batches.drain(..).for_each(&mut step));
    BATCHES * BATCH_RECORDS as u64
}

/// A record with numbers and texts.
type Flight = (u64, String, String, i64, bool);

/// Batches as bytes.
pub fn encode() -> u64 {
    let batches = flights();
    counted(&mut || {
        for batch in &batches {
            black_box(encoded(batch).expect("every record can be encoded"));
        }
    });
    records(&batches)
}

/// And back.
pub fn decode() -> u64 {
    let batches = flights();
    let frames: Vec<Bytes> = batches
        .iter()
        .map(|batch| encoded(batch).expect("every record can be encoded"))
        .collect();
    let mut received: Batch<Flight> = Batch::new();
    counted(&mut || {
        for frame in &frames {
            let read = receive_into(Payload::Encoded(frame.clone()), &mut received);
            black_box(read.expect("the bytes are a batch").is_some());
        }
    });
    records(&batches)
}

fn flights() -> Vec<Batch<Flight>> {
    const AIRPORTS: [&str; 5] = ["JFK", "LAX", "ATL", "ORD", "SFO"];
    let flight = |index: u64| {
        let bits = mix(index + 1);
        let carrier = format!("AA{}", bits % 1000);
        (
            bits,
            carrier,
            AIRPORTS[(bits % 5) as usize].to_owned(),
            (bits % 90) as i64 - 30,
            bits & 1 == 0,
        )
    };
    let batch = |number: u64| {
        let indices = (0..BATCH_RECORDS as u64).map(|index| number * BATCH_RECORDS as u64 + index);
        let timestamps = indices.clone().map(|index| EventTime(index as i64)).collect();
        Batch::with_timestamps(indices.map(flight).collect(), timestamps)
    };
    (0..50).map(batch).collect()
}

fn records(batches: &[Batch<Flight>]) -> u64 {
    batches.iter().map(Batch::len).sum::<usize>() as u64
}
