//! `streamctl info`: what an application would run, without running it.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::graph::{Guarantee, JobGraph, OperatorKind};
use streamd_core::options::{Configuration, keys};
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
    settings: BTreeMap<&'a str, &'a str>,
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
        let program = self.program.check(session, output).await?;
        let settings = program.settings().clone();
        let restart_strategy = program.restart_strategy(session.configuration())?;
        let client = session.connect().await?;
        let answer = session
            .within("the application is not described", async {
                let application = Some(program.upload(&client).await?);
                Ok(client
                    .describe_application(DescribeApplicationRequest { application })
                    .await?)
            })
            .await?;
        let mut plan: Value = serde_json::from_slice(&answer.plan).map_err(unreadable)?;
        let mut described: PlanDescriptor = serde_json::from_value(plan.clone()).map_err(unreadable)?;
        if restart_strategy.is_some() {
            described.graph.restart_strategy = restart_strategy;
        }
        settle(&mut described.graph, &settings);
        show_settled(&mut plan, &described.graph);
        let settings = settings.settings().map(|(key, value, _origin)| (key, value)).collect();
        print(&described, &plan, settings, &answer.warnings, output)
    }
}

/// The graph as the job would run: what the command line says goes before the code, but for the numbers of key groups.
fn settle(graph: &mut JobGraph, settings: &Configuration) {
    graph.checkpointing = settings.explicit_checkpointing().or(&graph.checkpointing);
    if let Some(groups) = settings.get(keys::MAX_PARALLELISM) {
        for vertex in &mut graph.vertices {
            vertex.max_parallelism.get_or_insert(groups);
        }
    }
}

/// Puts what may have been settled into the plan as it came, which may say more than this version understands.
fn show_settled(plan: &mut Value, graph: &JobGraph) {
    plan["checkpointing"] = json!(graph.checkpointing);
    plan["restart_strategy"] = json!(graph.restart_strategy);
    for (index, vertex) in graph.vertices.iter().enumerate() {
        plan["vertices"][index]["max_parallelism"] = json!(vertex.max_parallelism);
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

fn print(
    described: &PlanDescriptor,
    plan: &Value,
    settings: BTreeMap<&str, &str>,
    warnings: &[String],
    output: &mut Output,
) -> Result<(), Failure> {
    let graph = &described.graph;
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
    for (key, value) in &settings {
        output.line(&format!("Setting: {key}={value}"))?;
    }
    for warning in warnings {
        output.line(&format!("Warning: {warning}"))?;
    }
    output.object(&Described {
        job_name: &graph.name,
        guarantee: promised,
        connectors,
        settings,
        warnings,
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
