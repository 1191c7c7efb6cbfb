//! Channels, gates and partitions within a process, through the public API only.

#![expect(clippy::unwrap_used, reason = "a test panics where it is wrong")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::CheckpointId;
use streamd_core::source::{Stretch, Unit};
use streamd_core::time::EventTime;
use streamd_exchange::{
    Batch, ChannelReceiver, ChannelSender, Element, InputGate, Origin, Parker, Partitioner, Payload, ResultPartition,
    SendResult, Waker, decode, local_channel, receive_into,
};

fn barrier(id: u64) -> Barrier {
    Barrier {
        checkpoint: CheckpointId(id),
        options: Arc::new(SnapshotOptions {
            kind: SnapshotKind::Checkpoint,
            location: "file:///tmp/chk-1".to_owned(),
            sources: AfterBarrier::Continue,
            aligned: true,
            increment: Increment::Off,
            compression: Compression::None,
        }),
    }
}

fn records(values: Vec<u64>) -> Element {
    Element::Records {
        count: u32::try_from(values.len()).unwrap(),
        origin: Origin::UNKNOWN,
        payload: Payload::Local(Box::new(Batch::from(values))),
    }
}

/// The one record of a batch.
fn value(element: Element) -> u64 {
    let Element::Records { payload, .. } = element else {
        panic!("only records are sent");
    };
    let mut batch = Batch::new();
    receive_into(payload, &mut batch).unwrap();
    batch.records()[0]
}

fn channels(count: usize, capacity: usize) -> (Vec<ChannelSender>, Vec<ChannelReceiver>) {
    let (consumer, _) = Waker::new();
    let (producer, _) = Waker::new();
    (0..count)
        .map(|_| local_channel(capacity, consumer.clone(), producer.clone()))
        .unzip()
}

/// The origin of records by their number.
fn numbers(range: std::ops::Range<u64>) -> Origin {
    let stretch = Stretch {
        of: None,
        unit: Unit::Records,
        from: range.start,
        to: range.end,
    };
    Origin::read(&Arc::from("numbers"), 0, &[stretch])
}

