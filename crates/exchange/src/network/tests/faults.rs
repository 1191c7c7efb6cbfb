//! Peers that break the protocol, or break down.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener};

use super::peer::{Introduction, Peer, frame};
use super::*;
use crate::channel::SendResult;
use crate::network::FrameError;
use crate::network::frame::{Draft, Frame, FrameKind, HEADER_BYTES};

/// A worker that consumes from a scripted one.
struct Consumer {
    address: SocketAddr,
    network: AttemptNetwork,
    receiver: ChannelReceiver,
    parker: Parker,
    _plane: DataPlane,
    _runtime: Runtime,
}

fn consumer(options: DataPlaneOptions) -> Consumer {
    let runtime = runtime();
    let plane = DataPlane::bind("127.0.0.1:0", options, runtime.handle().clone()).unwrap();
    let network = plane.for_attempt(JOB, ATTEMPT, RIGHT, &[(LEFT, "127.0.0.1:1".to_owned())]);
    let (waker, parker) = Waker::new();
    Consumer {
        address: plane.local_addr(),
        receiver: network.receiver(LEFT, key(0, 0), waker),
        network,
        parker,
        _plane: plane,
        _runtime: runtime,
    }
}

/// What a consumer makes of these frames, after a proper open; checks that the peer hears of it too.
fn verdict_on(frames: &[Frame]) -> FrameError {
    let consumer = consumer(options());
    let mut peer = Peer::connect(consumer.address);
    peer.open(0, key(0, 0));
    for frame in frames {
        peer.write(frame);
    }
    let error = lost(&consumer.receiver, &consumer.parker);
    let mut last = None;
    while let Some(seen) = peer.read() {
        last = Some(seen);
    }
    let last = last.expect("the reason is sent");
    assert_eq!(last.kind, FrameKind::Error as u8);
    drop(consumer);
    match Arc::try_unwrap(error).expect("the consumer held the only other reference") {
        NetworkError::Frame { peer: LEFT, source } => {
            assert_eq!(String::from_utf8(last.payload).unwrap(), source.to_string());
            source
        }
        other => panic!("{other:?}"),
    }
}

fn records(sequence: u64) -> Frame {
    let payload = bitcode::serialize(&(vec![1_u64], Vec::<i64>::new())).unwrap();
    let origin = Origin::read(&Arc::from("numbers"), 0, &[]);
    Draft::records(1, &origin, payload.into()).finish(0, sequence)
}

/// A frame with one byte of its header changed, its checksum made right again or not.
fn patched(frame: Frame, at: usize, byte: u8) -> Frame {
    let mut header = frame.header;
    header[at] = byte;
    Frame { header, ..frame }
}

#[test]
fn a_frame_whose_payload_or_header_changed_on_the_way_is_refused() {
    let mut flipped = records(1);
    let mut payload = flipped.payload.to_vec();
    payload[0] ^= 1;
    flipped.payload = payload.into();
    assert!(matches!(
        verdict_on(&[flipped]),
        FrameError::Checksum {
            channel: 0,
            sequence: 1,
            ..
        }
    ));
    let mut elsewhere = records(1);
    let mut lead = elsewhere.lead.to_vec();
    *lead.last_mut().unwrap() ^= 1;
    elsewhere.lead = lead.into();
    assert!(matches!(verdict_on(&[elsewhere]), FrameError::Checksum { .. }));
    let recounted = patched(records(1), 13, 99);
    assert!(matches!(verdict_on(&[recounted]), FrameError::Checksum { .. }));
}

#[test]
fn records_from_an_origin_that_cannot_be_read_are_refused() {
    for payload in [&[1, 0, 9][..], &[200, 0, 0, 0], &[]] {
        let garbled = frame(FrameKind::Records, payload.to_vec(), 0, 1);
        let verdict = verdict_on(&[garbled]);
        assert!(
            matches!(
                verdict,
                FrameError::Payload {
                    kind: FrameKind::Records,
                    ..
                } | FrameError::Length { .. }
            ),
            "{verdict:?}"
        );
    }
}

#[test]
fn a_length_over_the_limit_is_refused_before_a_byte_of_it_is_read() {
    let mut announced = records(1);
    announced.header[17..21].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(
        verdict_on(&[announced]),
        FrameError::Length {
            kind: FrameKind::Records,
            length: u32::MAX,
            ..
        }
    ));
    let mut barrier = frame(FrameKind::Barrier, vec![0; 10], 0, 1);
    barrier.header[17..21].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    assert!(matches!(
        verdict_on(&[barrier]),
        FrameError::Length {
            kind: FrameKind::Barrier,
            ..
        }
    ));
}

#[test]
fn a_frame_of_an_unknown_kind_or_from_the_wrong_side_is_refused() {
    assert!(matches!(
        verdict_on(&[patched(records(1), 12, 77)]),
        FrameError::UnknownKind { kind: 77 }
    ));
    let credit = frame(FrameKind::Credit, vec![1, 0, 0, 0], 0, 1);
    assert!(matches!(
        verdict_on(&[credit]),
        FrameError::Direction {
            kind: FrameKind::Credit
        }
    ));
}

#[test]
fn a_lost_or_repeated_frame_is_noticed() {
    assert!(matches!(
        verdict_on(&[records(2)]),
        FrameError::Sequence {
            channel: 0,
            expected: 1,
            found: 2
        }
    ));
    assert!(matches!(
        verdict_on(&[records(1), records(1)]),
        FrameError::Sequence {
            channel: 0,
            expected: 2,
            found: 1
        }
    ));
}

