use streamd_core::evolution::Evolution;
use streamd_core::graph::{Guarantee, StateDescriptor, StateKind};
use streamd_core::id::OperatorId;
use streamd_core::row::DataType;

use super::*;

fn operator(name: &str, kind: OperatorKind) -> Operator {
    Operator {
        id: OperatorId::from_uid(name),
        uid: Some(name.to_owned()),
        name: name.to_owned(),
        kind,
        states: Vec::new(),
        initial_splits: None,
        guarantee: Some(Guarantee::ExactlyOnce),
    }
}

fn vertex(operator: Operator, parallelism: u32) -> JobVertex {
    JobVertex {
        id: operator.id,
        name: operator.name.clone(),
        parallelism,
        max_parallelism: None,
        slot_sharing_group: "default".to_owned(),
        operators: vec![operator],
    }
}

fn edge(source: u32, target: u32, partitioner: PartitionerKind) -> JobEdge {
    JobEdge {
        source,
        target,
        partitioner,
    }
}

fn sound() -> JobGraph {
    JobGraph {
        version: PLAN_VERSION,
        name: "job".to_owned(),
        vertices: vec![
            vertex(operator("source", OperatorKind::Source), 2),
            vertex(operator("sink", OperatorKind::Sink), 2),
        ],
        edges: vec![edge(0, 1, PartitionerKind::Hash)],
        checkpointing: CheckpointSettings::default(),
        restart_strategy: None,
    }
}

#[test]
fn a_sound_graph_passes_without_a_warning() {
    assert_eq!(validate(&sound()), Ok(vec![]));
}

/// Makes a sound graph unsound.
type Damage = Box<dyn Fn(&mut JobGraph)>;

fn damages() -> Vec<(&'static str, Damage)> {
    vec![
        ("no operators", Box::new(|graph| graph.vertices.clear())),
        ("version", Box::new(|graph| graph.version = PLAN_VERSION + 1)),
        ("has no name", Box::new(|graph| graph.name = " ".to_owned())),
        ("has parallelism 0", Box::new(|graph| graph.vertices[0].parallelism = 0)),
        (
            "has parallelism 32769",
            Box::new(|graph| graph.vertices[0].parallelism = 32_769),
        ),
        (
            "has max parallelism 0",
            Box::new(|graph| graph.vertices[0].max_parallelism = Some(0)),
        ),
        (
            "above its max parallelism 1",
            Box::new(|graph| graph.vertices[0].max_parallelism = Some(1)),
        ),
        ("does not exist", Box::new(|graph| graph.edges[0].target = 2)),
        (
            "to itself",
            Box::new(|graph| graph.edges.push(edge(1, 1, PartitionerKind::Hash))),
        ),
        (
            "backwards",
            Box::new(|graph| graph.edges.push(edge(1, 0, PartitionerKind::Hash))),
        ),
        (
            "does not allow a change of parallelism: vertex `source` has 2, vertex `sink` after it has 3",
            Box::new(|graph| {
                graph.edges[0].partitioner = PartitionerKind::Forward;
                graph.vertices[1].parallelism = 3;
            }),
        ),
        (
            "share the uid",
            Box::new(|graph| graph.vertices[1].operators[0].uid = Some("source".to_owned())),
        ),
        (
            "share the id",
            Box::new(|graph| {
                let id = graph.vertices[0].id;
                graph.vertices[1].id = id;
                graph.vertices[1].operators[0].id = id;
            }),
        ),
        (
            "empty uid",
            Box::new(|graph| graph.vertices[1].operators[0].uid = Some(String::new())),
        ),
        (
            "control characters",
            Box::new(|graph| graph.name = "\u{1b}[2J".to_owned()),
        ),
        (
            "1025 bytes",
            Box::new(|graph| graph.vertices[0].operators[0].name = "x".repeat(1_025)),
        ),
        (
            "no source",
            Box::new(|graph| graph.vertices[0].operators[0].kind = OperatorKind::Transformation),
        ),
        (
            "has an input",
            Box::new(|graph| graph.vertices[1].operators[0].kind = OperatorKind::Source),
        ),
        (
            "has no operators",
            Box::new(|graph| graph.vertices[1].operators.clear()),
        ),
        (
            "id of its first operator",
            Box::new(|graph| graph.vertices[1].id = graph.vertices[0].id),
        ),
        (
            "twice",
            Box::new(|graph| {
                let state = StateDescriptor {
                    name: "count".to_owned(),
                    kind: StateKind::List,
                    value: DataType::Int64,
                    evolution: Evolution::default(),
                };
                graph.vertices[1].operators[0].states = vec![state.clone(), state];
            }),
        ),
        (
            "operator `sink` has a state with an empty name",
            Box::new(|graph| {
                graph.vertices[1].operators[0].states = vec![StateDescriptor {
                    name: String::new(),
                    kind: StateKind::List,
                    value: DataType::Int64,
                    evolution: Evolution::default(),
                }];
            }),
        ),
        (
            "interval is 9 ms",
            Box::new(|graph| graph.checkpointing.interval_ms = Some(9)),
        ),
        (
            "timeout is 0 ms",
            Box::new(|graph| graph.checkpointing.timeout_ms = Some(0)),
        ),
        (
            "concurrent checkpoints is 0",
            Box::new(|graph| graph.checkpointing.max_concurrent = Some(0)),
        ),
        (
            "shrinks",
            Box::new(|graph| {
                graph.restart_strategy = Some(RestartStrategy::ExponentialDelay {
                    initial_backoff_ms: 1,
                    max_backoff_ms: 2,
                    multiplier_percent: 99,
                    reset_after_ms: 1,
                    jitter_percent: 0,
                    attempts: None,
                });
            }),
        ),
        (
            "jitter of the restart delay is 101 %",
            Box::new(|graph| {
                graph.restart_strategy = Some(RestartStrategy::ExponentialDelay {
                    initial_backoff_ms: 1,
                    max_backoff_ms: 2,
                    multiplier_percent: 100,
                    reset_after_ms: 1,
                    jitter_percent: 101,
                    attempts: None,
                });
            }),
        ),
        (
            "allows no failure",
            Box::new(|graph| {
                graph.restart_strategy = Some(RestartStrategy::FailureRate {
                    max_failures: 0,
                    interval_ms: 1,
                    delay_ms: 1,
                });
            }),
        ),
    ]
}

