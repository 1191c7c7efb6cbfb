//! The three requests: over HTTPS, with the token of a service account.

use std::path::Path;
use std::sync::Once;

use reqwest::header::{ACCEPT, CONTENT_TYPE};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Method, Response, StatusCode};

use super::election::Leases;
use super::error::KubernetesError;
use super::lease::Lease;
use crate::leadership::options::KubernetesLease;

/// Bytes of an answer that are read at most: more than etcd takes for one object.
const MAX_ANSWER_BYTES: usize = 4 << 20;

/// Characters of a refusal that are repeated to people.
const SHOWN_CHARACTERS: usize = 300;

/// An API server, which keeps one Lease for us.
pub(crate) struct ApiServer {
    lease: KubernetesLease,
    /// The client, and the certificates that it trusts: others take their place while a pod runs.
    client: Option<(Vec<u8>, Client)>,
}

/// A status and a body, and what they are the answer to.
struct Answer {
    request: String,
    status: StatusCode,
    body: Vec<u8>,
}

impl ApiServer {
    /// Connects to nothing yet.
    pub(super) fn new(lease: KubernetesLease) -> Self {
        Self { lease, client: None }
    }

    async fn ask(&mut self, method: Method, body: Option<&Lease>) -> Result<Answer, KubernetesError> {
        let KubernetesLease {
            api_server,
            namespace,
            name,
            ..
        } = &self.lease;
        let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        let path = match method == Method::POST {
            true => leases,
            false => format!("{leases}/{name}"),
        };
        let client = trusting(&mut self.client, self.lease.ca_file.as_deref()).await?;
        let mut request = client
            .request(method.clone(), format!("{api_server}{path}"))
            .header(ACCEPT, "application/json");
        if let Some(file) = &self.lease.token_file {
            // Anew each time: a token is good for an hour, and replaced in its file before.
            request = request.bearer_auth(token_in(file).await?);
        }
        if let Some(lease) = body {
            let json = serde_json::to_vec(lease).expect("the maps of a Lease have texts for keys");
            request = request.header(CONTENT_TYPE, "application/json").body(json);
        }
        let answered = async { whole(request.send().await?).await };
        let (status, body) = answered.await.map_err(|source| KubernetesError::Unreachable {
            url: api_server.clone(),
            // It is named already.
            source: source.without_url(),
        })?;
        let request = format!("{method} {path}");
        Ok(Answer { request, status, body })
    }
}

impl Leases for ApiServer {
    async fn get(&mut self) -> Result<Option<Lease>, KubernetesError> {
        let answer = self.ask(Method::GET, None).await?;
        match answer.status {
            StatusCode::OK => answer.lease().map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            _other => Err(answer.refusal()),
        }
    }

    async fn create(&mut self, lease: &Lease) -> Result<Option<Lease>, KubernetesError> {
        let answer = self.ask(Method::POST, Some(lease)).await?;
        match answer.status {
            StatusCode::CREATED | StatusCode::OK => answer.lease().map(Some),
            StatusCode::CONFLICT => Ok(None),
            _other => Err(answer.refusal()),
        }
    }

    async fn update(&mut self, lease: &Lease) -> Result<Option<Lease>, KubernetesError> {
        let answer = self.ask(Method::PUT, Some(lease)).await?;
        match answer.status {
            StatusCode::OK => answer.lease().map(Some),
            StatusCode::CONFLICT | StatusCode::NOT_FOUND => Ok(None),
            _other => Err(answer.refusal()),
        }
    }
}

impl Answer {
    fn lease(self) -> Result<Lease, KubernetesError> {
        serde_json::from_slice(&self.body).map_err(|error| KubernetesError::Malformed {
            request: self.request,
            reason: error.to_string(),
        })
    }

    fn refusal(self) -> KubernetesError {
        let (request, status) = (self.request, self.status.as_u16());
        let message = said(&self.body);
        // Others of these numbers say that the request is wrong, which the next one will be as well.
        let may_pass = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&self.status);
        match self.status.is_client_error() && !may_pass {
            true => KubernetesError::Refused {
                request,
                status,
                message,
            },
            false => KubernetesError::Unavailable {
                request,
                status,
                message,
            },
        }
    }
}

/// Why a server refuses: the message of a `Status`, or the beginning of whatever it said instead.
fn said(body: &[u8]) -> String {
    let status: Option<serde_json::Value> = serde_json::from_slice(body).ok();
    let message = status.as_ref().and_then(|status| status["message"].as_str());
    let text = message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned);
    let shown: String = text
        .chars()
        .filter(|c| !c.is_control())
        .take(SHOWN_CHARACTERS)
        .collect();
    if shown.is_empty() {
        "it says nothing".to_owned()
    } else {
        shown
    }
}

/// Reads an answer to its end, or as much of it as could be a Lease: what is cut off is malformed.
async fn whole(mut response: Response) -> Result<(StatusCode, Vec<u8>), reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = MAX_ANSWER_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            break;
        }
    }
    Ok((response.status(), body))
}

/// The client that trusts what this file says now.
async fn trusting<'a>(
    client: &'a mut Option<(Vec<u8>, Client)>,
    ca_file: Option<&Path>,
) -> Result<&'a Client, KubernetesError> {
    let certificates = match ca_file {
        Some(file) => read(file).await?,
        None => Vec::new(),
    };
    let known = client.take().filter(|(trusted, _)| *trusted == certificates);
    let known = match known {
        Some(known) => known,
        None => {
            let new = new_client(ca_file, &certificates)?;
            (certificates, new)
        }
    };
    Ok(&client.insert(known).1)
}

fn new_client(ca_file: Option<&Path>, certificates: &[u8]) -> Result<Client, KubernetesError> {
    static PROVIDER: Once = Once::new();
    // Fails only where the program has chosen a provider itself, which is as good.
    PROVIDER.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
    let unusable = |source: reqwest::Error| KubernetesError::File {
        path: ca_file.unwrap_or(Path::new("of certificates")).to_owned(),
        source: source.into(),
    };
    let mut builder = Client::builder()
        // Over one of HTTP/2, requests would go on being sent into a connection that broke without a word, for many minutes.
        .http1_only()
        // The token is for this server alone.
        .redirect(Policy::none())
        .no_proxy();
    if ca_file.is_some() {
        builder = builder.tls_certs_only(Certificate::from_pem_bundle(certificates).map_err(unusable)?);
    }
    builder.build().map_err(unusable)
}

/// The token in a file. It goes into a header, and nothing of it into a message.
async fn token_in(file: &Path) -> Result<String, KubernetesError> {
    let token = String::from_utf8(read(file).await?).ok();
    let token = token.map(|text| text.trim().to_owned());
    let token = token.filter(|token| !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
    token.ok_or_else(|| KubernetesError::File {
        path: file.to_owned(),
        source: "it holds no token".into(),
    })
}

async fn read(file: &Path) -> Result<Vec<u8>, KubernetesError> {
    tokio::fs::read(file).await.map_err(|source| KubernetesError::File {
        path: file.to_owned(),
        source: source.into(),
    })
}
