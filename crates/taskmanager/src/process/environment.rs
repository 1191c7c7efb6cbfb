//! The environment of a program: what it inherits by name, and what it is told.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;

use streamd_rpc::proto;

/// The variables of a program. Everything else of the task manager's environment (credentials, for one) is hidden.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The variables of these names, as far as the task manager has them.
    pub(crate) fn inherited(names: &[String]) -> Self {
        let present = names
            .iter()
            .filter_map(|name| std::env::var_os(name).map(|value| (name.into(), value)));
        Self(present.collect())
    }

    /// The same variables with one more.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.insert(name.into(), value.as_ref().to_owned());
        self
    }

    /// The same variables with those that every program of a job gets.
    #[must_use]
    pub(crate) fn for_program(self, program: &proto::Program, mode: &str, temporary: &Path) -> Self {
        let configuration = serde_json::to_string(&program.configuration).expect("JSON can write a map of texts");
        let told = self
            .with("STREAMD_MODE", mode)
            .with("STREAMD_CONFIGURATION", configuration)
            .with("TMPDIR", temporary);
        match program.parallelism {
            0 => told,
            parallelism => told.with("STREAMD_PARALLELISM", parallelism.to_string()),
        }
    }

    pub(crate) fn variables(&self) -> &BTreeMap<OsString, OsString> {
        &self.0
    }
}
