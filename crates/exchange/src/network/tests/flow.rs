//! Records, control elements, credit and proper ends.

use std::net::TcpListener;

use streamd_core::source::{Stretch, Unit};

use super::peer::{Introduction, Peer, Seen, frame};
use super::*;
use crate::batch::Batch;
use crate::channel::SendResult;
use crate::gate::InputGate;
use crate::network::frame::FrameKind;
use crate::partition::{Partitioner, ResultPartition};

#[test]
fn every_record_crosses_once_in_order_and_between_its_barriers() {
    const TURNS: u64 = 300;
    const TURN: u64 = 1500;
    const CHANNELS: u32 = 3;
    let pair = pair(options());
    let (producer, parker) = Waker::new();
    let senders = (0..CHANNELS).map(|target| pair.left.sender(RIGHT, key(0, target), producer.clone()));
    let senders: Vec<_> = senders.collect();
    assert!(senders.iter().all(|sender| !sender.is_local()));
    let producing = std::thread::spawn(move || {
        let by_remainder = |record: &(u64, String)| u32::try_from(record.0 % u64::from(CHANNELS)).unwrap();
        let mut output = ResultPartition::new(Partitioner::hash(by_remainder), senders);
        let mut batch = Batch::new();
        let source = Arc::from("numbers");
        for turn in 0..TURNS {
            park_until(&parker, "room", || output.has_room().then_some(()));
            let numbers = turn * TURN..(turn + 1) * TURN;
            let stretch = Stretch {
                of: None,
                unit: Unit::Records,
                from: numbers.start,
                to: numbers.end,
            };
            let origin = Origin::read(&source, 0, &[stretch]);
            batch.untimed().extend(numbers.map(|n| (n, format!("record {n}"))));
            output.emit(&mut batch, &origin).unwrap();
            if turn % 50 == 49 {
                output.control(Element::Barrier(barrier(turn))).unwrap();
            }
        }
        output.control(Element::EndOfData).unwrap();
    });

    let (consumer, parker) = Waker::new();
    let receivers = (0..CHANNELS).map(|target| pair.right.receiver(LEFT, key(0, target), consumer.clone()));
    let mut gate = InputGate::new(receivers.collect());
    let mut expected: Vec<u64> = (0..u64::from(CHANNELS)).collect();
    let mut ended = 0;
    while ended < CHANNELS {
        let (channel, element) = park_until(&parker, "an element", || {
            assert_eq!(gate.failed(), None);
            gate.poll()
        });
        match element {
            Element::Records { payload, count, origin } => {
                let records: Vec<(u64, String)> = decode(payload).unwrap().into_records();
                assert_eq!(records.len(), count as usize);
                let text = origin.to_string();
                let (_, told) = text
                    .split_once("source `numbers` (subtask 1), between records ")
                    .unwrap();
                let (from, to) = told.split_once(" and ").unwrap();
                assert!(records[0].0 >= from.parse().unwrap() && records[records.len() - 1].0 < to.parse().unwrap());
                for (number, text) in records {
                    assert_eq!(number, expected[channel]);
                    assert_eq!(text, format!("record {number}"));
                    expected[channel] += u64::from(CHANNELS);
                }
            }
            Element::Barrier(found) => {
                let cut = (found.checkpoint.0 + 1) * TURN;
                assert_eq!(found, barrier(found.checkpoint.0));
                assert!(expected[channel] >= cut && expected[channel] < cut + u64::from(CHANNELS));
            }
            Element::Watermark(watermark) => panic!("{watermark:?} was not sent"),
            Element::EndOfData => {
                assert!(expected[channel] >= TURNS * TURN);
                ended += 1;
            }
        }
    }
    producing.join().unwrap();
}

