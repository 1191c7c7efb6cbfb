//! A snapshot beside the graph that is to start from it: what becomes of every state, one verdict each.

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::evolution::Evolution;
use streamd_core::graph::{JobGraph, Operator, StateDescriptor, StateKind};
use streamd_core::id::OperatorId;
use streamd_core::key_group::KEY_HASH_VERSION;
use streamd_core::migration::{Migration, Mismatch, check_key};
use streamd_core::row::DataType;
use streamd_core::snapshot::{KeyedStateHandle, ListState, METADATA_VERSION, OperatorState, SnapshotMetadata};

use super::key_groups::key_groups_of;
use super::nearest::nearest_label;

/// What the names of states begin with that an operator keeps for itself, such as its timers. Applications do not declare
/// them.
const INTERNAL_PREFIX: char = '~';

/// A snapshot and a graph, compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Every state of the snapshot, then every state of the graph that the snapshot does not have.
    pub findings: Vec<Finding>,
    /// The number of key groups of each vertex, or why it cannot have those of the snapshot.
    pub key_groups: Vec<Result<u32, CodedError>>,
}

/// What becomes of one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The id of its operator.
    pub operator: OperatorId,
    /// What people call the operator, in the snapshot or in the graph.
    pub label: String,
    /// What the operator may be called where its state is to be dropped: uid, id, name.
    pub identities: Vec<String>,
    /// The name of the state.
    pub state: String,
    /// Its rows or elements in the snapshot.
    pub rows: u64,
    /// Their bytes in the snapshot.
    pub bytes: u64,
    /// What becomes of it.
    pub verdict: Verdict,
}

/// What becomes of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken over as it is.
    Matches,
    /// It is taken over, and every value is changed on the way.
    Migrates {
        /// How, for people.
        changes: Vec<String>,
    },
    /// Nothing in the graph claims it: it is dropped if the user says so.
    Unclaimed {
        /// Whether the graph has no such operator at all.
        operator_gone: bool,
        /// An operator of the graph that may be meant.
        nearest: Option<String>,
    },
    /// It is new: it starts empty.
    Empty,
    /// It cannot be taken over.
    Incompatible {
        /// What is wrong, as what stands behind `state … of operator …`.
        reason: String,
        /// What to do.
        hint: String,
    },
}

/// Compares a snapshot with a graph. Errors if the snapshot is of a version that this build does not know.
pub fn compare(graph: &JobGraph, metadata: &SnapshotMetadata) -> Result<Comparison, CodedError> {
    check_versions(metadata)?;
    let operators: BTreeMap<OperatorId, &Operator> =
        graph.operators().map(|(_, operator)| (operator.id, operator)).collect();
    let mut findings = Vec::new();
    for state in &metadata.operators {
        match operators.get(&state.id) {
            Some(operator) => findings.extend(claimed(operator, state, metadata)),
            None => findings.extend(unclaimed(state, graph)),
        }
    }
    for operator in operators.values() {
        findings.extend(new_states(operator, &findings, metadata));
    }
    let key_groups = graph
        .vertices
        .iter()
        .map(|vertex| key_groups_of(vertex, metadata))
        .collect();
    Ok(Comparison { findings, key_groups })
}

fn check_versions(metadata: &SnapshotMetadata) -> Result<(), CodedError> {
    let newer = |what: &str, version: u32, known: u32| {
        CodedError::new(
            ErrorCode::SnapshotVersion,
            format!("snapshot has {what} version {version}, this build knows versions up to {known}"),
        )
        .with_hint("restore it with the version of streamd that wrote it, or a later one")
    };
    if metadata.version > METADATA_VERSION {
        return Err(newer("metadata", metadata.version, METADATA_VERSION));
    }
    if metadata.key_hash_version > KEY_HASH_VERSION {
        return Err(newer("key hash", metadata.key_hash_version, KEY_HASH_VERSION));
    }
    Ok(())
}

/// One state of an operator in a snapshot: the parts that its subtasks wrote.
struct Stored<'a> {
    keyed: Vec<&'a KeyedStateHandle>,
    list: Option<&'a ListState>,
}

