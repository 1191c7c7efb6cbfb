//! `streamctl info`: what an application would run, without running it.

use clap::Args;
use serde::Serialize;
use serde_json::Value;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::graph::{Guarantee, JobGraph, OperatorKind};
use streamd_core::plan::PlanDescriptor;
use streamd_rpc::proto::DescribeApplicationRequest;

use super::program::ProgramArguments;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

/// Show the plan of an application without running it
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl info -p 4 target/release/flights --input flights.csv")]
pub struct InfoCommand {
    #[command(flatten)]
    program: ProgramArguments,
}

#[derive(Serialize)]
struct Described<'a> {
    job_name: &'a str,
    guarantee: Guarantee,
    connectors: Vec<Connector<'a>>,
    warnings: &'a [String],
    plan: &'a Value,
}

/// What a source or sink promises.
#[derive(Serialize)]
struct Connector<'a> {
    kind: OperatorKind,
    name: &'a str,
    guarantee: Guarantee,
}

impl InfoCommand {
    /// Has a task manager describe the application.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let program = self.program.check(session).await?;
        let client = session.connect().await?;
        let plan = session
            .within("the application is not described", async {
                let application = Some(program.upload(&client).await?);
                Ok(client
                    .describe_application(DescribeApplicationRequest { application })
                    .await?
                    .plan)
            })
            .await?;
        let plan: Value = serde_json::from_slice(&plan).map_err(unreadable)?;
        let described: PlanDescriptor = serde_json::from_value(plan.clone()).map_err(unreadable)?;
        print(&described, &plan, output)
    }
}

fn unreadable(error: serde_json::Error) -> Failure {
    CodedError::caused(
        ErrorCode::ProtocolMismatch,
        "the plan that the job manager sent cannot be read",
        &error,
    )
    .with_hint("use the streamctl of the cluster's version")
    .into()
}

fn print(described: &PlanDescriptor, plan: &Value, output: &mut Output) -> Result<(), Failure> {
    let graph = &described.graph;
    let warnings = warnings(graph);
    output.line("----------------------- Execution Plan -----------------------")?;
    for line in serde_json::to_string_pretty(plan)
        .expect("a value that was parsed prints")
        .lines()
    {
        output.line(line)?;
    }
    output.line(&"-".repeat(62))?;
    output.line("")?;
    output.line(&format!("Job: {}", graph.name))?;
    let promised = graph.guarantee(graph.checkpointing.mode.unwrap_or_default());
    let connectors = connectors(graph);
    output.line(&format!(
        "Guarantee: {}{}",
        guarantee(promised),
        because(&connectors, promised)
    ))?;
    if let Some(built) = &described.built_with {
        output.line(&format!("State backends: {}", built.state_backends.join(", ")))?;
        output.line(&format!("Storage: {}", built.storage_schemes.join(", ")))?;
    }
    for warning in &warnings {
        output.line(&format!("Warning: {warning}"))?;
    }
    output.object(&Described {
        job_name: &graph.name,
        guarantee: promised,
        connectors,
        warnings: &warnings,
        plan,
    })
}

fn guarantee(guarantee: Guarantee) -> &'static str {
    match guarantee {
        Guarantee::AtMostOnce => "at most once",
        Guarantee::AtLeastOnce => "at least once",
        Guarantee::ExactlyOnce => "exactly once",
    }
}

fn connectors(graph: &JobGraph) -> Vec<Connector<'_>> {
    let connectors = graph.operators().filter_map(|(_, operator)| {
        Some(Connector {
            kind: operator.kind,
            name: &operator.name,
            guarantee: operator.guarantee?,
        })
    });
    connectors.collect()
}

/// Why the job promises no more: its weakest sources and sinks, or else the mode of its checkpoints.
fn because(connectors: &[Connector<'_>], promised: Guarantee) -> String {
    if promised == Guarantee::ExactlyOnce {
        return String::new();
    }
    let weakest = |connector: &&Connector<'_>| connector.guarantee == promised;
    let named = connectors.iter().filter(weakest).map(|connector| {
        let kind = match connector.kind {
            OperatorKind::Source => "source",
            OperatorKind::Transformation => "operator",
            OperatorKind::Sink => "sink",
        };
        format!("{kind} `{}`", connector.name)
    });
    let named: Vec<String> = named.collect();
    match &named[..] {
        [] => ", because of the mode of its checkpoints".to_owned(),
        named => format!(", because of {}", named.join(", ")),
    }
}

/// What the user should know before relying on savepoints.
fn warnings(graph: &JobGraph) -> Vec<String> {
    graph
        .operators()
        .filter(|(_, operator)| operator.uid.is_none() && (!operator.states.is_empty() || operator.initial_splits.is_some()))
        .map(|(_, operator)| {
            format!(
                "operator `{}` has state but no uid: add `.uid(\"…\")`, or its state is lost when the job graph changes",
                operator.name
            )
        })
        .collect()
}
