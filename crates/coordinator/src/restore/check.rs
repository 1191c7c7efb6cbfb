//! Whether a snapshot fits a graph, decided before anything starts.

use std::collections::{BTreeMap, BTreeSet};

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::graph::{JobGraph, JobVertex, Operator, OperatorKind, StateDescriptor, StateKind};
use streamd_core::id::OperatorId;
use streamd_core::key_group::KEY_HASH_VERSION;
use streamd_core::row::DataType;
use streamd_core::snapshot::{KeyedStateHandle, ListState, METADATA_VERSION, OperatorState, SnapshotMetadata};

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

impl Dropping {
    fn covers(&self, unclaimed: &Unclaimed) -> bool {
        match self {
            Self::Nothing => false,
            Self::Only(named) => unclaimed.identities.iter().any(|identity| named.contains(identity)),
            Self::Everything => true,
        }
    }
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
    check_versions(metadata)?;
    let operators: BTreeMap<OperatorId, &Operator> =
        graph.operators().map(|(_, operator)| (operator.id, operator)).collect();
    let mut unclaimed = Vec::new();
    for state in &metadata.operators {
        match operators.get(&state.id) {
            Some(operator) => unclaimed.extend(unclaimed_states(operator, state, &metadata.graph)?),
            None if state.is_empty() => {}
            None => unclaimed.push(Unclaimed::operator(state, graph)),
        }
    }
    let kept: Vec<&Unclaimed> = unclaimed.iter().filter(|state| !dropping.covers(state)).collect();
    if let Some(first) = kept.first() {
        return Err(first.refusal(kept.len()));
    }
    check_named(dropping, &unclaimed)?;
    let max_parallelism = graph
        .vertices
        .iter()
        .map(|vertex| key_groups_of(vertex, metadata))
        .collect::<Result<_, _>>()?;
    Ok(RestorePlan {
        max_parallelism,
        warnings: unclaimed.iter().map(Unclaimed::warning).collect(),
        dropped: unclaimed.into_iter().map(|unclaimed| unclaimed.name).collect(),
    })
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

/// Whoever names what is to be dropped must mean something: a misspelt name would drop nothing, and say nothing.
fn check_named(dropping: &Dropping, unclaimed: &[Unclaimed]) -> Result<(), CodedError> {
    let Dropping::Only(named) = dropping else {
        return Ok(());
    };
    let meant = |name: &String| unclaimed.iter().any(|state| state.identities.contains(name));
    let Some(unknown) = named.iter().find(|name| !meant(name)) else {
        return Ok(());
    };
    let there: Vec<String> = unclaimed.iter().map(|state| state.name.clone()).collect();
    let hint = match there.as_slice() {
        [] => "all state of the snapshot is claimed: leave --drop-state out".to_owned(),
        some => format!("what can be dropped: {}", some.join(", ")),
    };
    let message = format!("the snapshot holds no unclaimed state of an operator `{unknown}`");
    Err(CodedError::new(ErrorCode::DropRefused, message).with_hint(hint))
}

/// State of the snapshot that nothing in the graph claims.
struct Unclaimed {
    name: String,
    nearest: Option<String>,
    /// What the operator may be called: its uid, its id, its name.
    identities: Vec<String>,
    /// What is lost: states, rows, bytes.
    loss: String,
}

fn identities(state: &OperatorState) -> Vec<String> {
    let uid = state.uid.iter().cloned();
    uid.chain([state.id.to_string(), state.name.clone()]).collect()
}

/// What the states of an operator hold, in words: those that `lost` names.
fn loss(state: &OperatorState, lost: impl Fn(&str) -> bool) -> String {
    let keyed = || state.keyed.iter().filter(|handle| lost(&handle.state));
    let lists = || state.lists.iter().filter(|list| lost(&list.name));
    let rows = keyed().map(|handle| handle.rows).sum::<u64>()
        + lists().map(|list| list.items.len() as u64).sum::<u64>();
    let bytes = keyed().map(|handle| handle.bytes).sum::<u64>()
        + lists().flat_map(|list| &list.items).map(|item| item.len() as u64).sum::<u64>();
    let names: BTreeSet<&str> = keyed()
        .map(|handle| handle.state.as_str())
        .chain(lists().map(|list| list.name.as_str()))
        .collect();
    let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let word = if names.len() == 1 { "state" } else { "states" };
    format!("{word} {}, {rows} rows, {bytes} bytes", names.join(", "))
}

impl Unclaimed {
    fn operator(state: &OperatorState, graph: &JobGraph) -> Self {
        let wanted = state.uid.as_deref().unwrap_or(&state.name);
        Self {
            name: format!("operator `{}`", state.label()),
            nearest: nearest_label(wanted, graph),
            identities: identities(state),
            loss: loss(state, |_any| true),
        }
    }

