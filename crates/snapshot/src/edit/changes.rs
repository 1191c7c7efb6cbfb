//! What is to be changed in a state: by key, each key once.

use std::collections::BTreeMap;
use std::io::BufRead;

use crate::inspect::{InspectError, KeyedContents};
use crate::json::{Document, Renderer, ValueError, parse_value};

/// Bytes of a line of changes at most: as many as a row may have in a snapshot.
const MAX_LINE_BYTES: usize = 256 << 20;

/// The fields that a line of changes may have. The key group is what `state export` writes; it is worked out anew.
const FIELDS: [&str; 5] = ["key", "namespace", "value", "remove", "key_group"];

/// Changes of one keyed state: new values of keys, and keys that go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// By key group, then by the bytes of the key (and namespace); `None` removes it.
    pub(super) by_group: BTreeMap<u32, BTreeMap<Vec<u8>, Option<Vec<u8>>>>,
    count: usize,
}

impl Changes {
    /// How many keys are changed.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Sets a key, from `KEY=VALUE`. Each half is JSON or, where a text is wanted, bare; the first `=` that leaves a key and a value is
    /// taken.
    pub fn set(&mut self, state: &KeyedContents<'_>, assignment: &str) -> Result<(), InspectError> {
        self.without_namespace(state)?;
        let mut first_error = None;
        for (at, _equals) in assignment.match_indices('=') {
            let (key, value) = (&assignment[..at], &assignment[at + 1..]);
            let parsed = state
                .parse_key(key)
                .and_then(|key| Ok((key, state.parse_value(value)?)));
            match parsed {
                Ok((key, value)) => return self.add(state, key, Some(value)),
                Err(error) => drop(first_error.get_or_insert(error)),
            }
        }
        Err(first_error.unwrap_or_else(|| self.malformed(format!("`{assignment}` has no `=` between key and value"))))
    }

    /// Removes a key, JSON or bare.
    pub fn remove(&mut self, state: &KeyedContents<'_>, key: &str) -> Result<(), InspectError> {
        self.without_namespace(state)?;
        let key = state.parse_key(key)?;
        self.add(state, key, None)
    }

    /// Takes changes from lines of JSON: `{"key": …, "value": …}` or `{"key": …, "remove": true}`, with `"namespace"` where the
    /// state has one. Empty lines are skipped. `path` is for messages.
    pub fn read_lines(
        &mut self,
        state: &KeyedContents<'_>,
        mut lines: impl BufRead,
        path: &std::path::Path,
    ) -> Result<(), InspectError> {
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let mut limited = std::io::Read::take(&mut lines, MAX_LINE_BYTES as u64 + 1);
            let read = limited
                .read_until(b'\n', &mut line)
                .map_err(|source| InspectError::File {
                    operation: "read",
                    path: path.to_owned(),
                    source,
                })?;
            let refuse = |reason: String| InspectError::Change { number, reason };
            if read == 0 {
                return Ok(());
            }
            if read > MAX_LINE_BYTES {
                return Err(refuse(format!("the line is longer than {MAX_LINE_BYTES} bytes")));
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let text = std::str::from_utf8(&line).map_err(|_bytes| refuse("it is not UTF-8".to_owned()))?;
            let change = Document::parse(text).map_err(|error| refuse(format!("it is no JSON: {error}")))?;
            self.take_line(state, &change, number)?;
        }
        Ok(())
    }

    fn take_line(&mut self, state: &KeyedContents<'_>, change: &Document, number: usize) -> Result<(), InspectError> {
        let refuse = |reason: String| InspectError::Change { number, reason };
        let fields = change
            .fields()
            .ok_or_else(|| refuse("it is no JSON object".to_owned()))?;
        if let Some((unknown, _value)) = fields.iter().find(|(name, _value)| !FIELDS.contains(&name.as_str())) {
            return Err(refuse(format!("it has the unknown field `{unknown}`")));
        }
        let key = change
            .field("key")
            .ok_or_else(|| refuse("it has no `key`".to_owned()))?;
        let mut row = parse_value(state.key_type(), key).map_err(|source| misfit(state, "key", key, source))?;
        match (state.namespace_type(), change.field("namespace")) {
            (None, None) => {}
            (Some(data_type), Some(namespace)) => {
                let encoded = parse_value(data_type, namespace);
                row.extend(encoded.map_err(|source| misfit(state, "namespace", namespace, source))?);
            }
            (Some(_), None) => return Err(refuse("it has no `namespace`, which the state has".to_owned())),
            (None, Some(_)) => return Err(refuse("it has a `namespace`, which the state has not".to_owned())),
        }
        let value = match (change.field("value"), change.field("remove")) {
            (Some(value), None | Some(Document::Bool(false))) => {
                let encoded = parse_value(state.value_type(), value);
                Some(encoded.map_err(|source| misfit(state, "value", value, source))?)
            }
            (None, Some(Document::Bool(true))) => None,
            _neither_or_both => return Err(refuse("it must have either a `value` or `\"remove\": true`".to_owned())),
        };
        self.add(state, row, value)
    }

    fn add(&mut self, state: &KeyedContents<'_>, row: Vec<u8>, value: Option<Vec<u8>>) -> Result<(), InspectError> {
        let key = match crate::json::split(state.key_type(), &row) {
            Ok((key, _namespace)) => key,
            Err(source) => return Err(state.bad_row(source)),
        };
        let group = state.key_group(key);
        let key = Renderer::new(state.key_type()).render(key).unwrap_or_default();
        if self.by_group.entry(group).or_default().insert(row, value).is_some() {
            return Err(self.malformed(format!("the key {key} is changed twice")));
        }
        self.count += 1;
        Ok(())
    }

    fn without_namespace(&self, state: &KeyedContents<'_>) -> Result<(), InspectError> {
        match state.namespace_type() {
            None => Ok(()),
            Some(_) => Err(self.malformed(format!(
                "state `{}` has a namespace beside its key: give the changes in a file",
                state.name()
            ))),
        }
    }

    fn malformed(&self, reason: String) -> InspectError {
        InspectError::Change {
            number: self.count + 1,
            reason,
        }
    }
}

fn misfit(state: &KeyedContents<'_>, what: &'static str, value: &Document, source: ValueError) -> InspectError {
    state.misfit(what, &value.to_string(), source)
}
