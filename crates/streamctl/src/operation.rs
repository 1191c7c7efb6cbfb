//! Savepoints and what follows them: started once, then asked after until they have ended.
//!
//! The id of an operation is chosen here and told as soon as it may have begun, so that whatever happens to this process or its connection, the
//! outcome can be asked for from elsewhere: exit code 8 is left for an answer that cannot be had at all.

use std::pin::pin;
use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{JobId, OperationId};
use streamd_rpc::client::DispatcherClient;
use streamd_rpc::proto::wait_operation_response::Outcome;
use streamd_rpc::proto::{OperationCompleted, OperationKind, StartOperationRequest, WaitOperationRequest};
use streamd_rpc::status::from_proto;

use crate::arguments::OperationArguments;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::{Progress, REFRESH};
use crate::session::{Session, shown};

/// How long one call waits at the job manager before it is made anew: shorter than the time after which proxies cut a
/// silent connection.
const WAIT: Duration = Duration::from_secs(20);

/// What the coordinator may take beyond the time of the operation until its answer is here.
const GRACE: Duration = Duration::from_secs(15);

/// An operation that the job manager has not refused within this time may have begun, and its id is told. One that is refused at once
/// never had one.
const TOLD_AFTER: Duration = Duration::from_millis(200);

/// How often a lost job manager is called again, and with what pauses: one that is restarted is back by then, or another one leads.
const RECONNECTS: u32 = 40;

/// See [`RECONNECTS`].
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);

/// The calls to a job manager that may be lost while somebody waits.
pub struct Calls<'a> {
    session: &'a Session,
    client: DispatcherClient,
    reconnects: u32,
}

impl<'a> Calls<'a> {
    /// Calls that begin with this connection.
    pub fn new(session: &'a Session, client: &DispatcherClient) -> Self {
        Self {
            session,
            client: client.clone(),
            reconnects: 0,
        }
    }

    /// The connection.
    pub fn client(&self) -> &DispatcherClient {
        &self.client
    }

    /// The job manager has answered.
    pub fn heard(&mut self) {
        self.reconnects = 0;
    }

    /// Looks for whoever is the job manager now, where an error says that the one before is lost. Hands the error back where it says
    /// something else, or nobody was found for too long.
    pub async fn again(&mut self, error: CodedError) -> Result<(), CodedError> {
        if !is_lost(&error) || self.reconnects == RECONNECTS {
            return Err(error);
        }
        self.reconnects += 1;
        tokio::time::sleep(RECONNECT_PAUSE).await;
        if let Ok(client) = self.session.connect().await {
            self.client = client;
        }
        Ok(())
    }
}

/// A savepoint that the user wants.
pub struct Operation {
    /// Of which job.
    pub job_id: JobId,
    /// What follows it.
    pub kind: OperationKind,
    /// The URI of the folder it goes to; `None`: the configured one.
    pub target: Option<String>,
    /// How it is asked for.
    pub arguments: OperationArguments,
}

/// What the command has to tell.
pub enum Ran {
    /// The operation has ended as it should.
    Completed(OperationCompleted),
    /// It is begun, and the user does not wait.
    Detached,
}

impl Operation {
    /// Starts the operation and waits until it has ended, unless the user leaves. Tells its id as soon as it has one.
    pub async fn run(
        self,
        client: &DispatcherClient,
        session: &Session,
        output: &mut Output,
    ) -> Result<(String, Ran), Failure> {
        let id = self
            .arguments
            .request_id
            .unwrap_or_else(|| OperationId::from_bytes(*uuid::Uuid::new_v4().as_bytes()));
        let id = id.to_string();
        let timeout = session.timeout();
        let request = StartOperationRequest {
            job_id: self.job_id.to_string(),
            operation_id: id.clone(),
            kind: self.kind.into(),
            target_directory: self.target.unwrap_or_default(),
            timeout_ms: timeout.map_or(0, millis),
        };
        let mut interrupt = Interrupt::listen()?;
        let mut calls = Calls::new(session, client);
        let starting = start(&mut calls, request);
        let not_begun = format!("the job manager has not begun operation `{id}`");
        let mut starting = pin!(within(timeout, &not_begun, starting));
        // Who does not wait is told by what the command prints, and by what it says if that fails.
        let mut is_told = self.arguments.detached;
        let started = loop {
            tokio::select! {
                started = &mut starting => break started,
                () = interrupt.pressed() => return Err(left(&id, output)),
                () = tokio::time::sleep(TOLD_AFTER), if !is_told => {
                    tell(&id, output);
                    is_told = true;
                }
            }
        };
        let begun = started.map_err(|error| outcome_of(error, &id))?;
        // Another one than this, where that ends the job already as this would.
        if !is_told || begun != id {
            tell(&begun, output);
        }
        let id = begun;
        if self.arguments.detached {
            return Ok((id, Ran::Detached));
        }
        let patience = timeout.map(|timeout| timeout.saturating_add(GRACE));
        let calls = Calls::new(session, client);
        let completed = follow(calls, &id, patience, (&mut interrupt, output)).await?;
        Ok((id, Ran::Completed(completed)))
    }
}