    fn refusal(&self, count: usize) -> CodedError {
        let others = match count {
            1 => String::new(),
            more => format!(" (and of {} more)", more - 1),
        };
        let hint = match &self.nearest {
            Some(uid) => format!(
                "the graph has an operator `{uid}`: give it the uid of the snapshot, or drop the state with \
                 --allow-non-restored-state"
            ),
            None => format!(
                "give the operator the uid that it had, or drop this state with --drop-state {}, or all that nobody claims \
                 with --allow-non-restored-state",
                self.identities.first().map_or("UID", String::as_str)
            ),
        };
        CodedError::new(
            ErrorCode::UnclaimedState,
            format!(
                "the snapshot holds state of {}{others} that no operator of the job claims",
                self.name
            ),
        )
        .with_hint(hint)
    }

    fn warning(&self) -> String {
        format!(
            "the state of {} in the snapshot was dropped: no operator of the job claims it ({})",
            self.name, self.loss
        )
    }
}

/// The non-empty states of an operator that its new version does not declare any more. A state that the snapshot's own
/// graph did not declare either is internal to the operator's kind (a window's timers, a source's splits): it is claimed
/// by the operator itself.
fn unclaimed_states(
    operator: &Operator,
    state: &OperatorState,
    old_graph: &JobGraph,
) -> Result<Vec<Unclaimed>, CodedError> {
    let declared_before = |name: &str| {
        old_graph
            .operators()
            .any(|(_, old)| old.id == operator.id && old.states.iter().any(|declared| declared.name == name))
    };
    let mut unclaimed: BTreeMap<&str, Unclaimed> = BTreeMap::new();
    let missing = |name: &str| Unclaimed {
        name: format!("state `{name}` of operator `{}`", operator.label()),
        nearest: None,
        identities: identities(state),
        loss: loss(state, |state| state == name),
    };
    for handle in state.keyed.iter().filter(|handle| handle.rows > 0) {
        match descriptor(operator, &handle.state) {
            Some(declared) => check_keyed(operator, declared, handle)?,
            None if declared_before(&handle.state) => {
                unclaimed.insert(&handle.state, missing(&handle.state));
            }
            None => {}
        }
    }
    for list in state.lists.iter().filter(|list| !list.items.is_empty()) {
        match descriptor(operator, &list.name) {
            Some(declared) => check_list(operator, declared, list)?,
            None if declared_before(&list.name) => {
                unclaimed.insert(&list.name, missing(&list.name));
            }
            None => check_splits(operator, list)?,
        }
    }
    Ok(unclaimed.into_values().collect())
}

fn descriptor<'a>(operator: &'a Operator, name: &str) -> Option<&'a StateDescriptor> {
    operator.states.iter().find(|declared| declared.name == name)
}

fn check_keyed(operator: &Operator, declared: &StateDescriptor, handle: &KeyedStateHandle) -> Result<(), CodedError> {
    match &declared.kind {
        StateKind::Keyed { key } => {
            same_type(operator, &declared.name, "key", &handle.key, key)?;
            same_type(operator, &declared.name, "value", &handle.value, &declared.value)
        }
        StateKind::List | StateKind::Union => Err(incompatible(
            operator,
            &declared.name,
            "is keyed in the snapshot and a list in the job",
        )),
    }
}

fn check_list(operator: &Operator, declared: &StateDescriptor, list: &ListState) -> Result<(), CodedError> {
    match &declared.kind {
        StateKind::List | StateKind::Union => {
            same_type(operator, &declared.name, "element", &list.data_type, &declared.value)
        }
        StateKind::Keyed { .. } => Err(incompatible(
            operator,
            &declared.name,
            "is a list in the snapshot and keyed in the job",
        )),
    }
}

/// The splits of a source are no declared state; their schema is that of the splits that it starts with.
fn check_splits(operator: &Operator, list: &ListState) -> Result<(), CodedError> {
    match (&operator.kind, &operator.initial_splits) {
        (OperatorKind::Source, Some(splits)) if splits.name == list.name => {
            same_type(operator, &list.name, "split", &list.data_type, &splits.data_type)
        }
        (OperatorKind::Source | OperatorKind::Transformation | OperatorKind::Sink, _) => Ok(()),
    }
}

fn same_type(operator: &Operator, state: &str, what: &str, old: &DataType, new: &DataType) -> Result<(), CodedError> {
    if old.is_same_schema(new) {
        return Ok(());
    }
    let difference = format!(
        "has the {what} type `{}` in the snapshot and `{}` in the job",
        type_text(old),
        type_text(new)
    );
    Err(incompatible(operator, state, &difference))
}