/// The numbers that an origin names: all where it names none.
fn told(origin: &Origin) -> std::ops::Range<u64> {
    let text = origin.to_string();
    let Some((_, range)) = text.split_once("between records ") else {
        return 0..u64::MAX;
    };
    let (from, to) = range.split_once(" and ").unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

/// Everything that is in the channel, control elements as negative numbers.
fn drain(receiver: &ChannelReceiver) -> Vec<i64> {
    let mut all = Vec::new();
    while let Some(element) = receiver.try_recv() {
        match element {
            Element::Records { payload, count, origin } => {
                let batch = decode::<u64>(payload).unwrap();
                assert_eq!(batch.len(), count as usize);
                let told = told(&origin);
                for (record, position) in batch.records().iter().zip(0..) {
                    let time = batch.timestamp(position);
                    assert!(told.contains(record), "record {record} comes from {origin}");
                    assert!(time == EventTime::MIN || time.0 == -i64::try_from(*record).unwrap());
                }
                all.extend(
                    batch
                        .into_records()
                        .into_iter()
                        .map(|value| i64::try_from(value).unwrap()),
                );
            }
            Element::Barrier(barrier) => all.push(-i64::try_from(barrier.checkpoint.0).unwrap()),
            Element::Watermark(watermark) => panic!("{watermark:?} was not sent"),
            Element::EndOfData => all.push(i64::MIN),
        }
    }
    all
}

#[test]
fn millions_of_records_pass_between_two_threads_in_order_and_the_queue_stays_bounded() {
    const RECORDS: u64 = 4_000_000;
    const CAPACITY: usize = 4;
    let (consumer_waker, consumer) = Waker::new();
    let (producer_waker, producer) = Waker::new();
    let (sender, receiver) = local_channel(CAPACITY, consumer_waker, producer_waker);
    let (done_tx, done_rx) = mpsc::channel();
    let in_flight = Arc::new(AtomicU64::new(0));
    let most = Arc::new(AtomicU64::new(0));
    let (flying, highest) = (Arc::clone(&in_flight), Arc::clone(&most));
    let producing = thread::spawn(move || {
        let mut output = ResultPartition::new(Partitioner::Forward, vec![sender]);
        let mut batch = Batch::new();
        let mut next = 0;
        while next < RECORDS {
            if !output.has_room() {
                producer.park();
                continue;
            }
            batch.untimed().extend(next..(next + 700).min(RECORDS));
            next += batch.len() as u64;
            highest.fetch_max(flying.fetch_add(batch.len() as u64, Ordering::SeqCst), Ordering::SeqCst);
            output.emit(&mut batch, &Origin::UNKNOWN).unwrap();
            assert!(batch.is_empty());
        }
        output.control(Element::EndOfData).unwrap();
    });
    let consuming = thread::spawn(move || {
        let mut gate = InputGate::new(vec![receiver]);
        let mut batch: Batch<u64> = Batch::new();
        let mut expected = 0;
        loop {
            match gate.poll() {
                Some((0, Element::Records { payload, .. })) => {
                    let spare = receive_into(payload, &mut batch).unwrap().unwrap();
                    gate.recycle(0, spare);
                    in_flight.fetch_sub(batch.len() as u64, Ordering::SeqCst);
                    for record in batch.untimed().drain(..) {
                        assert_eq!(record, expected);
                        expected += 1;
                    }
                }
                Some((0, Element::EndOfData)) => break,
                Some(other) => panic!("{other:?}"),
                None => {
                    assert_eq!(gate.failed(), None);
                    consumer.park();
                }
            }
        }
        done_tx.send(expected).unwrap();
    });
    let received = done_rx
        .recv_timeout(Duration::from_secs(60))
        .expect("nobody sleeps for ever");
    assert_eq!(received, RECORDS);
    let bound = (CAPACITY as u64 + 2) * 700;
    assert!(
        most.load(Ordering::SeqCst) <= bound,
        "the queue, one turn beyond it, and the batch at work"
    );
    producing.join().unwrap();
    consuming.join().unwrap();
}

#[test]
fn a_full_channel_has_room_again_at_half_and_wakes_its_producer_then_only() {
    let (consumer_waker, _consumer) = Waker::new();
    let (producer_waker, producer) = Waker::new();
    let (sender, receiver) = local_channel(4, consumer_waker, producer_waker);
    for n in 0..5 {
        assert_eq!(sender.has_room(), n < 4);
        assert_eq!(
            sender.send(records(vec![n])),
            SendResult::Sent,
            "one over capacity is taken"
        );
    }
    let woken = watch(producer);
    for _ in 0..2 {
        receiver.try_recv().unwrap();
        assert!(!sender.has_room());
    }
    assert!(woken.recv_timeout(Duration::from_millis(20)).is_err());
    receiver.try_recv().unwrap();
    assert!(sender.has_room());
    woken
        .recv_timeout(Duration::from_secs(60))
        .expect("the producer is woken at half");
}

/// Parks on a thread of its own and tells when that returns.
fn watch(parker: Parker) -> mpsc::Receiver<()> {
    let (tx, rx) = mpsc::channel();
    thread::spawn(move || {
        parker.park();
        let _ = tx.send(());
    });
    rx
}

#[test]
fn control_elements_take_no_room_and_keep_their_place() {
    let (mut senders, receivers) = channels(1, 1);
    let sender = senders.remove(0);
    let _ = sender.send(records(vec![1]));
    assert!(!sender.has_room());
    assert_eq!(sender.send(Element::Barrier(barrier(7))), SendResult::Sent);
    let _ = sender.send(records(vec![2]));
    assert_eq!(sender.send(Element::EndOfData), SendResult::Sent);
    assert_eq!(drain(&receivers[0]), [1, -7, 2, i64::MIN]);
    assert!(sender.has_room());
}

#[test]
fn a_producer_that_vanishes_fails_its_consumer_unless_its_data_had_ended() {
    let (consumer_waker, consumer) = Waker::new();
    let (producer_waker, _producer) = Waker::new();
    let (first, first_receiver) = local_channel(4, consumer_waker.clone(), producer_waker.clone());
    let (second, second_receiver) = local_channel(4, consumer_waker, producer_waker);
    let mut gate = InputGate::new(vec![first_receiver, second_receiver]);
    let _ = first.send(Element::EndOfData);
    drop(first);
    assert!(matches!(gate.poll(), Some((0, Element::EndOfData))));
    assert_eq!(gate.failed(), None);
    consumer.park_timeout(Duration::ZERO); // takes the notification of the end-of-data

    let woken = watch(consumer);
    drop(second);
    woken
        .recv_timeout(Duration::from_secs(60))
        .expect("the consumer is woken");
    assert_eq!(gate.failed(), Some(1));
    assert!(gate.loss(1).is_some() && gate.loss(0).is_none());
}

#[test]
fn a_consumer_that_vanishes_lets_its_producer_run_on() {
    let (consumer_waker, _consumer) = Waker::new();
    let (producer_waker, producer) = Waker::new();
    let (sender, receiver) = local_channel(1, consumer_waker, producer_waker);
    let _ = sender.send(records(vec![1]));
    let woken = watch(producer);
    drop(receiver);
    woken
        .recv_timeout(Duration::from_secs(60))
        .expect("the producer is woken");
    assert!(sender.has_room());
    assert_eq!(sender.send(records(vec![2])), SendResult::ConsumerGone);
    assert!(sender.loss().is_none());
    let mut output = ResultPartition::<u64>::new(Partitioner::Forward, vec![sender]);
    output.emit(&mut Batch::from(vec![3]), &Origin::UNKNOWN).unwrap();
    output.control(Element::EndOfData).unwrap();
}

#[test]
fn a_gate_reads_busy_channels_in_turn_and_finds_late_ones() {
    let (senders, receivers) = channels(1000, 100);
    let mut gate = InputGate::new(receivers);
    assert!(gate.poll().is_none());
    for n in 0..3 {
        let _ = senders[5].send(records(vec![n]));
        let _ = senders[900].send(records(vec![n]));
    }
    let order =
        |gate: &mut InputGate| std::iter::from_fn(|| gate.poll().map(|(channel, _)| channel)).collect::<Vec<_>>();
    let first = gate.poll().unwrap().0;
    assert_eq!(first, 5);
    let _ = senders[17].send(records(vec![0]));
    assert_eq!(order(&mut gate), [900, 5, 17, 900, 5, 900]);
    let _ = senders[5].send(Element::EndOfData);
    assert_eq!(order(&mut gate), [5]);
}

#[test]
fn a_blocked_channel_keeps_its_data_and_holds_its_producer_back() {
    let (senders, receivers) = channels(2, 2);
    let mut gate = InputGate::new(receivers);
    let _ = senders[0].send(Element::Barrier(barrier(1)));
    let _ = senders[0].send(records(vec![1]));
    let _ = senders[0].send(records(vec![2]));
    let _ = senders[1].send(records(vec![10]));
    assert!(matches!(gate.poll(), Some((0, Element::Barrier(_)))));
    gate.block(0);
    assert!(gate.is_blocked(0));
    assert!(matches!(gate.poll(), Some((1, _))));
    assert!(gate.poll().is_none());
    assert!(!senders[0].has_room());
    let _ = senders[1].send(Element::Barrier(barrier(1)));
    assert!(matches!(gate.poll(), Some((1, Element::Barrier(_)))));
    let _ = senders[1].send(records(vec![11]));
    gate.unblock_all();
    let order: Vec<usize> = std::iter::from_fn(|| gate.poll().map(|(channel, _)| channel)).collect();
    assert_eq!(order, [0, 1, 0]);
    assert!(senders[0].has_room());
}

#[test]
fn channels_that_are_passed_over_keep_their_data_and_their_turn() {
    let (senders, receivers) = channels(3, 4);
    let mut gate = InputGate::new(receivers);
    for n in 0..2 {
        for sender in &senders {
            let _ = sender.send(records(vec![n]));
        }
    }
    let mut others = std::iter::from_fn(|| gate.poll_unless(|channel| channel == 1))
        .map(|(channel, element)| (channel, value(element)));
    assert!(others.by_ref().eq([(0, 0), (2, 0), (0, 1), (2, 1)]));
    let passed_over = std::iter::from_fn(|| gate.poll()).map(|(channel, element)| (channel, value(element)));
    assert!(passed_over.eq([(1, 0), (1, 1)]));
}

#[test]
fn data_that_arrives_while_its_channel_is_blocked_is_found_afterwards() {
    let (senders, receivers) = channels(2, 2);
    let mut gate = InputGate::new(receivers);
    gate.block(0);
    let _ = senders[0].send(records(vec![1]));
    assert!(gate.poll().is_none());
    let _ = senders[0].send(records(vec![2]));
    assert!(gate.poll().is_none());
    gate.unblock_all();
    assert_eq!(std::iter::from_fn(|| gate.poll()).count(), 2);
}

#[test]
fn batches_go_round_between_producer_and_consumer_instead_of_being_allocated() {
    let (senders, receivers) = channels(1, 4);
    let mut output = ResultPartition::new(Partitioner::Forward, senders);
    let mut gate = InputGate::new(receivers);
    let mut batch: Batch<u64> = Batch::new();
    let mut received: Batch<u64> = Batch::new();
    let mut buffers = std::collections::BTreeSet::new();
    for _ in 0..100 {
        batch.untimed().extend(0..1024);
        output.emit(&mut batch, &Origin::UNKNOWN).unwrap();
        let Some((channel, Element::Records { payload, .. })) = gate.poll() else {
            panic!("a full batch is handed over at once");
        };
        let spare = receive_into(payload, &mut received).unwrap().unwrap();
        buffers.insert(received.records().as_ptr() as usize);
        received.clear();
        gate.recycle(channel, spare);
    }
    assert!(buffers.len() <= 4, "{} buffers for 100 batches", buffers.len());
}

#[test]
fn small_batches_are_gathered_and_sent_at_the_flush() {
    let (senders, receivers) = channels(1, 4);
    let mut output = ResultPartition::new(Partitioner::Forward, senders);
    for n in 0..10 {
        output.emit(&mut Batch::from(vec![n, n]), &Origin::UNKNOWN).unwrap();
    }
    assert!(receivers[0].try_recv().is_none());
    output.flush().unwrap();
    assert!(matches!(
        receivers[0].try_recv(),
        Some(Element::Records { count: 20, .. })
    ));
    output.flush().unwrap();
    assert!(receivers[0].try_recv().is_none(), "an empty batch is not sent");
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Forward,
    Hash,
    Rebalance,
    Broadcast,
    Global,
}

/// What a producer does in a test: emit so many records, or flush, or send a barrier.
#[derive(Debug, Clone)]
enum Step {
    Emit(usize),
    Flush,
    Barrier,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0_usize..3000).prop_map(Step::Emit),
        3 => (0_usize..20).prop_map(Step::Emit),
        1 => Just(Step::Flush),
        1 => Just(Step::Barrier),
    ];
    prop::collection::vec(step, 0..30)
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Forward),
        Just(Kind::Hash),
        Just(Kind::Rebalance),
        Just(Kind::Broadcast),
        Just(Kind::Global)
    ]
}

