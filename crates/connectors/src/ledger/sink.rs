//! How an application names a ledger.

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use serde::Serialize;
use streamd_core::graph::Guarantee;
use streamd_core::sink::{Sink, SinkContext};
use streamd_core::source::ConnectorError;

use super::client::{Answer, Call, Client, Endpoint, Patience, shown};
use super::committable::LedgerCommittable;
use super::writer::LedgerWriter;
use crate::file::sink::encoder::EncodeError;
use crate::process;

/// How long the ledger keeps a transaction that nobody touches: longer than a cluster is down, as a rule. Flink's time-out for
/// transactions of Kafka.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// How long one try of a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request is tried: the subtask waits meanwhile, and the barrier behind it.
const RETRY_FOR: Duration = Duration::from_secs(20);

/// How long a submission waits for the ledger.
const CHECK_FOR: Duration = Duration::from_secs(5);

/// Appends a record, without a line end.
pub(super) type EncodeRecord<T> = dyn Fn(&T, &mut Vec<u8>) -> Result<(), EncodeError> + Send + Sync;

/// Writes records to a ledger, in one transaction for each subtask and interval between checkpoints that has records.
///
/// Guarantee: exactly-once, as long as no outage takes longer than [`transaction_timeout`](Self::transaction_timeout).
///
/// ```
/// # use std::time::Duration;
/// # use streamd_connectors::LedgerSink;
/// let bookings = LedgerSink::<(u64, i64)>::json_lines("http://ledger.example:8080")
///     .transaction_timeout(Duration::from_secs(24 * 60 * 60));
/// ```
pub struct LedgerSink<T> {
    url: String,
    encode: Arc<EncodeRecord<T>>,
    transaction_timeout: Duration,
    patience: Patience,
}

impl<T: Display + Send + 'static> LedgerSink<T> {
    /// Each record as [`Display`] shows it. One that holds a line end is an error.
    pub fn text(url: impl Into<String>) -> Self {
        Self::with_encoder(url, |record, line| {
            use std::io::Write as _;
            Ok(write!(line, "{record}")?)
        })
    }
}

impl<T: Serialize + Send + 'static> LedgerSink<T> {
    /// Each record as a JSON value.
    pub fn json_lines(url: impl Into<String>) -> Self {
        Self::with_encoder(url, |record, line| Ok(serde_json::to_writer(line, record)?))
    }
}

impl<T: Send + 'static> LedgerSink<T> {
    /// A format of your own: `encode` appends one record, which must hold no line end.
    pub fn with_encoder<E>(url: impl Into<String>, encode: E) -> Self
    where
        E: Fn(&T, &mut Vec<u8>) -> Result<(), EncodeError> + Send + Sync + 'static,
    {
        Self {
            url: url.into(),
            encode: Arc::new(encode),
            transaction_timeout: TRANSACTION_TIMEOUT,
            patience: Patience {
                request: REQUEST_TIMEOUT,
                all: RETRY_FOR,
            },
        }
    }
}

impl<T> LedgerSink<T> {
    /// How long the ledger keeps a transaction that nobody touches (default one hour): longer than the longest interval between two
    /// checkpoints, and than the longest time that the job may be down or stopped. What is prepared and expires is lost.
    #[must_use]
    pub fn transaction_timeout(mut self, timeout: Duration) -> Self {
        self.transaction_timeout = timeout;
        self
    }

    /// How long one try of a request may take (default 5 s).
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.patience.request = timeout;
        self
    }

    /// How long a request is repeated that the ledger does not answer, or answers with 5xx, 408 or 429 (default 20 s). The job
    /// fails then, and its restart strategy decides.
    #[must_use]
    pub fn retry_for(mut self, patience: Duration) -> Self {
        self.patience.all = patience;
        self
    }

    pub(super) fn encoder(&self) -> &EncodeRecord<T> {
        &*self.encode
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn client(&self) -> Result<Client, ConnectorError> {
        Client::new(Endpoint::parse(&self.url)?, self.patience)
    }

    pub(super) fn timeout_ms(&self) -> u128 {
        self.transaction_timeout.as_millis()
    }

    fn commit_one(&self, client: &mut Client, committable: &LedgerCommittable) -> Result<(), ConnectorError> {
        let (id, records) = (&committable.transaction, committable.records);
        let answer = client.call(&Call {
            method: Method::POST,
            path: format!("/transactions/{id}/commit"),
            body: Bytes::new(),
        })?;
        match answer.status {
            200 => Ok(()),
            404 | 410 => Err(ConnectorError::output_lost(format_args!(
                "the ledger `{}` has given up the prepared transaction `{id}` with {records} records, and says `{}`",
                self.url,
                shown(&answer.text)
            ))),
            _ => Err(refused(&self.url, "commit", id, &answer)),
        }
    }
}

/// An answer that the protocol does not know in this place.
pub(super) fn refused(url: &str, verb: &str, id: &str, answer: &Answer) -> ConnectorError {
    ConnectorError::new(format!(
        "the ledger `{url}` answered {} `{}` to the {verb} of transaction `{id}`",
        answer.status,
        shown(&answer.text)
    ))
}

/// The id without what a path may not hold, in a way that no two ids become one.
pub(super) fn in_path(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "~{byte:02x}").expect("a string takes everything");
        }
    }
    encoded
}

impl<T> Clone for LedgerSink<T> {
    fn clone(&self) -> Self {
        Self {
            url: self.url.clone(),
            encode: self.encode.clone(),
            transaction_timeout: self.transaction_timeout,
            patience: self.patience,
        }
    }
}

impl<T: Send + 'static> Sink for LedgerSink<T> {
    type In = T;
    type Committable = LedgerCommittable;
    type Writer = LedgerWriter<T>;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    /// Errors if the URL is none, or whoever submits cannot reach a ledger there that keeps transactions for long enough.
    fn check(&self) -> Result<(), ConnectorError> {
        let mut client = self.client()?;
        if process::is_worker() {
            // It was looked at when the job was submitted; from now on an outage is the restart strategy's.
            return Ok(());
        }
        client.set_patience(Patience {
            all: CHECK_FOR.min(self.patience.all),
            ..self.patience
        });
        let answer = client.call(&Call {
            method: Method::GET,
            path: "/".to_owned(),
            body: Bytes::new(),
        })?;
        let mut lines = answer.text.lines();
        if answer.status != 200 || lines.next() != Some("streamd-ledger 1") {
            return Err(ConnectorError::new(format!(
                "what answers at `{}` is no ledger: it says {} `{}`",
                self.url,
                answer.status,
                shown(&answer.text)
            )));
        }
        let most = lines.find_map(|line| line.strip_prefix("max-timeout-ms ")?.trim().parse::<u128>().ok());
        match most {
            Some(most) if most < self.timeout_ms() => Err(ConnectorError::new(format!(
                "the ledger `{}` keeps transactions for {most} ms at most, and the sink asks for {} ms: after an outage \
                 of that length output would be lost",
                self.url,
                self.timeout_ms()
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn writer(&self, context: &SinkContext) -> Result<LedgerWriter<T>, ConnectorError> {
        LedgerWriter::new(self.clone(), context)
    }

    fn commit(&self, committables: &[LedgerCommittable]) -> Result<(), ConnectorError> {
        let mut client = self.client()?;
        committables
            .iter()
            .try_for_each(|committable| self.commit_one(&mut client, committable))
    }
}
