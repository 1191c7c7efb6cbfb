//! Who is let in, who waits, who is sent away.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::peer::{Introduction, Peer};
use super::*;
use crate::network::{HandshakeError, Refusal};

fn plane(options: DataPlaneOptions) -> (DataPlane, Runtime) {
    let runtime = runtime();
    let plane = DataPlane::bind("127.0.0.1:0", options, runtime.handle().clone()).unwrap();
    (plane, runtime)
}

fn left_only() -> [(WorkerId, String); 1] {
    [(LEFT, "127.0.0.1:1".to_owned())]
}

fn verdict(address: SocketAddr, introduction: &Introduction) -> u8 {
    introduction.connect(address).1
}

#[test]
fn a_stranger_is_refused_with_the_reason() {
    let (plane, _runtime) = plane(options());
    let address = plane.local_addr();
    let _network = plane.for_attempt(JOB, ATTEMPT, RIGHT, &left_only());
    let refused = [
        (
            Introduction {
                token: "wrong",
                ..Introduction::default()
            },
            Refusal::Token,
        ),
        (
            Introduction {
                token: "",
                ..Introduction::default()
            },
            Refusal::Token,
        ),
        (
            Introduction {
                version: 9,
                ..Introduction::default()
            },
            Refusal::Version,
        ),
        (
            Introduction {
                attempt: Attempt(2),
                ..Introduction::default()
            },
            Refusal::StaleAttempt,
        ),
        (
            Introduction {
                from: WorkerId(77),
                ..Introduction::default()
            },
            Refusal::UnknownPeer,
        ),
    ];
    for (introduction, refusal) in refused {
        assert_eq!(verdict(address, &introduction), refusal as u8);
    }
    let _first = Peer::connect(address);
    assert_eq!(
        verdict(address, &Introduction::default()),
        Refusal::AlreadyConnected as u8
    );
}