#[test]
fn what_is_sent_says_where_it_comes_from_and_not_where_earlier_batches_came_from() {
    const BATCHES: u64 = 10;
    let (senders, receivers) = channels(2, 1 << 10);
    let by_thousand = |record: &u64| u32::try_from(record / 1000 % 2).unwrap();
    let mut output = ResultPartition::new(Partitioner::hash(by_thousand), senders);
    for batch in 0..BATCHES {
        let range = batch * 1000..(batch + 1) * 1000;
        let mut records = Batch::from(range.clone().collect::<Vec<_>>());
        output.emit(&mut records, &numbers(range)).unwrap();
    }
    output.flush().unwrap();
    for (channel, receiver) in (0..).zip(&receivers) {
        let mut records = 0;
        while let Some(Element::Records { payload, origin, .. }) = receiver.try_recv() {
            let batch = decode::<u64>(payload).unwrap();
            let (first, last) = (batch.records()[0], batch.records()[batch.len() - 1]);
            assert_eq!(by_thousand(&first), channel);
            // From the batch of the first record to the one of the last, or to the last one that there was at the flush.
            let told = told(&origin);
            assert_eq!(told.start, first / 1000 * 1000, "{origin}");
            assert!(
                told.end == (last / 1000 + 1) * 1000 || told.end == BATCHES * 1000,
                "{origin}"
            );
            records += batch.len() as u64;
        }
        assert_eq!(records, BATCHES / 2 * 1000);
    }
}

