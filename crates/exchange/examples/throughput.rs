//! What a hand-over costs: nanoseconds per record within a process, gigabytes per second between two data planes.
//!
//! `cargo run --release -p streamd-exchange --example throughput`

use std::sync::Arc;
use std::thread;

use serde::Serialize;
use serde::de::DeserializeOwned;
use streamd_core::id::{Attempt, JobId, WorkerId};
use streamd_core::time::{Clock, SystemClock};
use streamd_exchange::{
    Batch, ChannelKey, ChannelReceiver, ChannelSender, DataPlane, DataPlaneOptions, Element, InputGate, Origin, Parker,
    Partitioner, Payload, ResultPartition, SendResult, Waker, local_channel, receive_into,
};

/// Sixteen bytes, the size that the budget is for.
type Small = (u64, u64);

const BATCH: usize = 1024;
const CAPACITY: usize = 8;

fn main() {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    println!("within one thread, 16-byte records, batches of {BATCH}:");
    for (name, fan_out, partitioner) in [
        ("forward", 1, forward as fn(usize) -> Partitioner<Small>),
        ("hash to 1", 1, hash),
        ("hash to 4", 4, hash),
        ("hash to 16", 16, hash),
        ("rebalance to 4", 4, rebalance),
    ] {
        let nanos = one_thread(clock.as_ref(), fan_out, partitioner(fan_out));
        println!("  {name:<16} {nanos:6.2} ns/record");
    }
    let nanos = two_threads(&clock);
    println!("between two threads, forward: {nanos:.2} ns/record");

    println!("between two data planes over the loopback, one channel:");
    println!("  frames of 1 MiB, no decoding: {:.2} GB/s", raw_frames(&clock));
    let records = |n: u64| (n, n * 7);
    println!(
        "  16-byte records with encoding: {:.1} ns/record",
        remote_records(&clock, records)
    );
    let flights = |n: u64| {
        (
            n,
            format!("AA{}", n % 1000),
            "JFK".to_owned(),
            "LAX".to_owned(),
            n as i64 % 90,
            n.is_multiple_of(2),
        )
    };
    println!(
        "  records of 6 fields with encoding: {:.1} ns/record",
        remote_records(&clock, flights)
    );
}

fn forward(_: usize) -> Partitioner<Small> {
    Partitioner::Forward
}

fn hash(fan_out: usize) -> Partitioner<Small> {
    let fan_out = fan_out as u64;
    Partitioner::hash(move |record: &Small| {
        (((record.0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) * fan_out) >> 32) as u32
    })
}

fn rebalance(_: usize) -> Partitioner<Small> {
    Partitioner::Rebalance
}

/// Producer and consumers share a slot: the cost includes filling and reading every record.
fn one_thread(clock: &dyn Clock, fan_out: usize, partitioner: Partitioner<Small>) -> f64 {
    const RECORDS: u64 = 100_000_000;
    let (waker, _parker) = Waker::new();
    let (senders, receivers) = (0..fan_out)
        .map(|_| local_channel(CAPACITY, waker.clone(), waker.clone()))
        .unzip();
    let mut output = ResultPartition::new(partitioner, senders);
    let mut gate = InputGate::new(receivers);
    let mut batch: Batch<Small> = Batch::with_capacity(BATCH);
    let mut received: Batch<Small> = Batch::with_capacity(BATCH);
    let mut sum = 0_u64;
    let start = clock.monotonic_nanos();
    for turn in 0..RECORDS / BATCH as u64 {
        let first = turn * BATCH as u64;
        batch.untimed().extend((first..first + BATCH as u64).map(|n| (n, n)));
        output
            .emit(&mut batch, &Origin::UNKNOWN)
            .expect("a local channel takes everything");
        while let Some((channel, element)) = gate.poll() {
            sum = sum.wrapping_add(read(&mut gate, channel, element, &mut received));
        }
    }
    assert!(sum > 0);
    (clock.monotonic_nanos() - start) as f64 / RECORDS as f64
}

fn read(gate: &mut InputGate, channel: usize, element: Element, received: &mut Batch<Small>) -> u64 {
    let Element::Records { payload, .. } = element else {
        return 0;
    };
    if let Some(spare) = receive_into(payload, received).expect("the type is right") {
        gate.recycle(channel, spare);
    }
    received
        .untimed()
        .drain(..)
        .fold(0, |sum, record| sum.wrapping_add(record.1))
}

fn two_threads(clock: &Arc<dyn Clock>) -> f64 {
    const RECORDS: u64 = 200_000_000;
    let (consumer, consumer_parker) = Waker::new();
    let (producer, producer_parker) = Waker::new();
    let (sender, receiver) = local_channel(CAPACITY, consumer, producer);
    let start = clock.monotonic_nanos();
    let producing = thread::spawn(move || {
        produce(sender, &producer_parker, RECORDS, |n| (n, n));
    });
    let records = consume::<Small>(receiver, &consumer_parker);
    let nanos = clock.monotonic_nanos() - start;
    producing.join().expect("the producer ends");
    assert_eq!(records, RECORDS);
    nanos as f64 / RECORDS as f64
}