#[test]
fn what_is_no_worker_gets_no_answer() {
    // It has said less than a worker would, and is waited for that long.
    let (plane, _runtime) = plane(DataPlaneOptions {
        handshake_timeout: Duration::from_millis(50),
        ..options()
    });
    let mut socket = TcpStream::connect(plane.local_addr()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    // Nobody may listen any more.
    let _ = socket.write_all(b"GET / HTTP/1.1\r\nHost: streamd\r\nAccept: */*\r\n\r\n");
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    assert_eq!(answer, b"");
}

#[test]
fn a_stranger_who_says_nothing_is_sent_away_in_time() {
    let (plane, _runtime) = plane(DataPlaneOptions {
        handshake_timeout: Duration::from_millis(50),
        ..options()
    });
    let mut socket = TcpStream::connect(plane.local_addr()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    assert_eq!(socket.read_to_end(&mut answer).unwrap(), 0);
}

#[test]
fn a_peer_of_a_newer_attempt_waits_until_that_starts_here() {
    let (plane, _runtime) = plane(options());
    let address = plane.local_addr();
    let old = plane.for_attempt(JOB, ATTEMPT, RIGHT, &left_only());
    let newer = Introduction {
        attempt: Attempt(4),
        ..Introduction::default()
    };
    let waiting = std::thread::spawn(move || verdict(address, &newer));
    drop(old);
    assert!(!waiting.is_finished());
    let _new = plane.for_attempt(JOB, Attempt(4), RIGHT, &left_only());
    assert_eq!(waiting.join().unwrap(), 0);
    assert_eq!(verdict(address, &Introduction::default()), Refusal::StaleAttempt as u8);
}

#[test]
fn a_peer_waits_for_a_bounded_time_and_an_attempt_that_is_over_is_stale() {
    let (plane, _runtime) = plane(DataPlaneOptions {
        park_timeout: Duration::from_millis(50),
        ..options()
    });
    let address = plane.local_addr();
    assert_eq!(verdict(address, &Introduction::default()), Refusal::NotReady as u8);
    drop(plane.for_attempt(JOB, ATTEMPT, RIGHT, &left_only()));
    assert_eq!(verdict(address, &Introduction::default()), Refusal::StaleAttempt as u8);
}

#[test]
fn a_producer_that_starts_first_is_connected_when_its_consumer_starts() {
    let runtime = runtime();
    // So short that the producer is told to try again, more than once.
    let hurried = DataPlaneOptions {
        park_timeout: Duration::from_millis(10),
        ..options()
    };
    let bind = || DataPlane::bind("127.0.0.1:0", hurried.clone(), runtime.handle().clone()).unwrap();
    let (left, right) = (bind(), bind());
    let to_right = left.for_attempt(JOB, ATTEMPT, LEFT, &[(RIGHT, right.local_addr().to_string())]);
    let (waker, parker) = Waker::new();
    let sender = to_right.sender(RIGHT, key(0, 0), waker.clone());
    let _ = sender.send(Element::EndOfData);
    parker.park_timeout(Duration::from_millis(100));
    assert!(sender.loss().is_none());
    let from_left = right.for_attempt(JOB, ATTEMPT, RIGHT, &left_only());
    let receiver = from_left.receiver(LEFT, key(0, 0), waker);
    assert!(matches!(receive(&receiver, &parker), Element::EndOfData));
}

/// Why a producer lost its channel.
fn loss_of(network: &AttemptNetwork) -> Arc<NetworkError> {
    let (waker, parker) = Waker::new();
    let sender = network.sender(RIGHT, key(0, 0), waker);
    match park_until(&parker, "the loss", || sender.loss()) {
        ChannelLoss::Connection(error) => error,
        ChannelLoss::ProducerGone => panic!("the connection is lost"),
    }
}

#[test]
fn a_producer_that_is_refused_loses_its_channels_at_once_with_the_reason() {
    let (right, _right_runtime) = plane(options_with("another token"));
    let (left, _left_runtime) = plane(options());
    let network = left.for_attempt(JOB, ATTEMPT, LEFT, &[(RIGHT, right.local_addr().to_string())]);
    assert!(matches!(
        *loss_of(&network),
        NetworkError::Refused {
            peer: RIGHT,
            source: HandshakeError::Refused(Refusal::Token),
            ..
        }
    ));
}

#[test]
fn a_producer_whose_peer_cannot_be_reached_loses_its_channels_when_the_time_is_up() {
    // Taken, so that nobody else takes it, and not listened on.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let unused = socket.local_addr().unwrap();
    let (left, _runtime) = plane(DataPlaneOptions {
        connect_timeout: Duration::from_millis(100),
        ..options()
    });
    let network = left.for_attempt(JOB, ATTEMPT, LEFT, &[(RIGHT, unused.to_string())]);
    let error = loss_of(&network);
    assert!(matches!(
        *error,
        NetworkError::Connect {
            peer: RIGHT,
            source: Some(HandshakeError::Io(_)),
            ..
        }
    ));
}

#[test]
fn a_channel_with_a_worker_outside_of_the_attempt_is_lost_from_the_start() {
    let (left, _runtime) = plane(options());
    let network = left.for_attempt(JOB, ATTEMPT, LEFT, &[]);
    assert!(matches!(*loss_of(&network), NetworkError::UnknownPeer { peer: RIGHT }));
    let (waker, parker) = Waker::new();
    let receiver = network.receiver(RIGHT, key(0, 0), waker);
    assert!(matches!(
        *lost(&receiver, &parker),
        NetworkError::UnknownPeer { peer: RIGHT }
    ));
}

#[test]
fn a_second_consumer_of_one_channel_gets_nothing_and_disturbs_nothing() {
    let (right, _runtime) = plane(options());
    let network = right.for_attempt(JOB, ATTEMPT, RIGHT, &left_only());
    let (waker, parker) = Waker::new();
    let first = network.receiver(LEFT, key(0, 0), waker.clone());
    let second = network.receiver(LEFT, key(0, 0), waker);
    assert!(matches!(
        *lost(&second, &parker),
        NetworkError::DuplicateConsumer { .. }
    ));
    assert!(!first.is_closed());
}

#[test]
fn an_address_in_use_and_a_token_too_long_are_refused_at_the_bind() {
    let (plane, runtime) = plane(options());
    let again = DataPlane::bind(plane.local_addr(), options(), runtime.handle().clone());
    assert!(matches!(
        again,
        Err(NetworkError::Bind { ref source, .. }) if source.kind() == std::io::ErrorKind::AddrInUse
    ));
    let long = DataPlaneOptions::new("x".repeat(513));
    assert!(matches!(
        DataPlane::bind("127.0.0.1:0", long, runtime.handle().clone()),
        Err(NetworkError::TokenTooLong { size: 513, limit: 512 })
    ));
}
