//! `streamctl state diff`: what changed from one snapshot to another.

use std::collections::BTreeSet;
use std::fmt::Write;

use clap::Args;
use serde::Serialize;
use streamd_core::id::OperatorId;
use streamd_core::row::RowError;
use streamd_core::snapshot::{ListState, OperatorState};
use streamd_snapshot::inspect::{
    Change, Differences, InspectError, KeyedContents, StateContents, StateSummary, diff_keyed, diff_lists,
    find_operator, find_state, is_comparable, states_of,
};
use streamd_snapshot::json::Renderer;
use streamd_snapshot::{SnapshotError, StoredSnapshot, read_snapshot};

use super::rows::Stash;
use crate::arguments::OutputFormat;
use crate::failure::Failure;
use crate::location::absolute;
use crate::offline::{Offline, counted};
use crate::output::Output;

/// Print what changed from one snapshot to another: keys added, removed, changed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  streamctl state diff /data/checkpoints/fd72014d4c864993a2e5a9287b4a9c5d/chk-17 /data/savepoints/savepoint-fd7201-0123456789ab
  streamctl state diff BEFORE AFTER counts count --limit 1000 --output json

Operators are matched by id. `+` is a key that only AFTER has, `-` one that only BEFORE has, `~` one with two values. Elements of lists are \
compared without regard to order. Rows of a state whose type changed are not compared. Every row of both is read.")]
pub struct DiffStatesCommand {
    /// The older snapshot: its folder or its `_metadata` file
    #[arg(value_name = "BEFORE")]
    before: String,
    /// The newer snapshot
    #[arg(value_name = "AFTER")]
    after: String,
    /// The operator: its uid, its id of 32 digits, or its name [default: all]
    #[arg(value_name = "UID")]
    operator: Option<String>,
    /// The state [default: all]
    #[arg(value_name = "STATE")]
    state: Option<String>,
    /// How many differences of each state are printed
    #[arg(short = 'n', long, value_name = "ROWS", default_value_t = 10)]
    limit: u64,
}

/// Where a state is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Found {
    Both,
    OnlyBefore,
    OnlyAfter,
    /// In both, with types whose rows cannot be compared.
    Retyped,
}

/// What became of a state, for programs.
#[derive(Serialize)]
struct Outcome<'a> {
    operator: &'a str,
    operator_id: String,
    state: &'a str,
    found: Found,
    added: u64,
    removed: u64,
    changed: u64,
    unchanged: u64,
}

/// An operator of either snapshot.
struct Pair<'a> {
    id: OperatorId,
    label: String,
    before: Option<&'a OperatorState>,
    after: Option<&'a OperatorState>,
}

