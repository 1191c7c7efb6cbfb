//! The data plane over real sockets: two workers, or one worker and a scripted peer.

mod faults;
mod flow;
mod handshakes;
mod peer;

use std::sync::Arc;
use std::time::Duration;

use streamd_core::barrier::{AfterBarrier, Barrier, Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, CheckpointId, JobId, WorkerId};
use streamd_core::time::{Clock, SystemClock};
use tokio::runtime::Runtime;

use crate::channel::{ChannelLoss, ChannelReceiver};
use crate::element::{Element, Payload};
use crate::encode::decode;
use crate::network::{AttemptNetwork, ChannelKey, DataPlane, DataPlaneOptions, NetworkError};
use crate::origin::Origin;
use crate::wake::{Parker, Waker};

const JOB: JobId = JobId::from_bytes([7; 16]);
const ATTEMPT: Attempt = Attempt(3);
const LEFT: WorkerId = WorkerId(1);
const RIGHT: WorkerId = WorkerId(2);
const TOKEN: &str = "the token of the job";
/// After this long a test gives up: far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(120);

fn key(source: u32, target: u32) -> ChannelKey {
    ChannelKey {
        edge: 4,
        source,
        target,
    }
}

fn options() -> DataPlaneOptions {
    options_with(TOKEN)
}

/// Options that no machine is too slow for.
fn options_with(token: &str) -> DataPlaneOptions {
    DataPlaneOptions {
        connect_timeout: PATIENCE,
        handshake_timeout: PATIENCE,
        park_timeout: PATIENCE,
        ..DataPlaneOptions::new(token)
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Two workers of one attempt. Records go from the left to the right unless a test says otherwise.
struct Pair {
    left: AttemptNetwork,
    right: AttemptNetwork,
    planes: Vec<DataPlane>,
    runtime: Runtime,
}

fn pair(options: DataPlaneOptions) -> Pair {
    let runtime = runtime();
    let bind = || DataPlane::bind("127.0.0.1:0", options.clone(), runtime.handle().clone()).unwrap();
    let planes = vec![bind(), bind()];
    let peers = [
        (LEFT, planes[0].local_addr().to_string()),
        (RIGHT, planes[1].local_addr().to_string()),
    ];
    Pair {
        left: planes[0].for_attempt(JOB, ATTEMPT, LEFT, &peers),
        right: planes[1].for_attempt(JOB, ATTEMPT, RIGHT, &peers),
        planes,
        runtime,
    }
}

fn barrier(id: u64) -> Barrier {
    Barrier {
        checkpoint: CheckpointId(id),
        options: Arc::new(SnapshotOptions {
            kind: SnapshotKind::Savepoint,
            location: "file:///tmp/savepoint-1".to_owned(),
            sources: AfterBarrier::Halt,
            aligned: true,
            increment: Increment::Off,
            compression: Compression::None,
        }),
    }
}

fn encoded(values: &[u64]) -> Element {
    Element::Records {
        payload: Payload::Encoded(bitcode::serialize(&(values, Vec::<i64>::new())).unwrap().into()),
        count: u32::try_from(values.len()).unwrap(),
        origin: Origin::UNKNOWN,
    }
}

/// Parks until the condition holds. Fails if it takes for ever, which it does if a wake is missing.
fn park_until<T>(parker: &Parker, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let clock = SystemClock::new();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        parker.park_timeout(PATIENCE);
        let waited = Duration::from_millis(clock.monotonic().0);
        assert!(waited < PATIENCE, "{what} did not happen, or nobody was woken for it");
    }
}

/// The next element of a channel; fails if the channel does.
fn receive(receiver: &ChannelReceiver, parker: &Parker) -> Element {
    park_until(parker, "an element", || {
        assert!(receiver.loss().is_none(), "{:?}", receiver.loss());
        receiver.try_recv()
    })
}

fn values(element: Element) -> Vec<u64> {
    match element {
        Element::Records { payload, .. } => decode(payload).unwrap().into_records(),
        other => panic!("{other:?} instead of records"),
    }
}

/// The reason why a consumer lost its channel, once it is woken for that.
fn lost(receiver: &ChannelReceiver, parker: &Parker) -> Arc<NetworkError> {
    match park_until(parker, "the loss of the channel", || receiver.loss()) {
        ChannelLoss::Connection(error) => error,
        ChannelLoss::ProducerGone => panic!("the producer is gone, not the connection"),
    }
}
