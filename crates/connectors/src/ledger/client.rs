//! Requests to a ledger, repeated until they are answered.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use streamd_core::source::ConnectorError;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

/// The pause before the second try; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(20);

/// The longest pause between two tries: a ledger that comes back should not wait for us.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The longest answer: what the protocol answers has a line.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where a ledger is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// As the application gave it.
    pub(super) url: String,
    /// `host:port`.
    authority: String,
    /// The path before `/transactions`.
    base: String,
}

/// How patient a client is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// How long one try may take.
    pub(super) request: Duration,
    /// How long a request is tried.
    pub(super) all: Duration,
}

/// What is asked. Any request may come twice.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) method: Method,
    /// From `/transactions` on.
    pub(super) path: String,
    pub(super) body: Bytes,
}

/// What is answered: no failure that another try might heal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) text: String,
}

/// One connection to a ledger, for a thread that waits.
pub(super) struct Client {
    endpoint: Endpoint,
    patience: Patience,
    runtime: Runtime,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Endpoint {
    /// Errors unless the URL is `http://host[:port][/path]`.
    pub(super) fn parse(url: &str) -> Result<Self, ConnectorError> {
        let refused = |reason: &str| ConnectorError::new(format!("the URL of the ledger `{url}` {reason}"));
        let rest = url
            .strip_prefix("http://")
            .ok_or_else(|| refused("does not begin with `http://`, and nothing else is spoken"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.contains('@') {
            return Err(ConnectorError::new(
                "the URL of the ledger has a user or a password in it, which are not supported",
            ));
        }
        if path.contains(['?', '#']) {
            return Err(refused("has a query or a fragment"));
        }
        let has_port = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = match has_port {
            true => host.to_owned(),
            false => format!("{host}:80"),
        };
        let base = match path.trim_end_matches('/') {
            "" => String::new(),
            path => format!("/{path}"),
        };
        if host.is_empty() || format!("{authority}{base}").contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(refused("names no host"));
        }
        Ok(Self {
            url: url.to_owned(),
            authority,
            base,
        })
    }
}

impl Client {
    pub(super) fn new(endpoint: Endpoint, patience: Patience) -> Result<Self, ConnectorError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|cause| {
            ConnectorError::caused(
                format!("cannot prepare requests to the ledger `{}`", endpoint.url),
                cause,
            )
        })?;
        Ok(Self {
            endpoint,
            patience,
            runtime,
            connection: None,
        })
    }

    pub(super) fn set_patience(&mut self, patience: Patience) {
        self.patience = patience;
    }

    /// Asks until there is an answer: repeats what was refused by an overloaded or broken ledger, what broke on the way, and
    /// what took too long.
    ///
    /// Errors when patience is over, with what went wrong last.
    pub(super) fn call(&mut self, call: &Call) -> Result<Answer, ConnectorError> {
        let (endpoint, patience, connection) = (&self.endpoint, self.patience, &mut self.connection);
        let mut last: BoxError = "no try has ended".into();
        let answered = self.runtime.block_on(async {
            let tries = async {
                let mut pause = FIRST_PAUSE;
                loop {
                    match timeout(patience.request, once(endpoint, connection, call)).await {
                        Ok(Ok(answer)) if !is_passing(answer.status) => return answer,
                        Ok(Ok(answer)) => {
                            last = format!("it answered {} `{}`", answer.status, shown(&answer.text)).into()
                        }
                        Ok(Err(cause)) => last = cause,
                        Err(_) => last = format!("it did not answer within {:?}", patience.request).into(),
                    }
                    // What is left of a request that failed must not be taken for the answer of the next one.
                    *connection = None;
                    sleep(pause).await;
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
            };
            timeout(patience.all, tries).await
        });
        answered.map_err(|_| {
            let (url, method, path) = (&self.endpoint.url, &call.method, &call.path);
            let message = format!(
                "the ledger `{url}` did not take `{method} {path}` within {:?}",
                patience.all
            );
            ConnectorError::caused(message, last)
        })
    }
}

/// Sends a request over the connection there is, or a new one.
async fn once(
    endpoint: &Endpoint,
    connection: &mut Option<SendRequest<Full<Bytes>>>,
    call: &Call,
) -> Result<Answer, BoxError> {
    let mut sender = match connection.take().filter(|sender| !sender.is_closed()) {
        Some(sender) => sender,
        None => connect(endpoint).await?,
    };
    sender.ready().await?;
    let request = Request::builder()
        .method(call.method.clone())
        .uri(format!("{}{}", endpoint.base, call.path))
        .header(HOST, &endpoint.authority)
        .body(Full::new(call.body.clone()))?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await?;
    *connection = Some(sender);
    Ok(Answer {
        status,
        text: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
    })
}

async fn connect(endpoint: &Endpoint) -> Result<SendRequest<Full<Bytes>>, BoxError> {
    let stream = TcpStream::connect(&endpoint.authority).await?;
    stream.set_nodelay(true)?;
    speak_over(stream).await
}

async fn speak_over<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, BoxError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the connection; what fails in it fails the request that waits for it.
    tokio::spawn(connection);
    Ok(sender)
}

/// What a client makes of bytes that a ledger answers with, whatever they are: status and text. For whoever tries what no ledger
/// says (`tests/fuzz`).
pub async fn read_answer(bytes: &[u8]) -> Option<(u16, String)> {
    let (ours, mut theirs) = tokio::io::duplex(MAX_ANSWER_BYTES);
    let bytes = bytes.to_vec();
    let endpoint = Endpoint::parse("http://ledger").ok()?;
    let call = Call {
        method: Method::GET,
        path: "/transactions".to_owned(),
        body: Bytes::new(),
    };
    tokio::spawn(async move {
        // An answer before the request would be none.
        if theirs.read(&mut [0; 1024]).await.is_ok() {
            let _nobody_listens = theirs.write_all(&bytes).await;
        }
    });
    let mut connection = Some(speak_over(ours).await.ok()?);
    let answer = once(&endpoint, &mut connection, &call).await.ok()?;
    Some((answer.status, answer.text))
}

/// Whether another try may go better.
fn is_passing(status: u16) -> bool {
    status >= 500 || status == 429 || status == 408
}

/// An answer, fit for one line of a message.
pub(super) fn shown(text: &str) -> String {
    text.trim().chars().take(200).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_or_refused() {
        let parsed = |url| Endpoint::parse(url).map(|endpoint| (endpoint.authority, endpoint.base));
        let parts = |authority: &str, base: &str| (authority.to_owned(), base.to_owned());
        assert_eq!(parsed("http://a").unwrap(), parts("a:80", ""));
        assert_eq!(parsed("http://a:8080/").unwrap(), parts("a:8080", ""));
        assert_eq!(
            parsed("http://[::1]:8080/led/ger/").unwrap(),
            parts("[::1]:8080", "/led/ger")
        );
        for (url, reason) in [
            ("https://a", "does not begin with `http://`"),
            ("a:80", "does not begin with"),
            ("http://", "names no host"),
            ("http://a b", "names no host"),
            ("http://a/?x", "query"),
        ] {
            let error = Endpoint::parse(url).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let error = Endpoint::parse("http://me:secret@a").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