impl DiffStatesCommand {
    /// Compares one state after the other.
    pub fn execute(self, offline: &Offline, output: &mut Output) -> Result<(), Failure> {
        let before = offline.wait(read_snapshot(&absolute(&self.before)?))?;
        let after = offline.wait(read_snapshot(&absolute(&self.after)?))?;
        let mut has_state = false;
        for pair in self.pairs(&before, &after)? {
            let names = |stored, operator: Option<&OperatorState>| -> BTreeSet<String> {
                let states = operator.into_iter().flat_map(|operator| states_of(stored, operator));
                states.map(|state: StateSummary<'_>| state.name.to_owned()).collect()
            };
            let (olds, news) = (names(&before, pair.before), names(&after, pair.after));
            for name in olds
                .union(&news)
                .filter(|name| self.state.as_ref().is_none_or(|only| only == *name))
            {
                has_state = true;
                let old = pair.before.filter(|_| olds.contains(name));
                let new = pair.after.filter(|_| news.contains(name));
                let old = old
                    .map(|operator| find_state(&before, operator, Some(name)))
                    .transpose()?;
                let new = new
                    .map(|operator| find_state(&after, operator, Some(name)))
                    .transpose()?;
                self.compare((&pair, name), (old, new), offline, output)?;
            }
        }
        match (&self.state, has_state) {
            (Some(state), false) => {
                let message = format!("neither snapshot holds a state `{state}`");
                Err(Failure::usage(
                    message,
                    "`streamctl state list` shows the states of a snapshot",
                ))
            }
            (_, _) => Ok(()),
        }
    }

    fn pairs<'a>(&self, before: &'a StoredSnapshot, after: &'a StoredSnapshot) -> Result<Vec<Pair<'a>>, Failure> {
        let only = match &self.operator {
            None => None,
            // In the newer one, or in the older one if it has gone since.
            Some(wanted) => Some(
                find_operator(after, wanted)
                    .or_else(|_| find_operator(before, wanted))?
                    .id,
            ),
        };
        let of = |stored: &'a StoredSnapshot, id| stored.metadata.operators.iter().find(|operator| operator.id == id);
        let all = before.metadata.operators.iter().chain(&after.metadata.operators);
        let ids: BTreeSet<OperatorId> = all.map(|operator| operator.id).collect();
        let ids = ids.into_iter().filter(|id| only.is_none_or(|only| only == *id));
        let mut pairs: Vec<Pair<'a>> = ids
            .map(|id| {
                let (before, after) = (of(before, id), of(after, id));
                let label = after.or(before).map_or_else(|| id.to_string(), OperatorState::label);
                Pair {
                    id,
                    label,
                    before,
                    after,
                }
            })
            .collect();
        pairs.sort_by(|a, b| a.label.cmp(&b.label));
        Ok(pairs)
    }

    fn compare(
        &self,
        (pair, state): (&Pair<'_>, &str),
        contents: (Option<StateContents<'_>>, Option<StateContents<'_>>),
        offline: &Offline,
        output: &mut Output,
    ) -> Result<(), Failure> {
        output.line(&format!("{} / {state}", pair.label))?;
        let printed = |found, differences| Printed {
            pair,
            state,
            found,
            differences,
        };
        let printed = match contents {
            (Some(StateContents::Keyed(old)), Some(StateContents::Keyed(new))) if is_comparable(&old, &new) => {
                let differences = self.keyed((pair, state), (&old, &new), offline, output)?;
                printed(Found::Both, differences)
            }
            (Some(StateContents::List { list: old, .. }), Some(StateContents::List { list: new, .. }))
                if old.data_type == new.data_type =>
            {
                printed(Found::Both, self.lists((pair, state), (old, new), output)?)
            }
            (Some(old), Some(new)) => {
                let (old, new) = (type_of(&old), type_of(&new));
                output.line(&format!(
                    "  its type changed from {old} to {new}: rows are not compared"
                ))?;
                printed(Found::Retyped, Differences::default())
            }
            (Some(old), None) => printed(
                Found::OnlyBefore,
                Differences {
                    removed: rows_of(&old),
                    ..Differences::default()
                },
            ),
            (None, Some(new)) => printed(
                Found::OnlyAfter,
                Differences {
                    added: rows_of(&new),
                    ..Differences::default()
                },
            ),
            (None, None) => return Ok(()),
        };
        printed.tell(output)
    }

    fn keyed(
        &self,
        names: (&Pair<'_>, &str),
        (old, new): (&KeyedContents<'_>, &KeyedContents<'_>),
        offline: &Offline,
        output: &mut Output,
    ) -> Result<Differences, Failure> {
        let printer = ChangePrinter::new(names, new);
        let (mut left, mut stash) = (self.limit, Stash::default());
        let mut differences = Differences::default();
        let compared = diff_keyed((old, new), offline.handle(), |change| {
            if left > 0 {
                left -= 1;
                let text = printer
                    .text(change, output.format())
                    .map_err(|error| new.bad_row(error))?;
                if !stash.keep(print(&text, output)) {
                    left = 0;
                }
            }
            Ok(())
        });
        stash.outcome(compared.map(|found| differences = found))?;
        Ok(differences)
    }

    fn lists(
        &self,
        (pair, state): (&Pair<'_>, &str),
        (old, new): (&ListState, &ListState),
        output: &mut Output,
    ) -> Result<Differences, Failure> {
        let renderer = Renderer::new(&new.data_type);
        let mut left = self.limit;
        diff_lists(old, new, |item, is_new| {
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            let value = renderer.render(item).map_err(|source| {
                let state = state.to_owned();
                Failure::from(InspectError::from(SnapshotError::Row { state, source }))
            })?;
            let text = match (output.format(), is_new) {
                (OutputFormat::Text, true) => format!("  + {value}"),
                (OutputFormat::Text, false) => format!("  - {value}"),
                (OutputFormat::Json, _) => {
                    let (change, field) = if is_new {
                        ("added", "after")
                    } else {
                        ("removed", "before")
                    };
                    format!("{}\"{field}\":{value}}}", beginning(&pair.label, state, change))
                }
            };
            print(&text, output)
        })
    }
}

fn type_of(contents: &StateContents<'_>) -> String {
    match contents {
        StateContents::List { list, .. } => format!("list of {}", list.data_type),
        StateContents::Keyed(state) => {
            let namespace = state
                .namespace_type()
                .map_or(String::new(), |namespace| format!(" and {namespace}"));
            format!("{}{namespace} to {}", state.key_type(), state.value_type())
        }
    }
}

fn rows_of(contents: &StateContents<'_>) -> u64 {
    match contents {
        StateContents::Keyed(state) => state.rows(),
        StateContents::List { list, .. } => list.items.len() as u64,
    }
}

fn print(text: &str, output: &mut Output) -> Result<(), Failure> {
    match output.format() {
        OutputFormat::Text => output.line(text),
        // The fields stay in the order of their type.
        OutputFormat::Json => output.raw(&format!("{text}\n")),
    }
}

/// An object of a change, up to its values.
fn beginning(operator: &str, state: &str, change: &str) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    format!(
        "{{\"operator\":{},\"state\":{},\"change\":\"{change}\",",
        quoted(operator),
        quoted(state)
    )
}

/// Renders the changes of one keyed state.
struct ChangePrinter<'a> {
    names: (&'a Pair<'a>, &'a str),
    key: Renderer,
    namespace: Option<Renderer>,
    value: Renderer,
}

impl<'a> ChangePrinter<'a> {
    fn new(names: (&'a Pair<'a>, &'a str), state: &KeyedContents<'_>) -> Self {
        Self {
            names,
            key: Renderer::new(state.key_type()),
            namespace: state.namespace_type().map(Renderer::new),
            value: Renderer::new(state.value_type()),
        }
    }

    fn text(&self, change: Change<'_>, format: OutputFormat) -> Result<String, RowError> {
        match format {
            OutputFormat::Text => self.line(change),
            OutputFormat::Json => self.object(change),
        }
    }

    fn line(&self, change: Change<'_>) -> Result<String, RowError> {
        let mut key = self.key.render(change.row.key)?;
        if let Some(namespace) = &self.namespace {
            key = format!("{key} : {}", namespace.render(change.row.namespace)?);
        }
        let value = |bytes| self.value.render(bytes);
        Ok(match (change.before, change.after) {
            (Some(before), Some(after)) => format!("  ~ {key} : {} -> {}", value(before)?, value(after)?),
            (None, Some(after)) => format!("  + {key} : {}", value(after)?),
            (Some(before), None) => format!("  - {key} : {}", value(before)?),
            (None, None) => String::new(),
        })
    }

    fn object(&self, change: Change<'_>) -> Result<String, RowError> {
        let word = match (change.before, change.after) {
            (Some(_), Some(_)) => "changed",
            (None, _) => "added",
            (Some(_), None) => "removed",
        };
        let (pair, state) = self.names;
        let mut text = beginning(&pair.label, state, word);
        // Writing to a text never fails.
        let _written = write!(text, "\"key_group\":{},\"key\":", change.row.key_group);
        self.key.append(&mut text, change.row.key)?;
        if let Some(namespace) = &self.namespace {
            text.push_str(",\"namespace\":");
            namespace.append(&mut text, change.row.namespace)?;
        }
        for (field, value) in [("before", change.before), ("after", change.after)] {
            if let Some(value) = value {
                let _written = write!(text, ",\"{field}\":");
                self.value.append(&mut text, value)?;
            }
        }
        text.push('}');
        Ok(text)
    }
}

/// The last line of a state.
struct Printed<'a> {
    pair: &'a Pair<'a>,
    state: &'a str,
    found: Found,
    differences: Differences,
}

impl Printed<'_> {
    fn tell(&self, output: &mut Output) -> Result<(), Failure> {
        let Differences {
            added,
            removed,
            changed,
            unchanged,
        } = self.differences;
        let rows = |count| counted(count, "row", "rows");
        match self.found {
            Found::OnlyBefore => output.line(&format!("  only in the older snapshot, with {}", rows(removed)))?,
            Found::OnlyAfter => output.line(&format!("  only in the newer snapshot, with {}", rows(added)))?,
            Found::Both if added + removed + changed == 0 => {
                output.line(&format!("  no difference in {}", rows(unchanged)))?;
            }
            Found::Both => output.line(&format!(
                "  {added} added, {removed} removed, {changed} changed, {unchanged} unchanged"
            ))?,
            Found::Retyped => {}
        }
        output.object(&Outcome {
            operator: &self.pair.label,
            operator_id: self.pair.id.to_string(),
            state: self.state,
            found: self.found,
            added,
            removed,
            changed,
            unchanged,
        })
    }
}
