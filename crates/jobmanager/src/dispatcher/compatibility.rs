//! Comparing a snapshot with an application: what a submission would say, without one.

use streamd_coordinator::restore::{Finding, Verdict, compare};
use streamd_core::error::CodedError;
use streamd_core::plan::PlanDescriptor;
use streamd_rpc::proto::state_finding::Verdict as Judged;
use streamd_rpc::proto::{CheckSnapshotRequest, CheckSnapshotResponse, StateFinding};
use streamd_rpc::status::to_proto;

use super::built::check_built;
use super::submission::{Dispatcher, dropping, parse_plan};
use crate::options::job_options;
use crate::spec::{read_restore_point, with_max_parallelism};

impl Dispatcher {
    /// Describes an application, reads the metadata of a snapshot, and says what becomes of every state.
    pub(crate) async fn check_snapshot(
        &self,
        request: CheckSnapshotRequest,
    ) -> Result<CheckSnapshotResponse, CodedError> {
        let program = self.program(request.application.unwrap_or_default()).await?;
        let plan = self.resource_manager.describe(program.clone()).await?;
        let PlanDescriptor { graph, built_with } = parse_plan(&program, &plan)?;
        // The settings are checked as those of a submission are.
        let inputs = (self.options.resolve)(&program.configuration, &graph)?;
        let defaults = &self.options.job_defaults;
        let options = job_options(&graph, &inputs, defaults, self.options.leader_epoch)?;
        let graph = with_max_parallelism(&graph, inputs.max_parallelism.or(defaults.max_parallelism));
        let point = read_restore_point(&request.savepoint_path).await?;
        check_built(&program.file_name, built_with.as_ref(), &options, Some(&point))?;
        let comparison = compare(&graph, &point.metadata)?;
        let allowed = dropping(request.allow_non_restored_state, &request.drop_states);
        let refusal = comparison.plan(&allowed).err();
        Ok(CheckSnapshotResponse {
            job_name: graph.name,
            snapshot: point.uri,
            findings: comparison.findings.into_iter().map(finding).collect(),
            refusal: refusal.as_ref().map(to_proto),
        })
    }
}

fn finding(finding: Finding) -> StateFinding {
    let (verdict, details, hint) = match finding.verdict {
        Verdict::Matches => (Judged::Matches, Vec::new(), String::new()),
        Verdict::Migrates { changes } => (Judged::Migrates, changes, String::new()),
        Verdict::Unclaimed { operator_gone, nearest } => {
            let what = if operator_gone { "operator" } else { "state" };
            let hint = nearest.map(|uid| format!("the application has an operator `{uid}`"));
            (
                Judged::Dropped,
                vec![format!("no such {what} in the application")],
                hint.unwrap_or_default(),
            )
        }
        Verdict::Empty => (Judged::Empty, Vec::new(), String::new()),
        Verdict::Incompatible { reason, hint } => (Judged::Incompatible, vec![reason], hint),
    };
    StateFinding {
        operator_id: finding.operator.to_string(),
        operator: finding.label,
        state: finding.state,
        rows: finding.rows,
        bytes: finding.bytes,
        verdict: verdict.into(),
        details,
        hint,
    }
}
