//! The standard gRPC health service, asked as a client.

use std::time::Duration;

use streamd_core::error::CodedError;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::limits::CONNECT_TIMEOUT;
use crate::status::from_status;

/// What a peer says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It takes calls.
    Serving,
    /// It is up, but does not take calls now (it starts or ends).
    NotServing,
    /// It speaks gRPC, but has no health service or knows nothing of the service asked for.
    Unknown,
}

/// Asks a peer how it is; `service` is empty for the whole process. `peer` names it in errors.
pub async fn check(channel: Channel, service: &str, peer: &str) -> Result<Health, CodedError> {
    match probe(channel, service, CONNECT_TIMEOUT).await {
        Ok(health) => Ok(health),
        Err(status) => Err(from_status(&status, peer)),
    }
}

/// One health check that ends within `deadline`.
pub(crate) async fn probe(channel: Channel, service: &str, deadline: Duration) -> Result<Health, Status> {
    let mut request = tonic::Request::new(HealthCheckRequest {
        service: service.to_owned(),
    });
    request.set_timeout(deadline);
    match HealthClient::new(channel).check(request).await {
        Ok(response) => Ok(match response.into_inner().status() {
            ServingStatus::Serving => Health::Serving,
            ServingStatus::NotServing => Health::NotServing,
            ServingStatus::Unknown | ServingStatus::ServiceUnknown => Health::Unknown,
        }),
        Err(status) if is_answer_without_health(&status) => Ok(Health::Unknown),
        Err(status) => Err(status),
    }
}

/// A gRPC peer without the health service says so itself, in a gRPC status.
fn is_answer_without_health(status: &Status) -> bool {
    matches!(status.code(), Code::Unimplemented | Code::NotFound)
        && !status.message().contains("grpc-status header missing")
}