fn states_of(state: &OperatorState) -> BTreeMap<&str, Stored<'_>> {
    let mut states: BTreeMap<&str, Stored<'_>> = BTreeMap::new();
    let empty = || Stored {
        keyed: Vec::new(),
        list: None,
    };
    for handle in &state.keyed {
        states.entry(&handle.state).or_insert_with(empty).keyed.push(handle);
    }
    for list in &state.lists {
        states.entry(&list.name).or_insert_with(empty).list = Some(list);
    }
    states
}

impl Stored<'_> {
    fn rows(&self) -> u64 {
        let keyed: u64 = self.keyed.iter().map(|handle| handle.rows).sum();
        keyed + self.list.map_or(0, |list| list.items.len() as u64)
    }

    fn bytes(&self) -> u64 {
        let keyed: u64 = self.keyed.iter().map(|handle| handle.bytes).sum();
        let items = self.list.iter().flat_map(|list| &list.items);
        keyed + items.map(|item| item.len() as u64).sum::<u64>()
    }

    fn finding(&self, owner: &OperatorState, name: &str, verdict: Verdict) -> Finding {
        Finding {
            operator: owner.id,
            label: owner.label(),
            identities: identities(owner.uid.as_deref(), owner.id, &owner.name),
            state: name.to_owned(),
            rows: self.rows(),
            bytes: self.bytes(),
            verdict,
        }
    }
}

fn identities(uid: Option<&str>, id: OperatorId, name: &str) -> Vec<String> {
    let uid = uid.map(str::to_owned).into_iter();
    uid.chain([id.to_string(), name.to_owned()]).collect()
}

/// The states of an operator that the graph has.
fn claimed(operator: &Operator, state: &OperatorState, metadata: &SnapshotMetadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, stored) in states_of(state) {
        let verdict = match claim_of(operator, name) {
            Some(claim) => claim.verdict(&stored, old_kind(metadata, operator.id, name)),
            None if stored.rows() == 0 || is_internal(name) => Verdict::Matches,
            None => Verdict::Unclaimed {
                operator_gone: false,
                nearest: None,
            },
        };
        findings.push(stored.finding(state, name, verdict));
    }
    findings
}

/// The states of an operator that the graph does not have. Those without a row are nothing to lose.
fn unclaimed(state: &OperatorState, graph: &JobGraph) -> Vec<Finding> {
    let nearest = nearest_label(state.uid.as_deref().unwrap_or(&state.name), graph);
    let lost = states_of(state).into_iter().filter(|(_name, stored)| stored.rows() > 0);
    lost.map(|(name, stored)| {
        let verdict = Verdict::Unclaimed {
            operator_gone: true,
            nearest: nearest.clone(),
        };
        stored.finding(state, name, verdict)
    })
    .collect()
}

/// The states of an operator of the graph that no finding is about yet.
fn new_states(operator: &Operator, findings: &[Finding], metadata: &SnapshotMetadata) -> Vec<Finding> {
    let known: BTreeSet<&str> = findings
        .iter()
        .filter(|finding| finding.operator == operator.id)
        .map(|finding| finding.state.as_str())
        .collect();
    let new = operator
        .states
        .iter()
        .filter(|state| !known.contains(state.name.as_str()));
    new.map(|state| Finding {
        operator: operator.id,
        label: operator.label().to_owned(),
        identities: identities(operator.uid.as_deref(), operator.id, &operator.name),
        state: state.name.clone(),
        rows: 0,
        bytes: 0,
        // What the job had then, and had nothing in, is as it was.
        verdict: match old_kind(metadata, operator.id, &state.name) {
            Some(_) => Verdict::Matches,
            None => Verdict::Empty,
        },
    })
    .collect()
}

/// What a state was declared as by the job that wrote the snapshot.
fn old_kind<'a>(metadata: &'a SnapshotMetadata, operator: OperatorId, state: &str) -> Option<&'a StateKind> {
    let (_, old) = metadata.graph.operators().find(|(_, old)| old.id == operator)?;
    old.states
        .iter()
        .find(|declared| declared.name == state)
        .map(|declared| &declared.kind)
}