fn tell(id: &str, output: &mut Output) {
    output.note(&format!(
        "Operation {id}: follow it with `streamctl savepoint status {id}`"
    ));
}

/// Waits for the end of an operation, whoever began it, and tells how far it is. Ctrl-C leaves it.
pub async fn follow(
    mut calls: Calls<'_>,
    id: &str,
    patience: Option<Duration>,
    (interrupt, output): (&mut Interrupt, &mut Output),
) -> Result<OperationCompleted, Failure> {
    let mut progress = Progress::new(output.format());
    let ended = {
        let waiting = wait(&mut calls, id, &mut progress);
        let not_ended = format!("operation `{id}` has not ended");
        tokio::select! {
            ended = within(patience, &not_ended, waiting) => Some(ended),
            () = interrupt.pressed() => None,
        }
    };
    progress.clear();
    match ended {
        Some(ended) => ended.map_err(|error| outcome_of(error, id)),
        None => Err(left(id, output)),
    }
}

/// Waits no longer than this; `what` is what was not so in time, for the message.
async fn within<T>(
    patience: Option<Duration>,
    what: &str,
    work: impl Future<Output = Result<T, CodedError>>,
) -> Result<T, CodedError> {
    let Some(patience) = patience else {
        return work.await;
    };
    tokio::time::timeout(patience, work).await.unwrap_or_else(|_late| {
        let message = format!("{what} within {}", shown(patience));
        Err(CodedError::new(ErrorCode::DeadlineExceeded, message))
    })
}

/// Begins the operation, and returns its id. The request may be repeated: its id makes it one.
async fn start(calls: &mut Calls<'_>, request: StartOperationRequest) -> Result<String, CodedError> {
    loop {
        match calls.client().start_operation(request.clone()).await {
            Ok(begun) => return Ok(begun.operation_id),
            Err(error) => calls.again(error).await?,
        }
    }
}

async fn wait(calls: &mut Calls<'_>, id: &str, progress: &mut Progress) -> Result<OperationCompleted, CodedError> {
    loop {
        let timeout = if progress.is_shown() { REFRESH } else { WAIT };
        let request = WaitOperationRequest {
            job_id: String::new(),
            operation_id: id.to_owned(),
            timeout_ms: millis(timeout),
        };
        let outcome = match calls.client().wait_operation(request).await {
            Ok(answer) => answer.outcome,
            Err(error) => {
                calls.again(error).await?;
                continue;
            }
        };
        calls.heard();
        match outcome {
            Some(Outcome::Completed(completed)) => return Ok(completed),
            Some(Outcome::Failed(error)) => return Err(from_proto(&error)),
            Some(Outcome::InProgress(now)) => {
                progress.operation(&now);
                // The server has waited; where it has not, a pause keeps this loop from spinning.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            None => {
                let message = "the job manager's answer lacks the outcome of the operation";
                return Err(CodedError::new(ErrorCode::ProtocolMismatch, message)
                    .with_hint("use the streamctl of the cluster's version"));
            }
        }
    }
}

fn is_lost(error: &CodedError) -> bool {
    matches!(
        error.code,
        ErrorCode::JobManagerUnreachable | ErrorCode::ClusterShuttingDown
    )
}

fn millis(duration: Duration) -> u64 {
    // 0 would mean that no time is named.
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn left(id: &str, output: &mut Output) -> Failure {
    output.note(&format!(
        "Interrupted: operation {id} goes on. To see what becomes of it: streamctl savepoint status --wait {id}"
    ));
    Failure::Interrupted
}

/// Once an operation may have begun, a lost connection says nothing about what became of it. The job manager does.
fn outcome_of(error: CodedError, id: &str) -> Failure {
    let hint = format!("ask with `streamctl savepoint status {id}`, now or after the job manager was restarted");
    if is_lost(&error) {
        let message = format!("it is not known what became of operation `{id}`: {}", error.message);
        return CodedError::new(ErrorCode::OutcomeUnknown, message)
            .with_hint(hint)
            .into();
    }
    match error.code {
        ErrorCode::DeadlineExceeded => error.with_hint(hint).into(),
        _ => error.into(),
    }
}