#[test]
fn channels_are_opened_once_and_before_they_are_used() {
    let elsewhere = frame(FrameKind::EndOfData, Vec::new(), 8, 0);
    assert!(matches!(
        verdict_on(&[elsewhere]),
        FrameError::UnknownChannel { channel: 8 }
    ));
    let again = frame(FrameKind::Open, key(0, 0).to_bytes().to_vec(), 1, 0);
    assert!(matches!(verdict_on(&[again]), FrameError::OpenTwice { .. }));
    let gap = frame(FrameKind::Open, key(0, 1).to_bytes().to_vec(), 2, 0);
    assert!(matches!(
        verdict_on(&[gap]),
        FrameError::OpenOrder {
            channel: 2,
            expected: 1
        }
    ));
}

#[test]
fn records_beyond_the_credit_are_refused_so_memory_stays_bounded() {
    let frames: Vec<Frame> = (1..=u64::from(options().credit) + 1).map(records).collect();
    assert!(matches!(verdict_on(&frames), FrameError::NoCredit { channel: 0 }));
}

#[test]
fn control_elements_by_the_thousand_are_refused_so_memory_stays_bounded() {
    let flood: Vec<Frame> = (1..=1100)
        .map(|n| frame(FrameKind::EndOfData, Vec::new(), 0, n))
        .collect();
    assert!(matches!(verdict_on(&flood), FrameError::TooMuchControl { channel: 0 }));
}

#[test]
fn a_barrier_that_cannot_be_decoded_is_refused() {
    let garbage = frame(FrameKind::Barrier, vec![0xff; 7], 0, 1);
    assert!(matches!(
        verdict_on(&[garbage]),
        FrameError::Payload {
            kind: FrameKind::Barrier,
            channel: 0,
            source: Some(_)
        }
    ));
}

#[test]
fn a_connection_that_ends_is_seen_at_once_by_its_consumers_the_unopened_ones_too() {
    let consumer = consumer(options());
    let (waker, unopened_parker) = Waker::new();
    let unopened = consumer.network.receiver(LEFT, key(5, 5), waker.clone());
    let mut peer = Peer::connect(consumer.address);
    peer.open(0, key(0, 0));
    peer.write(&records(1));
    assert_eq!(values(receive(&consumer.receiver, &consumer.parker)), [1]);
    drop(peer);
    let error = lost(&consumer.receiver, &consumer.parker);
    assert!(matches!(
        *error,
        NetworkError::PeerClosed { peer: LEFT } | NetworkError::Io { peer: LEFT, .. }
    ));
    lost(&unopened, &unopened_parker);
    assert!(
        consumer.network.receiver(LEFT, key(6, 6), waker).is_closed(),
        "nor can new ones be"
    );
}

#[test]
fn a_connection_that_ends_after_the_end_of_data_is_still_a_loss_since_barriers_may_follow() {
    let consumer = consumer(options());
    let mut peer = Peer::connect(consumer.address);
    peer.open(0, key(0, 0));
    peer.write(&frame(FrameKind::EndOfData, Vec::new(), 0, 1));
    drop(peer);
    lost(&consumer.receiver, &consumer.parker);
}

#[test]
fn a_connection_that_ends_within_a_frame_is_told_apart() {
    let consumer = consumer(options());
    let mut peer = Peer::connect(consumer.address);
    peer.open(0, key(0, 0));
    let half = records(1);
    peer.socket.write_all(&half.header[..HEADER_BYTES]).unwrap();
    peer.socket.shutdown(Shutdown::Write).unwrap();
    assert!(matches!(
        *lost(&consumer.receiver, &consumer.parker),
        NetworkError::Frame {
            source: FrameError::Truncated,
            ..
        }
    ));
}

#[test]
fn a_connection_that_ends_is_seen_at_once_by_its_producers_even_where_they_wait_for_room() {
    let runtime = runtime();
    let plane = DataPlane::bind("127.0.0.1:0", options(), runtime.handle().clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peers = [(RIGHT, listener.local_addr().unwrap().to_string())];
    let network = plane.for_attempt(JOB, ATTEMPT, LEFT, &peers);
    let (waker, parker) = Waker::new();
    let sender = network.sender(RIGHT, key(0, 0), waker.clone());
    let peer = Peer::accept(&listener, &Introduction::default());
    while sender.has_room() {
        assert_eq!(sender.send(encoded(&[1])), SendResult::Sent);
    }
    drop(peer);
    park_until(&parker, "the end of back-pressure", || sender.has_room().then_some(()));
    assert_eq!(sender.send(encoded(&[1])), SendResult::Lost);
    assert!(matches!(sender.loss(), Some(ChannelLoss::Connection(_))));
    assert_eq!(
        network.sender(RIGHT, key(0, 1), waker).send(Element::EndOfData),
        SendResult::Lost
    );
}

#[test]
fn the_reason_that_a_peer_gives_reaches_the_producer() {
    let runtime = runtime();
    let plane = DataPlane::bind("127.0.0.1:0", options(), runtime.handle().clone()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peers = [(RIGHT, listener.local_addr().unwrap().to_string())];
    let network = plane.for_attempt(JOB, ATTEMPT, LEFT, &peers);
    let (waker, parker) = Waker::new();
    let sender = network.sender(RIGHT, key(0, 0), waker);
    let mut peer = Peer::accept(&listener, &Introduction::default());
    peer.write(&frame(FrameKind::Error, b"out of\x1b patience".to_vec(), 0, 0));
    match park_until(&parker, "the loss", || sender.loss()) {
        ChannelLoss::Connection(error) => {
            assert_eq!(
                error.to_string(),
                "worker `worker-2` gave up the connection: out of patience"
            );
        }
        ChannelLoss::ProducerGone => panic!("the connection is lost"),
    }
}