#[test]
fn a_consumer_that_does_not_read_stops_its_producer_and_nobody_else() {
    let pair = pair(options());
    let (producer, producer_parker) = Waker::new();
    let (consumer, parker) = Waker::new();
    let stuck = pair.left.sender(RIGHT, key(0, 0), producer.clone());
    let free = pair.left.sender(RIGHT, key(0, 1), producer);
    let stuck_receiver = pair.right.receiver(LEFT, key(0, 0), consumer.clone());
    let free_receiver = pair.right.receiver(LEFT, key(0, 1), consumer);

    let large = vec![u64::MAX / 3; 100_000];
    let limit = usize::try_from(options().credit).unwrap() + options().outbox_batches;
    // Without looking for room: that comes back only when the queue is half empty, which it never is if the credit ends before.
    for _ in 0..limit {
        assert_eq!(stuck.send(encoded(&large)), SendResult::Sent);
    }
    assert_eq!(stuck.send(Element::Barrier(barrier(1))), SendResult::Sent);
    for n in 0..1000 {
        park_until(&producer_parker, "room in the other channel", || {
            free.has_room().then_some(())
        });
        assert_eq!(free.send(encoded(&[n])), SendResult::Sent);
        assert_eq!(values(receive(&free_receiver, &parker)), [n]);
    }
    assert!(!stuck.has_room(), "{limit} batches are all that the channel holds");

    for _ in 0..limit {
        assert_eq!(values(receive(&stuck_receiver, &parker)).len(), large.len());
    }
    assert!(matches!(receive(&stuck_receiver, &parker), Element::Barrier(_)));
    park_until(&producer_parker, "room", || stuck.has_room().then_some(()));
}