#[test]
fn every_impossible_graph_is_refused_in_words_that_name_the_fault() {
    for (words, damage) in damages() {
        let mut graph = sound();
        damage(&mut graph);
        let error = validate(&graph).expect_err(words);
        assert_eq!(error.code, ErrorCode::InvalidJobGraph);
        assert!(error.message.contains(words), "{words}: {error}");
        assert!(!error.message.contains('\u{1b}'), "{words}");
    }
}

#[test]
fn a_graph_of_hostile_size_is_refused() {
    let mut graph = sound();
    graph.vertices = vec![graph.vertices[0].clone(); MAX_VERTICES + 1];
    assert!(validate(&graph).unwrap_err().message.contains("vertices"));
    let mut graph = sound();
    graph.vertices = vec![vertex(operator("source", OperatorKind::Source), 32_768); 4];
    assert!(validate(&graph).unwrap_err().message.contains("subtasks"));
}

#[test]
fn a_stateful_operator_without_uid_is_told_the_line_to_add() {
    let mut graph = sound();
    let sink = &mut graph.vertices[1].operators[0];
    sink.uid = None;
    sink.name = "Window (10 s)".to_owned();
    sink.states = vec![StateDescriptor {
        name: "count".to_owned(),
        kind: StateKind::List,
        value: DataType::Int64,
        evolution: Evolution::default(),
    }];
    let warnings = validate(&graph).unwrap();
    assert_eq!(
        warnings,
        [r#"operator `Window (10 s)` keeps state but has no uid: add .uid("window-10-s")"#]
    );
}

#[test]
fn an_output_that_goes_nowhere_is_told() {
    let warning =
        |name: &str| format!("the output of operator `{name}` goes nowhere: add a sink, or a step that takes it");
    let map = || operator("map", OperatorKind::Transformation);
    let mut graph = sound();
    graph.vertices.push(vertex(map(), 2));
    graph.edges.push(edge(0, 2, PartitionerKind::Hash));
    assert_eq!(validate(&graph).unwrap(), [warning("map")]);

    // Chained behind the source, beside the sink, and behind it.
    let mut graph = sound();
    graph.edges.clear();
    let sink = graph.vertices.remove(1).operators.remove(0);
    graph.vertices[0].operators.extend([map(), sink]);
    assert_eq!(validate(&graph), Ok(vec![]));
    graph.vertices[0].operators.swap(1, 2);
    assert_eq!(validate(&graph).unwrap(), [warning("map")]);

    let mut graph = sound();
    graph.edges.clear();
    graph.vertices.truncate(1);
    assert_eq!(validate(&graph).unwrap(), [warning("source")]);
}
