//! What goes wrong between a job manager and the API server.

use std::path::PathBuf;
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode, chain};

/// A request for the Lease that has no answer of use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KubernetesError {
    /// No connection, or one that broke.
    #[error("the Kubernetes API server at `{url}` is not reached")]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// Silence.
    #[error("the Kubernetes API server does not answer within {patience:?}")]
    Late { patience: Duration },
    /// Others write the Lease between our reading and writing it.
    #[error("the Lease changes faster than it can be written")]
    Contended,
    /// An answer that a later try may not get: the server is overloaded, starts, or has lost its own storage.
    #[error("the Kubernetes API server answers {status} to {request}: {message}")]
    Unavailable {
        request: String,
        status: u16,
        message: String,
    },
    /// An answer that every try gets: no right, no such namespace, no such API.
    #[error("the Kubernetes API server refuses {request} with {status}: {message}")]
    Refused {
        request: String,
        status: u16,
        message: String,
    },
    /// It is not the API server who answers.
    #[error("what answers {request} is no Lease: {reason}")]
    Malformed { request: String, reason: String },
    /// The token or the certificates.
    #[error("the file `{path}` for the Kubernetes API server cannot be used", path = path.display())]
    File {
        path: PathBuf,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl KubernetesError {
    /// Whether it is the same however often one asks.
    pub(super) fn is_refusal(&self) -> bool {
        self.code() == ErrorCode::KubernetesRefused
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Unreachable { .. }
            | Self::Late { .. }
            | Self::Contended
            | Self::Unavailable { .. }
            | Self::Malformed { .. } => ErrorCode::KubernetesUnavailable,
            Self::Refused { .. } | Self::File { .. } => ErrorCode::KubernetesRefused,
        }
    }

    /// The error for a person.
    pub(crate) fn to_coded(&self) -> CodedError {
        let coded = CodedError::new(self.code(), chain(self));
        match self.code() {
            ErrorCode::KubernetesRefused => coded.with_hint(
                "give the service account of the job managers the role of docs/how-to/high-availability.md in the namespace of the Lease",
            ),
            _unavailable => coded,
        }
    }
}
