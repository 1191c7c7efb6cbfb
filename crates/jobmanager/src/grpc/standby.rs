//! What a job manager answers that does not lead: who does.

use std::pin::Pin;

use futures::Stream;
use streamd_rpc::client::not_leader;
use streamd_rpc::status::to_status;
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// The health service of a standby: every client asks for the health of what it connects to before anything else, and follows the
/// answer.
pub(crate) struct StandbyService {
    /// `host:port` of the leader, once it is known.
    pub(crate) leader: watch::Receiver<Option<String>>,
}

impl StandbyService {
    fn redirect(&self) -> Status {
        to_status(&not_leader(self.leader.borrow().as_deref()))
    }
}

#[tonic::async_trait]
impl Health for StandbyService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn check(&self, _request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        Err(self.redirect())
    }

    async fn watch(&self, _request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(self.redirect())
    }
}
