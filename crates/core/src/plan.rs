//! What an application describes: its job, and what the program can do.

use serde::{Deserialize, Serialize};

use crate::backend::StateBackendKind;
use crate::graph::JobGraph;

/// The plan of a job, with what the program was built with. The latter is no part of the graph: two builds of one application have
/// the same graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanDescriptor {
    /// The job.
    #[serde(flatten)]
    pub graph: JobGraph,
    /// What the program was built with; programs of older versions do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_with: Option<BuiltWith>,
}

/// The features of streamd that a program was built with. Names and not enums: a newer program may have more than this streamd knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltWith {
    /// The state backends, by their names in the configuration.
    pub state_backends: Vec<String>,
    /// The schemes of the places for snapshots, in their canonical spelling.
    pub storage_schemes: Vec<String>,
}

impl BuiltWith {
    /// Whether the program can keep state in a backend.
    pub fn has_backend(&self, kind: StateBackendKind) -> bool {
        self.state_backends.iter().any(|name| name == kind.name())
    }

    /// Whether the program can open places of this canonical scheme.
    pub fn has_scheme(&self, scheme: &str) -> bool {
        self.storage_schemes.iter().any(|known| known == scheme)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> JobGraph {
        JobGraph::new("job")
    }

    #[test]
    fn a_plan_is_a_graph_with_one_more_member() {
        let plan = PlanDescriptor {
            graph: graph(),
            built_with: Some(BuiltWith {
                state_backends: vec!["hashmap".to_owned(), "of the future".to_owned()],
                storage_schemes: vec!["file".to_owned()],
            }),
        };
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["name"], "job");
        assert_eq!(json["built_with"]["storage_schemes"][0], "file");
        assert_eq!(serde_json::from_value::<JobGraph>(json.clone()).unwrap(), graph());
        assert_eq!(serde_json::from_value::<PlanDescriptor>(json).unwrap(), plan);
        let older: PlanDescriptor = serde_json::from_value(serde_json::to_value(graph()).unwrap()).unwrap();
        assert_eq!((older.graph, older.built_with), (graph(), None));
    }

    #[test]
    fn a_program_has_what_it_names() {
        let built = BuiltWith {
            state_backends: vec!["memory".to_owned()],
            storage_schemes: vec!["s3".to_owned()],
        };
        assert!(built.has_backend(StateBackendKind::Memory) && !built.has_backend(StateBackendKind::RocksDb));
        assert!(built.has_scheme("s3") && !built.has_scheme("gs"));
    }
}