#[test]
fn records_wait_for_credit_and_control_elements_do_not() {
    let runtime = runtime();
    let plane = DataPlane::bind("127.0.0.1:0", options(), runtime.handle().clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peers = [(RIGHT, listener.local_addr().unwrap().to_string())];
    let network = plane.for_attempt(JOB, ATTEMPT, LEFT, &peers);
    let (producer, _parker) = Waker::new();
    let records = network.sender(RIGHT, key(0, 0), producer.clone());
    let control = network.sender(RIGHT, key(0, 1), producer);
    let mut peer = Peer::accept(&listener, &Introduction::default());

    for _ in 0..3 {
        assert_eq!(records.send(encoded(&[1])), SendResult::Sent);
    }
    assert_eq!(records.send(Element::EndOfData), SendResult::Sent);
    assert_eq!(control.send(Element::Barrier(barrier(1))), SendResult::Sent);
    assert_eq!(control.send(Element::EndOfData), SendResult::Sent);
    drop(control);
    let mut kinds_without_credit = |count| -> Vec<(u32, u8)> {
        let mut read = || peer.read().map(|seen: Seen| (seen.channel, seen.kind));
        (0..count).map(|_| read().unwrap()).collect()
    };
    assert_eq!(
        kinds_without_credit(5),
        [(0, 1), (1, 1), (1, 3), (1, 4), (1, 5)],
        "both channels are opened, the second runs to its end"
    );
    peer.write(&frame(FrameKind::Credit, 2_u32.to_le_bytes().to_vec(), 0, 0));
    let two: Vec<u8> = (0..2).map(|_| peer.read().unwrap().kind).collect();
    assert_eq!(two, [2, 2]);
    peer.write(&frame(FrameKind::Credit, 1_u32.to_le_bytes().to_vec(), 0, 1));
    let rest: Vec<u8> = (0..2).map(|_| peer.read().unwrap().kind).collect();
    assert_eq!(rest, [2, 4], "the end of data keeps its place behind the records");
}

#[test]
fn elements_that_come_before_their_consumer_are_there_when_it_is_built() {
    let pair = pair(options());
    let (producer, _) = Waker::new();
    let sender = pair.left.sender(RIGHT, key(0, 0), producer.clone());
    let other = pair.left.sender(RIGHT, key(0, 1), producer);
    let _ = sender.send(Element::Barrier(barrier(1)));
    let _ = sender.send(encoded(&[5]));
    let _ = other.send(Element::EndOfData);
    // The second channel's element tells that the first one's barrier has arrived.
    let (waker, parker) = Waker::new();
    let other = pair.right.receiver(LEFT, key(0, 1), waker.clone());
    assert!(matches!(receive(&other, &parker), Element::EndOfData));
    let receiver = pair.right.receiver(LEFT, key(0, 0), waker);
    assert!(matches!(receive(&receiver, &parker), Element::Barrier(_)));
    assert_eq!(values(receive(&receiver, &parker)), [5]);
}

#[test]
fn workers_that_leave_properly_are_no_loss_to_each_other() {
    let pair = pair(options());
    let (producer, producer_parker) = Waker::new();
    let (consumer, parker) = Waker::new();
    let ending = pair.left.sender(RIGHT, key(0, 0), producer.clone());
    let unwanted = pair.left.sender(RIGHT, key(0, 1), producer.clone());
    let vanishing = pair.left.sender(RIGHT, key(0, 2), producer);
    let receiver = pair.right.receiver(LEFT, key(0, 0), consumer.clone());
    let unwanted_receiver = pair.right.receiver(LEFT, key(0, 1), consumer.clone());
    let vanishing_receiver = pair.right.receiver(LEFT, key(0, 2), consumer);

    while unwanted.has_room() {
        let _ = unwanted.send(encoded(&[1]));
    }
    drop(unwanted_receiver);
    park_until(&producer_parker, "the end of back-pressure", || {
        unwanted.has_room().then_some(())
    });
    park_until(&producer_parker, "the news", || {
        (unwanted.send(encoded(&[2])) == SendResult::ConsumerGone).then_some(())
    });

    let _ = ending.send(Element::EndOfData);
    drop((ending, vanishing));
    pair.runtime.block_on(pair.left.close());
    assert!(matches!(receive(&receiver, &parker), Element::EndOfData));
    let loss = park_until(&parker, "the loss", || vanishing_receiver.loss());
    assert!(matches!(loss, ChannelLoss::ProducerGone));
    pair.runtime.block_on(pair.right.close());
    assert!(receiver.loss().is_none(), "its producer had closed it");
    assert!(unwanted.loss().is_none(), "its consumer had left");
}

#[test]
fn nothing_outlives_the_close() {
    let pair = pair(options());
    let (waker, parker) = Waker::new();
    let there = pair.left.sender(RIGHT, key(0, 0), waker.clone());
    let back = pair.right.sender(LEFT, key(0, 0), waker.clone());
    let there_receiver = pair.right.receiver(LEFT, key(0, 0), waker.clone());
    let back_receiver = pair.left.receiver(RIGHT, key(0, 0), waker.clone());
    let idle_receiver = pair.left.receiver(RIGHT, key(9, 9), waker);
    let _ = there.send(encoded(&[1]));
    let _ = back.send(encoded(&[2]));
    assert_eq!(values(receive(&there_receiver, &parker)), [1]);
    assert_eq!(values(receive(&back_receiver, &parker)), [2]);

    let Pair {
        left,
        right,
        planes,
        runtime,
    } = pair;
    runtime.block_on(left.close());
    assert!(matches!(*lost(&back_receiver, &parker), NetworkError::Closed));
    assert!(matches!(*lost(&idle_receiver, &parker), NetworkError::Closed));
    assert_eq!(there.send(encoded(&[3])), SendResult::Lost);
    lost(&there_receiver, &parker);
    drop(right.close());
    for plane in planes {
        runtime.block_on(plane.close());
    }
    // A task is counted until its worker thread has put it away, a moment after it has ended.
    let gone = (0..12_000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        runtime.metrics().num_alive_tasks() == 0
    });
    assert!(gone, "{} tasks are left", runtime.metrics().num_alive_tasks());
}

#[test]
fn a_broadcast_reaches_local_and_remote_consumers_alike() {
    let pair = pair(options());
    let (waker, parker) = Waker::new();
    let (local, local_receiver) = crate::local_channel(8, waker.clone(), waker.clone());
    let remote: Vec<_> = (0..2)
        .map(|n| pair.left.sender(RIGHT, key(0, n), waker.clone()))
        .collect();
    let mut receivers = vec![local_receiver];
    receivers.extend((0..2).map(|n| pair.right.receiver(LEFT, key(0, n), waker.clone())));
    let mut channels = vec![local];
    channels.extend(remote);
    let mut output = ResultPartition::new(Partitioner::broadcast(), channels);
    let batch: Vec<u64> = (0..5000).collect();
    output.emit(&mut Batch::from(batch.clone()), &Origin::UNKNOWN).unwrap();
    output.flush().unwrap();
    for receiver in &receivers {
        let mut received = Vec::new();
        while received.len() < batch.len() {
            received.extend(values(receive(receiver, &parker)));
        }
        assert_eq!(received, batch);
    }
}