#[test]
fn records_that_are_dealt_out_by_key_bring_its_hash_also_in_a_buffer_that_comes_back() {
    let (senders, receivers) = channels(2, 1 << 10);
    let hash_of = |record: &u64| record.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let owner_of = |hash: u64| u32::from(hash >> 63 == 1);
    let mut output = ResultPartition::new(Partitioner::by_key(hash_of, owner_of), senders);
    let (mut arrived, mut batch) = (0, Batch::new());
    for first in [0, 1000, 2000] {
        let mut records = Batch::from((first..first + 1000).collect::<Vec<_>>());
        output.emit(&mut records, &Origin::UNKNOWN).unwrap();
        output.flush().unwrap();
        for (channel, receiver) in (0..).zip(&receivers) {
            while let Some(Element::Records { payload, .. }) = receiver.try_recv() {
                let spare = receive_into::<u64>(payload, &mut batch).unwrap().unwrap();
                let hashes = batch.key_hashes().unwrap();
                assert!(batch.records().iter().map(hash_of).eq(hashes.iter().copied()));
                assert!(hashes.iter().all(|hash| owner_of(*hash) == channel));
                arrived += batch.len();
                batch.clear();
                receiver.recycle(spare);
            }
        }
    }
    assert_eq!(arrived, 3000);
}