fn produce<T: Serialize + Send + 'static>(
    sender: ChannelSender,
    parker: &Parker,
    records: u64,
    record: impl Fn(u64) -> T,
) -> ResultPartition<T> {
    let mut output = ResultPartition::new(Partitioner::Forward, vec![sender]);
    let mut batch = Batch::with_capacity(BATCH);
    let mut next = 0;
    while next < records {
        if !output.has_room() {
            parker.park();
            continue;
        }
        let end = (next + BATCH as u64).min(records);
        batch.untimed().extend((next..end).map(&record));
        next = end;
        output
            .emit(&mut batch, &Origin::UNKNOWN)
            .expect("the consumer is there");
    }
    output.control(Element::EndOfData).expect("the consumer is there");
    output
}

fn consume<T: DeserializeOwned + 'static>(receiver: ChannelReceiver, parker: &Parker) -> u64 {
    let mut gate = InputGate::new(vec![receiver]);
    let mut batch: Batch<T> = Batch::new();
    let mut records = 0;
    loop {
        match gate.poll() {
            Some((channel, Element::Records { payload, .. })) => {
                if let Some(spare) = receive_into(payload, &mut batch).expect("the type is right") {
                    gate.recycle(channel, spare);
                }
                records += batch.len() as u64;
            }
            Some((_, Element::EndOfData)) => return records,
            Some((_, Element::Barrier(_) | Element::Watermark(_))) => {}
            None => {
                assert_eq!(gate.failed(), None);
                parker.park();
            }
        }
    }
}

/// A channel between two data planes of this process, and what keeps it alive.
struct Wire {
    sender: ChannelSender,
    producer: Parker,
    receiver: ChannelReceiver,
    consumer: Parker,
    keep: Vec<Box<dyn std::any::Any>>,
}

fn wire() -> Wire {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts");
    let bind = || {
        DataPlane::bind("127.0.0.1:0", DataPlaneOptions::new("token"), runtime.handle().clone())
            .expect("the loopback has free ports")
    };
    let (left, right) = (bind(), bind());
    let peers = [
        (WorkerId(1), left.local_addr().to_string()),
        (WorkerId(2), right.local_addr().to_string()),
    ];
    let job = JobId::from_bytes([1; 16]);
    let from = left.for_attempt(job, Attempt(1), WorkerId(1), &peers);
    let to = right.for_attempt(job, Attempt(1), WorkerId(2), &peers);
    let key = ChannelKey {
        edge: 0,
        source: 0,
        target: 0,
    };
    let (producer_waker, producer) = Waker::new();
    let (consumer_waker, consumer) = Waker::new();
    Wire {
        sender: from.sender(WorkerId(2), key, producer_waker),
        producer,
        receiver: to.receiver(WorkerId(1), key, consumer_waker),
        consumer,
        keep: vec![
            Box::new(from),
            Box::new(to),
            Box::new(left),
            Box::new(right),
            Box::new(runtime),
        ],
    }
}

fn raw_frames(clock: &Arc<dyn Clock>) -> f64 {
    const FRAMES: usize = 8_000;
    let Wire {
        sender,
        producer,
        receiver,
        consumer,
        keep,
    } = wire();
    let frame = bytes::Bytes::from(vec![42; 1 << 20]);
    let length = frame.len();
    let start = clock.monotonic_nanos();
    let producing = thread::spawn(move || {
        for _ in 0..FRAMES {
            while !sender.has_room() {
                producer.park();
            }
            let element = Element::Records {
                payload: Payload::Encoded(frame.clone()),
                count: 1,
                origin: Origin::UNKNOWN,
            };
            assert_eq!(sender.send(element), SendResult::Sent);
        }
        sender
    });
    let mut frames = 0;
    while frames < FRAMES {
        match receiver.try_recv() {
            Some(_) => frames += 1,
            None => consumer.park(),
        }
    }
    let nanos = clock.monotonic_nanos() - start;
    drop(producing.join().expect("the producer ends"));
    drop(keep);
    (FRAMES * length) as f64 / nanos as f64
}

fn remote_records<T>(clock: &Arc<dyn Clock>, record: impl Fn(u64) -> T + Send + 'static) -> f64
where
    T: Serialize + DeserializeOwned + Send + 'static,
{
    const RECORDS: u64 = 10_000_000;
    let Wire {
        sender,
        producer,
        receiver,
        consumer,
        keep,
    } = wire();
    let start = clock.monotonic_nanos();
    let producing = thread::spawn(move || produce(sender, &producer, RECORDS, record));
    let records = consume::<T>(receiver, &consumer);
    let nanos = clock.monotonic_nanos() - start;
    assert_eq!(records, RECORDS);
    drop(producing.join().expect("the producer ends"));
    drop(keep);
    nanos as f64 / RECORDS as f64
}
