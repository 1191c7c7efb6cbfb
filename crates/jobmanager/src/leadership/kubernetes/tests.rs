use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use streamd_core::error::ErrorCode;
use streamd_core::time::{ManualClock, WallTime};

use super::api_server::ApiServer;
use super::election::{ByLease, Leases};
use super::error::KubernetesError;
use super::lease::Lease;
use crate::leadership::election::{Election, Sign};
use crate::leadership::options::{ElectionTimes, KubernetesLease};

const TIMES: ElectionTimes = ElectionTimes {
    lease_duration_ms: 15_000,
    renew_deadline_ms: 12_000,
    retry_period_ms: 5_000,
};

/// What an API server does with the requests for one Lease.
#[derive(Default)]
struct Server {
    lease: Option<serde_json::Value>,
    version: u64,
    /// It answers nobody.
    is_out: bool,
    /// It carries out the next write, and its answer is lost.
    loses_answer: bool,
    /// Somebody else writes before the next update comes.
    is_contended: bool,
}

impl Server {
    fn store(&mut self, mut lease: serde_json::Value) -> Result<Option<Lease>, KubernetesError> {
        self.version += 1;
        lease["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.lease = Some(lease.clone());
        match std::mem::take(&mut self.loses_answer) {
            true => Err(out()),
            false => Ok(Some(serde_json::from_value(lease).unwrap())),
        }
    }

    /// Somebody writes who holds nothing.
    fn touch(&mut self) {
        let lease = self.lease.clone().unwrap();
        self.store(lease).unwrap();
    }

    fn holder(&self) -> String {
        self.lease.as_ref().unwrap()["spec"]["holderIdentity"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

/// A connection to it.
#[derive(Clone, Default)]
struct Connection(Arc<Mutex<Server>>);

impl Connection {
    fn server(&self) -> MutexGuard<'_, Server> {
        self.0.lock().unwrap()
    }

    fn reached(&self) -> Result<MutexGuard<'_, Server>, KubernetesError> {
        let server = self.server();
        if server.is_out { Err(out()) } else { Ok(server) }
    }
}

fn out() -> KubernetesError {
    KubernetesError::Unavailable {
        request: "a test".to_owned(),
        status: 503,
        message: "etcd leader changed".to_owned(),
    }
}

impl Leases for Connection {
    async fn get(&mut self) -> Result<Option<Lease>, KubernetesError> {
        let server = self.reached()?;
        Ok(server.lease.clone().map(|lease| serde_json::from_value(lease).unwrap()))
    }

    async fn create(&mut self, lease: &Lease) -> Result<Option<Lease>, KubernetesError> {
        let mut server = self.reached()?;
        match server.lease {
            Some(_) => Ok(None),
            None => server.store(serde_json::to_value(lease).unwrap()),
        }
    }

    async fn update(&mut self, lease: &Lease) -> Result<Option<Lease>, KubernetesError> {
        let mut server = self.reached()?;
        if std::mem::take(&mut server.is_contended) {
            server.touch();
        }
        let lease = serde_json::to_value(lease).unwrap();
        let current = server
            .lease
            .as_ref()
            .map(|lease| lease["metadata"]["resourceVersion"].clone());
        match current {
            Some(version) if version == lease["metadata"]["resourceVersion"] => server.store(lease),
            Some(_) | None => Ok(None),
        }
    }
}

fn election(identity: &str, connection: &Connection, clock: &Arc<ManualClock>) -> ByLease<Connection> {
    let lease = KubernetesLease {
        api_server: String::new(),
        ca_file: None,
        token_file: Some(PathBuf::new()),
        namespace: "n".to_owned(),
        name: "c-leader".to_owned(),
        host: None,
    };
    ByLease::new(connection.clone(), &lease, identity.to_owned(), (TIMES, clock.clone()))
}

/// A server, and a job manager `a` that holds the Lease.
async fn held() -> (Connection, ByLease<Connection>, Arc<ManualClock>) {
    let (connection, clock) = (
        Connection::default(),
        Arc::new(ManualClock::showing(WallTime(1_000_000))),
    );
    let mut holder = election("a", &connection, &clock);
    assert!(holder.may_try(None).await.unwrap());
    (connection, holder, clock)
}

#[tokio::test]
async fn of_two_that_want_the_lease_one_has_it_until_it_lets_go() {
    let (connection, mut holder, clock) = held().await;
    let mut standby = election("b", &connection, &clock);
    assert!(!standby.may_try(None).await.unwrap());
    for _ in 0..10 {
        clock.advance(TIMES.lease_duration_ms - 1);
        assert!(matches!(holder.give_sign(1).await.unwrap(), Sign::Taken));
        assert!(!standby.may_try(None).await.unwrap());
    }
    holder.resign(1).await.unwrap();
    assert_eq!(connection.server().holder(), "");
    assert!(standby.may_try(None).await.unwrap());
    assert_eq!(connection.server().holder(), "b");
    assert!(matches!(holder.give_sign(1).await.unwrap(), Sign::Refused));
}

/// RS31, and no clock of another machine counts.
#[tokio::test]
async fn a_lease_expires_on_the_clock_of_whoever_watches_it_and_on_no_other() {
    for wall in [0, 4_000_000_000_000] {
        let (connection, mut holder, _clock) = held().await;
        let clock = Arc::new(ManualClock::showing(WallTime(wall)));
        let mut standby = election("b", &connection, &clock);
        assert!(!standby.may_try(None).await.unwrap());
        clock.advance(TIMES.lease_duration_ms - 1);
        assert!(!standby.may_try(None).await.unwrap());
        clock.advance(1);
        assert!(standby.may_try(None).await.unwrap());
        assert!(matches!(holder.give_sign(1).await.unwrap(), Sign::Refused));
        // It had lost it: there is nothing to let go of.
        holder.resign(1).await.unwrap();
        assert_eq!(connection.server().holder(), "b");
    }
}

#[tokio::test]
async fn of_two_that_see_the_lease_expire_one_takes_it() {
    let (connection, _holder, clock) = held().await;
    let [mut b, mut c] = ["b", "c"].map(|name| election(name, &connection, &clock));
    for standby in [&mut b, &mut c] {
        assert!(!standby.may_try(None).await.unwrap());
    }
    clock.advance(TIMES.lease_duration_ms);
    // Between its look and its update the other one writes.
    connection.server().is_contended = true;
    assert!(!b.may_try(None).await.unwrap());
    assert_eq!(connection.server().holder(), "a");
    clock.advance(TIMES.lease_duration_ms);
    assert!(!b.may_try(None).await.unwrap());
    clock.advance(TIMES.lease_duration_ms);
    assert!(b.may_try(None).await.unwrap());
    assert!(!c.may_try(None).await.unwrap());
}

/// RS18: what could not be seen has not been absent.
#[tokio::test]
async fn the_time_of_an_outage_counts_against_no_holder() {
    let (connection, mut holder, clock) = held().await;
    let mut standby = election("b", &connection, &clock);
    assert!(!standby.may_try(None).await.unwrap());
    connection.server().is_out = true;
    clock.advance(TIMES.lease_duration_ms * 10);
    let unheard = holder.give_sign(1).await.unwrap();
    assert!(matches!(unheard, Sign::Unheard(error) if error.code == ErrorCode::KubernetesUnavailable));
    assert!(standby.may_try(None).await.is_err());
    connection.server().is_out = false;
    // The standby is the first to be served again.
    assert!(!standby.may_try(None).await.unwrap());
    assert!(matches!(holder.give_sign(1).await.unwrap(), Sign::Taken));
    clock.advance(TIMES.lease_duration_ms - 1);
    assert!(!standby.may_try(None).await.unwrap());
}

#[tokio::test]
async fn a_holder_goes_on_whose_renewal_was_taken_and_the_answer_lost() {
    let (connection, mut holder, _clock) = held().await;
    connection.server().loses_answer = true;
    assert!(matches!(holder.give_sign(1).await.unwrap(), Sign::Unheard(_)));
    assert!(matches!(holder.give_sign(1).await.unwrap(), Sign::Taken));
    // A tool of the cluster's has written a label.
    connection.server().touch();
    assert!(matches!(holder.give_sign(1).await.unwrap(), Sign::Taken));
    connection.server().touch();
    holder.resign(1).await.unwrap();
    assert_eq!(connection.server().holder(), "");
}

#[tokio::test]
async fn a_lease_that_somebody_deletes_is_made_again_by_its_holder() {
    let (connection, mut holder, clock) = held().await;
    connection.server().lease = None;
    assert!(matches!(holder.give_sign(1).await.unwrap(), Sign::Taken));
    assert!(!election("b", &connection, &clock).may_try(None).await.unwrap());
    connection.server().lease = None;
    holder.resign(1).await.unwrap();
    assert_eq!(connection.server().lease, None);
}

#[tokio::test]
async fn whoever_cannot_use_the_lease_gives_it_to_others() {
    let (connection, mut holder, clock) = held().await;
    holder.give_way().await;
    assert!(election("b", &connection, &clock).may_try(None).await.unwrap());
    // It has nothing to give any more.
    holder.give_way().await;
    assert_eq!(connection.server().holder(), "b");
}

#[tokio::test]
async fn a_job_manager_that_is_started_again_has_its_lease_at_once() {
    let (connection, _before, clock) = held().await;
    assert!(election("a", &connection, &clock).may_try(None).await.unwrap());
}

/// The three requests, as a server that is not ours understands them.
#[tokio::test]
async fn of_two_writes_from_one_version_the_api_server_takes_one() {
    let server = servers::Kubernetes::shared();
    let name = format!("c-{}", crate::random::savepoint_digits());
    let lease = KubernetesLease {
        api_server: server.url(server.address()),
        ca_file: server.ca_file(),
        token_file: server.token_file(),
        namespace: servers::kubernetes::NAMESPACE.to_owned(),
        name: name.clone(),
        host: None,
    };
    let mut leases = ApiServer::new(lease);
    assert_eq!(leases.get().await.unwrap(), None);
    let new = |holder: &str| Lease::new(servers::kubernetes::NAMESPACE, &name).held_by(holder, 15_000, WallTime(0));
    let created = leases.create(&new("a")).await.unwrap().unwrap();
    assert_eq!(leases.create(&new("b")).await.unwrap(), None);
    let read = leases.get().await.unwrap().unwrap();
    assert_eq!((read.observation(), read.holder()), (created.observation(), Some("a")));
    let renewed = leases
        .update(&read.clone().held_by("a", 15_000, WallTime(1)))
        .await
        .unwrap()
        .unwrap();
    assert_ne!(renewed.observation(), read.observation());
    assert_eq!(
        leases.update(&read.held_by("b", 15_000, WallTime(2))).await.unwrap(),
        None
    );
    let released = leases.update(&renewed.released(WallTime(3))).await.unwrap().unwrap();
    assert_eq!(released.holder(), None);
}
