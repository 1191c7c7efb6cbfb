//! Whether a snapshot fits a graph, decided before anything starts.

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::graph::JobGraph;
use streamd_core::id::OperatorId;
use streamd_core::snapshot::SnapshotMetadata;

use super::compare::{Comparison, Finding, Verdict, compare};

/// How a graph takes over a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorePlan {
    /// The number of key groups of each vertex, by position: set in code, adopted from the snapshot, or the default.
    pub max_parallelism: Vec<u32>,
    /// The operators and states of the snapshot that nobody claims, as messages call them. They are gone from the next
    /// snapshot on.
    pub dropped: Vec<String>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// What becomes of state that no operator claims.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Dropping {
    /// It is an error.
    #[default]
    Nothing,
    /// It is dropped where it is of operators of these uids (or ids, or names); else it is an error.
    Only(BTreeSet<String>),
    /// It is dropped.
    Everything,
}

/// Checks a snapshot against the graph that is to start from it. With `allow_non_restored`, state that no operator claims
/// is dropped; otherwise it is an error.
pub fn check(
    graph: &JobGraph,
    metadata: &SnapshotMetadata,
    allow_non_restored: bool,
) -> Result<RestorePlan, CodedError> {
    let dropping = if allow_non_restored {
        Dropping::Everything
    } else {
        Dropping::Nothing
    };
    check_dropping(graph, metadata, &dropping)
}

/// As [`check`], where state may be dropped of some operators and not of others.
pub fn check_dropping(
    graph: &JobGraph,
    metadata: &SnapshotMetadata,
    dropping: &Dropping,
) -> Result<RestorePlan, CodedError> {
    compare(graph, metadata)?.plan(dropping)
}

impl Comparison {
    /// What a job does that starts so, or the first thing that stands against it.
    pub fn plan(&self, dropping: &Dropping) -> Result<RestorePlan, CodedError> {
        if let Some(refusal) = self.incompatible().next() {
            return Err(refusal);
        }
        let losses = self.losses();
        let kept: Vec<&Loss<'_>> = losses.iter().filter(|loss| !dropping.covers(loss)).collect();
        if let Some(first) = kept.first() {
            return Err(first.refusal(kept.len()));
        }
        check_named(dropping, &losses)?;
        let migrations = self.findings.iter().filter_map(migration);
        Ok(RestorePlan {
            max_parallelism: self.key_groups.iter().cloned().collect::<Result<_, _>>()?,
            warnings: losses.iter().map(Loss::warning).chain(migrations).collect(),
            dropped: losses.iter().map(Loss::name).collect(),
        })
    }

    /// What stands against a start whatever the user allows.
    pub fn incompatible(&self) -> impl Iterator<Item = CodedError> {
        self.findings.iter().filter_map(refusal)
    }

    /// What nobody claims: whole operators, and single states of operators that go on.
    fn losses(&self) -> Vec<Loss<'_>> {
        let mut losses: BTreeMap<(OperatorId, Option<&str>), Loss<'_>> = BTreeMap::new();
        for finding in &self.findings {
            let Verdict::Unclaimed { operator_gone, nearest } = &finding.verdict else {
                continue;
            };
            let state = (!operator_gone).then_some(finding.state.as_str());
            let loss = losses.entry((finding.operator, state)).or_insert_with(|| Loss {
                nearest: nearest.as_deref(),
                findings: Vec::new(),
                operator_gone: *operator_gone,
            });
            loss.findings.push(finding);
        }
        losses.into_values().collect()
    }
}

impl Dropping {
    fn covers(&self, loss: &Loss<'_>) -> bool {
        match self {
            Self::Nothing => false,
            Self::Only(named) => loss.identities().iter().any(|identity| named.contains(identity)),
            Self::Everything => true,
        }
    }
}

/// Whoever names what is to be dropped must mean something: a misspelt name would drop nothing, and say nothing.
fn check_named(dropping: &Dropping, losses: &[Loss<'_>]) -> Result<(), CodedError> {
    let Dropping::Only(named) = dropping else {
        return Ok(());
    };
    let meant = |name: &String| losses.iter().any(|loss| loss.identities().contains(name));
    let Some(unknown) = named.iter().find(|name| !meant(name)) else {
        return Ok(());
    };
    let there: Vec<String> = losses.iter().map(Loss::name).collect();
    let hint = match there.as_slice() {
        [] => "all state of the snapshot is claimed: leave --drop-state out".to_owned(),
        some => format!("what can be dropped: {}", some.join(", ")),
    };
    let message = format!("the snapshot holds no unclaimed state of an operator `{unknown}`");
    Err(CodedError::new(ErrorCode::DropRefused, message).with_hint(hint))
}

fn refusal(finding: &Finding) -> Option<CodedError> {
    let Verdict::Incompatible { reason, hint } = &finding.verdict else {
        return None;
    };
    let message = format!("state `{}` of operator `{}` {reason}", finding.state, finding.label);
    Some(CodedError::new(ErrorCode::IncompatibleState, message).with_hint(hint.as_str()))
}

fn migration(finding: &Finding) -> Option<String> {
    let Verdict::Migrates { changes } = &finding.verdict else {
        return None;
    };
    let (state, operator, changes) = (&finding.state, &finding.label, changes.join(", "));
    Some(format!(
        "state `{state}` of operator `{operator}` is migrated: {changes}"
    ))
}

/// State of the snapshot that nothing in the graph claims: that of an operator, or one state of it.
struct Loss<'a> {
    operator_gone: bool,
    nearest: Option<&'a str>,
    /// At least one; all of one operator.
    findings: Vec<&'a Finding>,
}

impl Loss<'_> {
    fn first(&self) -> &Finding {
        self.findings.first().expect("a loss is made for its first finding")
    }

    /// What the operator may be called: its uid, its id, its name.
    fn identities(&self) -> &[String] {
        &self.first().identities
    }

    fn name(&self) -> String {
        let Finding { label, state, .. } = self.first();
        match self.operator_gone {
            true => format!("operator `{label}`"),
            false => format!("state `{state}` of operator `{label}`"),
        }
    }

    fn refusal(&self, count: usize) -> CodedError {
        let others = match count {
            1 => String::new(),
            more => format!(" (and of {} more)", more - 1),
        };
        let hint = match self.nearest {
            Some(uid) => format!(
                "the graph has an operator `{uid}`: give it the uid of the snapshot, or drop the state with \
                 --allow-non-restored-state"
            ),
            None => format!(
                "give the operator the uid that it had, or drop this state with --drop-state {}, or all that nobody claims \
                 with --allow-non-restored-state",
                self.identities().first().map_or("UID", String::as_str)
            ),
        };
        let message = format!(
            "the snapshot holds state of {}{others} that no operator of the job claims",
            self.name()
        );
        CodedError::new(ErrorCode::UnclaimedState, message).with_hint(hint)
    }

    fn warning(&self) -> String {
        let rows: u64 = self.findings.iter().map(|finding| finding.rows).sum();
        let bytes: u64 = self.findings.iter().map(|finding| finding.bytes).sum();
        let names: Vec<String> = self
            .findings
            .iter()
            .map(|finding| format!("`{}`", finding.state))
            .collect();
        let word = if names.len() == 1 { "state" } else { "states" };
        format!(
            "the state of {} in the snapshot was dropped: no operator of the job claims it ({word} {}, {rows} rows, {bytes} \
             bytes)",
            self.name(),
            names.join(", ")
        )
    }
}