/// Whether an operator takes over a state of this name.
pub(crate) fn claims(operator: &Operator, state: &str) -> bool {
    claim_of(operator, state).is_some() || is_internal(state)
}

fn is_internal(state: &str) -> bool {
    state.starts_with(INTERNAL_PREFIX)
}

/// What an operator of the graph expects a state to be.
enum Claim<'a> {
    Declared(&'a StateDescriptor),
    /// The splits of a source that does not declare them.
    Splits(&'a ListState),
}

fn claim_of<'a>(operator: &'a Operator, name: &str) -> Option<Claim<'a>> {
    let declared = operator.states.iter().find(|declared| declared.name == name);
    let splits = operator.initial_splits.as_ref().filter(|splits| splits.name == name);
    declared.map(Claim::Declared).or(splits.map(Claim::Splits))
}

impl Claim<'_> {
    fn verdict(&self, stored: &Stored<'_>, old: Option<&StateKind>) -> Verdict {
        if stored.rows() == 0 {
            return Verdict::Matches;
        }
        match self {
            Self::Splits(splits) => elements(stored, &splits.data_type, &Evolution::default()),
            Self::Declared(declared) => match (&declared.kind, old) {
                (StateKind::Keyed { key }, _) => keyed(stored, key, declared),
                (now, Some(old)) if stored.list.is_some() && !takes(now, old) => other_kind(noun(old), noun(now)),
                (StateKind::List | StateKind::Union | StateKind::Broadcast, _) => {
                    elements(stored, &declared.value, &declared.evolution)
                }
            },
        }
    }
}

/// Whether operator state that was declared so can be taken over as what is declared now.
fn takes(now: &StateKind, old: &StateKind) -> bool {
    // Broadcast state used to be called a union list.
    now == old || matches!((now, old), (StateKind::Broadcast, StateKind::Union))
}

fn noun(kind: &StateKind) -> &'static str {
    match kind {
        StateKind::Keyed { .. } => "keyed",
        StateKind::List => "a list",
        StateKind::Union => "a union list",
        StateKind::Broadcast => "broadcast state",
    }
}

fn keyed(stored: &Stored<'_>, key: &DataType, declared: &StateDescriptor) -> Verdict {
    if stored.list.is_some() {
        return other_kind("a list", "keyed");
    }
    let mut verdict = Verdict::Matches;
    for handle in &stored.keyed {
        if let Err(mismatch) = check_key(&handle.key, key) {
            return refused(&mismatch);
        }
        if handle.namespace.is_some() {
            return other_kind("kept by key and namespace", "kept by key");
        }
        match migrated(&handle.value, &declared.value, &declared.evolution) {
            Verdict::Matches => {}
            migrates @ Verdict::Migrates { .. } => verdict = migrates,
            other => return other,
        }
    }
    verdict
}

fn elements(stored: &Stored<'_>, declared: &DataType, evolution: &Evolution) -> Verdict {
    match stored.list {
        Some(list) if stored.keyed.is_empty() => migrated(&list.data_type, declared, evolution),
        Some(_) | None => other_kind("keyed", "a list"),
    }
}

fn migrated(stored: &DataType, declared: &DataType, evolution: &Evolution) -> Verdict {
    match Migration::resolve(stored, declared, evolution) {
        Ok(migration) if migration.is_identity() => Verdict::Matches,
        Ok(migration) => Verdict::Migrates {
            changes: migration.changes().iter().map(ToString::to_string).collect(),
        },
        Err(mismatch) => refused(&mismatch),
    }
}

fn refused(mismatch: &Mismatch) -> Verdict {
    Verdict::Incompatible {
        reason: format!("does not fit: {mismatch}"),
        hint: mismatch.remedy(),
    }
}

fn other_kind(stored: &str, declared: &str) -> Verdict {
    Verdict::Incompatible {
        reason: format!("is {stored} in the snapshot and {declared} in the job"),
        hint: "declare it as it was, or keep the new state under a new name".to_owned(),
    }
}