fn incompatible(operator: &Operator, state: &str, difference: &str) -> CodedError {
    CodedError::new(
        ErrorCode::IncompatibleState,
        format!("state `{state}` of operator `{}` {difference}", operator.label()),
    )
    .with_hint("restore with the types of the snapshot, or keep the new type under a new state name")
}

/// The key groups of a vertex: those of the snapshot where it holds state of one of its operators.
fn key_groups_of(vertex: &JobVertex, metadata: &SnapshotMetadata) -> Result<u32, CodedError> {
    let restored = metadata
        .operators
        .iter()
        .filter(|state| vertex.operators.iter().any(|operator| operator.id == state.id));
    let mut adopted: Option<&OperatorState> = None;
    for state in restored {
        let groups = state.max_parallelism;
        if let Some(other) = adopted.filter(|other| other.max_parallelism != groups) {
            return Err(mismatch(format!(
                "vertex `{}` chains operator `{}` with {} key groups in the snapshot and operator `{}` with {groups}",
                vertex.name,
                other.label(),
                other.max_parallelism,
                state.label()
            ))
            .with_hint("break the chain between them, as it was when the snapshot was taken"));
        }
        adopted = Some(state);
    }
    let Some(state) = adopted else {
        return Ok(vertex.effective_max_parallelism());
    };
    let groups = state.max_parallelism;
    if let Some(explicit) = vertex.max_parallelism.filter(|explicit| *explicit != groups) {
        return Err(mismatch(format!(
            "vertex `{}` sets max parallelism {explicit}, operator `{}` has {groups} in the snapshot",
            vertex.name,
            state.label()
        ))
        .with_hint(format!(
            "set max parallelism {groups}, or do not set it: the snapshot's is then adopted"
        )));
    }
    if vertex.parallelism > groups {
        return Err(mismatch(format!(
            "vertex `{}` has parallelism {}, operator `{}` has only {groups} key groups in the snapshot",
            vertex.name,
            vertex.parallelism,
            state.label()
        ))
        .with_hint(format!("start the job with a parallelism of at most {groups}")));
    }
    Ok(groups)
}

fn mismatch(message: String) -> CodedError {
    CodedError::new(ErrorCode::MaxParallelism, message)
}

/// A schema as a person writes it.
fn type_text(data_type: &DataType) -> String {
    match data_type {
        DataType::Bool => "bool".to_owned(),
        DataType::Int8 => "i8".to_owned(),
        DataType::Int16 => "i16".to_owned(),
        DataType::Int32 => "i32".to_owned(),
        DataType::Int64 => "i64".to_owned(),
        DataType::UInt8 => "u8".to_owned(),
        DataType::UInt16 => "u16".to_owned(),
        DataType::UInt32 => "u32".to_owned(),
        DataType::UInt64 => "u64".to_owned(),
        DataType::Float32 => "f32".to_owned(),
        DataType::Float64 => "f64".to_owned(),
        DataType::String => "string".to_owned(),
        DataType::Bytes => "bytes".to_owned(),
        DataType::Option(inner) => format!("option<{}>", type_text(inner)),
        DataType::List(inner) => format!("list<{}>", type_text(inner)),
        DataType::Map(key, value) => format!("map<{}, {}>", type_text(key), type_text(value)),
        DataType::Struct { name, fields } => format!("{name} {{{}}}", fields_text(fields)),
        DataType::Enum { name, variants } => {
            let variants: Vec<String> = variants
                .iter()
                .map(|variant| match variant.fields.as_slice() {
                    [] => variant.name.clone(),
                    fields => format!("{} {{{}}}", variant.name, fields_text(fields)),
                })
                .collect();
            format!("{name} [{}]", variants.join(" | "))
        }
    }
}

fn fields_text(fields: &[streamd_core::row::Field]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|field| format!("{}: {}", field.name, type_text(&field.data_type)))
        .collect();
    fields.join(", ")
}

/// The label in the graph that differs least from `wanted`, if it is close enough to be the same name misspelt.
fn nearest_label(wanted: &str, graph: &JobGraph) -> Option<String> {
    let (distance, label) = graph
        .operators()
        .map(|(_, operator)| (edit_distance(wanted, operator.label()), operator.label()))
        .min()?;
    (distance <= wanted.chars().count().max(3) / 3).then(|| label.to_owned())
}

/// Levenshtein's distance, in characters. Labels are at most 1 KiB, so the quadratic cost is bounded.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
