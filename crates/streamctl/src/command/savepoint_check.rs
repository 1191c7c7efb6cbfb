//! `streamctl savepoint check`: what becomes of the state of a snapshot in an application, before anything starts.

use std::ffi::OsString;

use clap::Args;
use serde::Serialize;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_rpc::proto::state_finding::Verdict;
use streamd_rpc::proto::{CheckSnapshotRequest, CheckSnapshotResponse, StateFinding};
use streamd_rpc::status::from_proto;

use super::program::ProgramArguments;
use crate::failure::Failure;
use crate::location::absolute;
use crate::output::Output;
use crate::session::Session;

/// `streamctl savepoint check`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl savepoint check target/release/flights /data/savepoints/savepoint-fd7201-0123456789ab --input flights.csv

Has the application described, reads the metadata of the savepoint or retained checkpoint, and prints what becomes of every
state: it matches, migrates, would be dropped, starts empty, or is incompatible. Starts nothing. `run -s` decides by the same
rules. Exit code 0: all is well; 4: state would be dropped and neither -n nor --drop-state allows it; 7: the snapshot is
corrupt or does not fit the application.")]
pub struct CheckQuery {
    /// The parallelism of the job [default: the configuration's parallelism.default]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32768))]
    parallelism: Option<u32>,
    /// A setting of the job; may be given more than once
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// State that the application no longer has may be dropped
    #[arg(
        short = 'n',
        long = "allowNonRestoredState",
        visible_alias = "allow-non-restored-state"
    )]
    allow_non_restored_state: bool,
    /// State of this operator (uid, id or name) may be dropped; may be given more than once
    #[arg(long = "drop-state", value_name = "UID")]
    drop_states: Vec<String>,
    /// The application binary, the savepoint or retained checkpoint, and the arguments of the application
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, num_args = 2.., value_names = ["APP", "PATH", "ARGS"])]
    program: Vec<OsString>,
}

#[derive(Serialize)]
struct Checked<'a> {
    job_name: &'a str,
    snapshot: &'a str,
    fits: bool,
    states: Vec<CheckedState<'a>>,
    refusal: Option<&'a CodedError>,
}

#[derive(Serialize)]
struct CheckedState<'a> {
    operator: &'a str,
    operator_id: &'a str,
    state: &'a str,
    rows: u64,
    bytes: u64,
    verdict: &'static str,
    details: &'a [String],
    hint: Option<&'a str>,
}

impl CheckQuery {
    /// Has the job manager compare, prints the table, and fails if the application could not start so.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let mut program = self.program;
        // The parser demands both.
        let path = program.remove(1).into_string().map_err(|path| {
            Failure::usage(
                format!("the path `{}` is not UTF-8", path.display()),
                "rename the folder",
            )
        })?;
        let savepoint_path = absolute(&path)?;
        let program = ProgramArguments {
            parallelism: self.parallelism,
            settings: self.settings,
            program,
        };
        let program = program.check(session, output).await?;
        let client = session.connect().await?;
        let answer = session
            .within("the snapshot is not checked", async {
                let request = CheckSnapshotRequest {
                    application: Some(program.upload(&client).await?),
                    savepoint_path,
                    allow_non_restored_state: self.allow_non_restored_state,
                    drop_states: self.drop_states,
                };
                Ok(client.check_snapshot(request).await?)
            })
            .await?;
        let refusal = answer.refusal.as_ref().map(from_proto).map(as_check);
        print(&answer, refusal.as_ref(), output)?;
        match refusal {
            Some(refusal) => Err(refusal.into()),
            None => Ok(()),
        }
    }
}

/// What a submission refuses for want of leave is no defect of the snapshot: it has a code of its own, for pipelines.
fn as_check(refusal: CodedError) -> CodedError {
    match refusal.code {
        ErrorCode::UnclaimedState => CodedError {
            code: ErrorCode::StateWouldBeDropped,
            ..refusal
        },
        _other => refusal,
    }
}

fn print(answer: &CheckSnapshotResponse, refusal: Option<&CodedError>, output: &mut Output) -> Result<(), Failure> {
    output.line(&format!("Snapshot: {}", answer.snapshot))?;
    output.line(&format!("Job: {}", answer.job_name))?;
    output.line("")?;
    for line in table(&answer.findings) {
        output.line(&line)?;
    }
    for finding in answer.findings.iter().filter(|finding| !finding.details.is_empty()) {
        output.line("")?;
        output.line(&format!(
            "{} / {}: {}",
            finding.operator,
            finding.state,
            verdict(finding.verdict())
        ))?;
        for detail in &finding.details {
            output.line(&format!("  {detail}"))?;
        }
        if !finding.hint.is_empty() {
            output.line(&format!("  hint: {}", finding.hint))?;
        }
    }
    if refusal.is_none() {
        output.line("")?;
        output.line("The application can start from it.")?;
    }
    output.object(&Checked {
        job_name: &answer.job_name,
        snapshot: &answer.snapshot,
        fits: refusal.is_none(),
        states: answer.findings.iter().map(checked_state).collect(),
        refusal,
    })
}

fn checked_state(finding: &StateFinding) -> CheckedState<'_> {
    CheckedState {
        operator: &finding.operator,
        operator_id: &finding.operator_id,
        state: &finding.state,
        rows: finding.rows,
        bytes: finding.bytes,
        verdict: verdict(finding.verdict()),
        details: &finding.details,
        hint: (!finding.hint.is_empty()).then_some(finding.hint.as_str()),
    }
}

/// The findings in columns as wide as what is in them; numbers to the right.
fn table(findings: &[StateFinding]) -> Vec<String> {
    let header = ["OPERATOR", "STATE", "ROWS", "BYTES", "VERDICT"].map(str::to_owned);
    let rows = findings.iter().map(|finding| {
        [
            finding.operator.clone(),
            finding.state.clone(),
            finding.rows.to_string(),
            finding.bytes.to_string(),
            verdict(finding.verdict()).to_owned(),
        ]
    });
    let rows: Vec<[String; 5]> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (operator, state, count, bytes) = (width(0), width(1), width(2), width(3));
    rows.iter()
        .map(|[a, b, c, d, e]| format!("{a:<operator$}  {b:<state$}  {c:>count$}  {d:>bytes$}  {e}"))
        .collect()
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Unspecified => "unknown",
        Verdict::Matches => "matches",
        Verdict::Migrates => "migrates",
        Verdict::Dropped => "dropped",
        Verdict::Empty => "empty",
        Verdict::Incompatible => "incompatible",
    }
}
