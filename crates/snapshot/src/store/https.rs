//! What the stores that speak HTTP have in common: time-outs, repetitions, and a bound on what is under way at once.

use std::pin::Pin;
use std::sync::{Arc, Once};

use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use streamd_core::options::{EndpointError, Transport, check_endpoint};
use tokio::sync::Semaphore;

use super::limits::{
    CONNECT_TIMEOUT, FIRST_PAUSE, LONGEST_PAUSE, REQUESTS_AT_ONCE, RETRIES, RETRY_WINDOW, SILENCE_TIMEOUT,
};
use super::uri::Root;
use crate::error::StoreError;

/// The requests of this process, to whichever store.
static REQUESTS: Semaphore = Semaphore::const_new(REQUESTS_AT_ONCE);

/// When and how often a client repeats a request.
pub(super) fn retries() -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: FIRST_PAUSE,
            max_backoff: LONGEST_PAUSE,
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: RETRY_WINDOW,
    }
}

/// How a client speaks to this endpoint; `None` is the provider's own. Refuses what is not encrypted and leaves the machine.
pub(super) fn options(root: &Root, endpoint: Option<&str>) -> Result<ClientOptions, StoreError> {
    let transport = match endpoint.map(check_endpoint) {
        None => Transport::Encrypted,
        Some(Ok(transport)) => transport,
        Some(Err(EndpointError::Insecure(endpoint))) => {
            return Err(StoreError::Insecure {
                uri: root.to_string(),
                endpoint,
            });
        }
        Some(Err(error)) => {
            return Err(StoreError::Settings {
                uri: root.to_string(),
                reason: error.to_string(),
            });
        }
    };
    Ok(ClientOptions::new()
        .with_allow_http(transport == Transport::Loopback)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_read_timeout(SILENCE_TIMEOUT)
        // An object may be of any size; whole operations have deadlines of their own.
        .with_timeout_disabled())
}

/// Makes clients whose requests wait for room among those of the whole process.
#[derive(Debug)]
pub(super) struct BoundedConnector;

impl HttpConnector for BoundedConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        static PROVIDER: Once = Once::new();
        // Fails only where the program has chosen a provider itself, which is as good.
        PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Bounded { inner: Arc::new(inner) }))
    }
}

#[derive(Debug)]
struct Bounded {
    inner: Arc<HttpClient>,
}

impl HttpService for Bounded {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        let inner = self.inner.clone();
        Box::pin(async move {
            // Held until the answer begins. Its body is not counted: who reads bodies is bounded himself, and a reader that
            // waits for another request must not keep it from starting.
            let permit = REQUESTS.acquire().await;
            let _permit = permit.map_err(|closed| HttpError::new(HttpErrorKind::Unknown, closed))?;
            inner.execute(request).await
        })
    }
}