#[test]
fn the_hashes_of_keys_go_no_further_than_the_consumer() {
    for partitioner in [
        Partitioner::Forward,
        Partitioner::Rebalance,
        Partitioner::Global,
        Partitioner::broadcast(),
        Partitioner::hash(|_| 0),
        Partitioner::by_key(|_| 5, |_| 0),
    ] {
        let (senders, receivers) = channels(2, 1 << 10);
        let mut first = ResultPartition::new(Partitioner::by_key(|record: &u64| *record, |_| 0), senders);
        first.emit(&mut Batch::from(vec![1, 2]), &Origin::UNKNOWN).unwrap();
        first.flush().unwrap();
        let Some(Element::Records { payload, .. }) = receivers[0].try_recv() else {
            panic!("records were sent");
        };
        let mut keyed = decode::<u64>(payload).unwrap();
        assert_eq!(keyed.key_hashes(), Some(&[1, 2][..]));

        let (senders, receivers) = channels(1, 1 << 10);
        let mut second = ResultPartition::new(partitioner, senders);
        second.emit(&mut keyed, &Origin::UNKNOWN).unwrap();
        second.flush().unwrap();
        let Some(Element::Records { payload, .. }) = receivers[0].try_recv() else {
            panic!("records were sent");
        };
        let arrived = decode::<u64>(payload).unwrap();
        assert_eq!((arrived.records(), arrived.key_hashes()), (&[1, 2][..], None));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_record_arrives_exactly_once_where_it_belongs_in_order_and_between_its_barriers(
        kind in kinds(),
        fan_out in 1_usize..6,
        steps in steps(),
    ) {
        let fan_out = if matches!(kind, Kind::Forward) { 1 } else { fan_out };
        let (senders, receivers) = channels(fan_out, 1 << 20);
        let spread = u64::try_from(fan_out).unwrap();
        let partitioner = match kind {
            Kind::Forward => Partitioner::Forward,
            Kind::Hash => Partitioner::hash(move |record: &u64| u32::try_from(record / 3 % spread).unwrap()),
            Kind::Rebalance => Partitioner::Rebalance,
            Kind::Broadcast => Partitioner::broadcast(),
            Kind::Global => Partitioner::Global,
        };
        let mut output = ResultPartition::new(partitioner, senders);
        let mut expected = vec![Vec::new(); fan_out];
        let (mut next, mut checkpoint) = (1_u64, 0_u64);
        let mut batch = Batch::new();
        for step in steps {
            match step {
                Step::Emit(count) => {
                    let origin = numbers(next..next + count as u64);
                    for _ in 0..count {
                        let record = i64::try_from(next).unwrap();
                        match kind {
                            Kind::Forward | Kind::Global => expected[0].push(record),
                            Kind::Hash => expected[usize::try_from(next / 3 % spread).unwrap()].push(record),
                            Kind::Rebalance => expected[usize::try_from((next - 1) % spread).unwrap()].push(record),
                            Kind::Broadcast => expected.iter_mut().for_each(|all| all.push(record)),
                        }
                        batch.push(next, if next % 5 == 0 { EventTime::MIN } else { EventTime(-record) });
                        next += 1;
                    }
                    output.emit(&mut batch, &origin).unwrap();
                    prop_assert!(batch.is_empty());
                }
                Step::Flush => output.flush().unwrap(),
                Step::Barrier => {
                    checkpoint += 1;
                    output.control(Element::Barrier(barrier(checkpoint))).unwrap();
                    expected.iter_mut().for_each(|all| all.push(-i64::try_from(checkpoint).unwrap()));
                }
            }
        }
        output.control(Element::EndOfData).unwrap();
        expected.iter_mut().for_each(|all| all.push(i64::MIN));
        for (receiver, expected) in receivers.iter().zip(&expected) {
            prop_assert_eq!(&drain(receiver), expected);
        }
    }
}
