//! Rows of state on stdout.

use streamd_core::row::RowError;
use streamd_snapshot::inspect::{InspectError, KeyedContents, Row};
use streamd_snapshot::json::Renderer;

use crate::arguments::OutputFormat;
use crate::failure::Failure;
use crate::output::Output;

/// Prints rows of one keyed state.
pub struct RowPrinter<'a> {
    state: &'a KeyedContents<'a>,
    key: Renderer,
    namespace: Option<Renderer>,
    value: Renderer,
}

impl<'a> RowPrinter<'a> {
    /// A printer for this state.
    pub fn new(state: &'a KeyedContents<'a>) -> Self {
        Self {
            key: Renderer::new(state.key_type()),
            namespace: state.namespace_type().map(Renderer::new),
            value: Renderer::new(state.value_type()),
            state,
        }
    }

    /// `key : value`, or an object of both.
    pub fn print(&self, row: Row<'_>, output: &mut Output) -> Result<(), Failure> {
        let text = match output.format() {
            OutputFormat::Text => self.text(row),
            OutputFormat::Json => self.json(row),
        };
        let text = text.map_err(|error| Failure::from(self.state.bad_row(error)))?;
        match output.format() {
            OutputFormat::Text => output.line(&text),
            // The fields stay in the order of their type.
            OutputFormat::Json => output.raw(&format!("{text}\n")),
        }
    }

    fn text(&self, row: Row<'_>) -> Result<String, RowError> {
        let (key, value) = (self.key.render(row.key)?, self.value.render(row.value)?);
        match &self.namespace {
            None => Ok(format!("{key} : {value}")),
            Some(namespace) => Ok(format!("{key} : {} : {value}", namespace.render(row.namespace)?)),
        }
    }

    fn json(&self, row: Row<'_>) -> Result<String, RowError> {
        let mut text = format!("{{\"key_group\":{},\"key\":", row.key_group);
        self.key.append(&mut text, row.key)?;
        if let Some(namespace) = &self.namespace {
            text.push_str(",\"namespace\":");
            namespace.append(&mut text, row.namespace)?;
        }
        text.push_str(",\"value\":");
        self.value.append(&mut text, row.value)?;
        text.push('}');
        Ok(text)
    }
}

/// Carries a failure of printing through a reading of rows, which knows only its own errors.
#[derive(Default)]
pub struct Stash(Option<Failure>);

impl Stash {
    /// Whether printing went well; if not, the reading should end.
    pub fn keep(&mut self, printed: Result<(), Failure>) -> bool {
        match printed {
            Ok(()) => true,
            Err(failure) => {
                self.0 = Some(failure);
                false
            }
        }
    }

    /// The outcome of both.
    pub fn outcome(self, read: Result<(), InspectError>) -> Result<(), Failure> {
        match self.0 {
            Some(failure) => Err(failure),
            None => Ok(read?),
        }
    }
}
