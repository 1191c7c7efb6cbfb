//! A state as a file of its own: JSON lines, CSV or Parquet; memory bounded whatever the size of the state.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use streamd_core::row::{DataType, RowError};
use tokio::runtime::Handle;

use super::contents::StateContents;
use super::error::InspectError;
use super::rows::{KeyedContents, Row};
use crate::error::SnapshotError;
use crate::json::Renderer;
use crate::layout;
use crate::table::{ExportTable, TableColumns};

/// Bytes that are collected before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// How a state is written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// One JSON object a line.
    Json,
    /// RFC 4180, with a line of headings; the fields of a struct in columns of their own, what nests deeper as JSON.
    Csv,
    /// The typed columns of a savepoint.
    Parquet,
}

impl ExportFormat {
    fn extension(self) -> &'static str {
        match self {
            Self::Json => "jsonl",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    /// The file.
    pub path: PathBuf,
    /// Rows or elements in it.
    pub rows: u64,
    /// Its bytes.
    pub bytes: u64,
}

/// The file for a state below a directory: `<operator>/<state>.<extension>`, of names that every file system takes.
pub fn export_file(contents: &StateContents<'_>, format: ExportFormat, directory: &Path) -> PathBuf {
    let (operator, state) = match contents {
        StateContents::Keyed(keyed) => (keyed.operator(), keyed.name()),
        StateContents::List { operator, list } => (*operator, list.name.as_str()),
    };
    let file = format!("{}.{}", layout::sanitize(state), format.extension());
    directory
        .join(layout::operator_folder(operator.id, &operator.label()))
        .join(file)
}

/// Writes a state to a new file, which appears under its name when it is whole. Nothing is overwritten. Blocks: call it on a thread
/// that is not tokio's.
pub fn export_state(
    contents: &StateContents<'_>,
    format: ExportFormat,
    path: &Path,
    runtime: &Handle,
) -> Result<Exported, InspectError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(|source| failed("create", folder, source))?;
    if path.symlink_metadata().is_ok() {
        return Err(InspectError::TargetExists {
            target: path.display().to_string(),
        });
    }
    let draft = Draft::create(path)?;
    let out = BufWriter::with_capacity(BUFFER_BYTES, draft.file(path)?);
    let (rows, out) = write_rows(contents, format, out, (path, runtime))?;
    let file = out
        .into_inner()
        .map_err(|error| failed("write", path, error.into_error()))?;
    file.sync_all().map_err(|source| failed("write", path, source))?;
    let bytes = file.metadata().map_err(|source| failed("write", path, source))?.len();
    draft.publish(path)?;
    Ok(Exported {
        path: path.to_owned(),
        rows,
        bytes,
    })
}

/// A file under another name until it is whole; removed where it never becomes so.
struct Draft {
    path: Option<PathBuf>,
}

impl Draft {
    fn create(path: &Path) -> Result<Self, InspectError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", crate::publish::random_nonce()));
        Ok(Self {
            path: Some(path.with_file_name(name)),
        })
    }

    fn file(&self, shown: &Path) -> Result<File, InspectError> {
        let draft = self.path.as_deref().unwrap_or(shown);
        File::create_new(draft).map_err(|source| failed("create", shown, source))
    }

    /// Gives the file its name, unless somebody else has taken it meanwhile.
    fn publish(mut self, path: &Path) -> Result<(), InspectError> {
        let Some(draft) = self.path.as_deref() else {
            return Ok(());
        };
        match std::fs::hard_link(draft, path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(InspectError::TargetExists {
                target: path.display().to_string(),
            }),
            // Not every file system has hard links: the moment between looking and renaming must do there.
            Err(_no_links) => {
                std::fs::rename(draft, path).map_err(|source| failed("write", path, source))?;
                self.path = None;
                Ok(())
            }
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // Where even that fails the name says what it is.
            drop(std::fs::remove_file(path));
        }
    }
}

fn write_rows<W: Write + Send>(
    contents: &StateContents<'_>,
    format: ExportFormat,
    mut out: W,
    (path, runtime): (&Path, &Handle),
) -> Result<(u64, W), InspectError> {
    match format {
        ExportFormat::Parquet => return write_table(contents, out, path, runtime),
        ExportFormat::Csv => {
            let heading = headings(contents).iter().map(|name| quoted(name)).collect::<Vec<_>>();
            line(&mut out, path, &heading.join(","))?;
        }
        ExportFormat::Json => {}
    }
    let mut rows = 0;
    let mut write = |parts: &[&[u8]], lead: u64, renderers: &[(&str, Renderer)]| {
        rows += 1;
        let text = match format {
            ExportFormat::Csv => csv_line(lead, parts, renderers),
            ExportFormat::Json | ExportFormat::Parquet => json_line(contents, lead, parts, renderers),
        };
        let text = text.map_err(|source| bad_row(contents, source))?;
        line(&mut out, path, &text)
    };
    match contents {
        StateContents::Keyed(keyed) => {
            let renderers = renderers(contents);
            keyed.visit(runtime, |row| {
                write(&parts_of(keyed, &row), row.key_group.into(), &renderers)?;
                Ok(ControlFlow::Continue(()))
            })?;
        }
        StateContents::List { list, .. } => {
            let renderers = renderers(contents);
            for (position, item) in (0..).zip(&list.items) {
                write(&[item], position, &renderers)?;
            }
        }
    }
    Ok((rows, out))
}

fn write_table<W: Write + Send>(
    contents: &StateContents<'_>,
    out: W,
    path: &Path,
    runtime: &Handle,
) -> Result<(u64, W), InspectError> {
    let columns = columns(contents);
    let columns: Vec<(&str, &DataType)> = columns.iter().map(|(name, data_type)| (*name, *data_type)).collect();
    let (operator, state, is_keyed) = match contents {
        StateContents::Keyed(keyed) => (keyed.operator(), keyed.name(), true),
        StateContents::List { operator, list } => (*operator, list.name.as_str(), false),
    };
    let description = TableColumns {
        operator: &operator.label(),
        state,
        is_keyed,
        columns: &columns,
    };
    let mut table = ExportTable::new(&description, &path.display().to_string(), out)?;
    match contents {
        StateContents::Keyed(keyed) => keyed.visit(runtime, |row| {
            table.add(row.key_group.into(), &parts_of(keyed, &row))?;
            Ok(ControlFlow::Continue(()))
        })?,
        StateContents::List { list, .. } => {
            for (position, item) in (0..).zip(&list.items) {
                table.add(position, &[item])?;
            }
        }
    }
    Ok(table.finish()?)
}

/// Names and types of the columns, without the first, which is the key group or the position.
fn columns<'a>(contents: &StateContents<'a>) -> Vec<(&'static str, &'a DataType)> {
    match contents {
        StateContents::Keyed(keyed) => {
            let namespace = keyed.namespace_type().map(|data_type| ("namespace", data_type));
            let key = std::iter::once(("key", keyed.key_type()));
            key.chain(namespace).chain([("value", keyed.value_type())]).collect()
        }
        StateContents::List { list, .. } => vec![("value", &list.data_type)],
    }
}

fn renderers(contents: &StateContents<'_>) -> Vec<(&'static str, Renderer)> {
    let columns = columns(contents);
    columns
        .into_iter()
        .map(|(name, data_type)| (name, Renderer::new(data_type)))
        .collect()
}

fn parts_of<'r>(keyed: &KeyedContents<'_>, row: &Row<'r>) -> Vec<&'r [u8]> {
    match keyed.namespace_type() {
        Some(_) => vec![row.key, row.namespace, row.value],
        None => vec![row.key, row.value],
    }
}

fn lead(contents: &StateContents<'_>) -> &'static str {
    match contents {
        StateContents::Keyed(_) => "key_group",
        StateContents::List { .. } => "position",
    }
}

fn headings(contents: &StateContents<'_>) -> Vec<String> {
    let columns = renderers(contents);
    let others = columns.iter().flat_map(|(name, renderer)| renderer.headings(name));
    std::iter::once(lead(contents).to_owned()).chain(others).collect()
}

fn json_line(
    contents: &StateContents<'_>,
    position: u64,
    parts: &[&[u8]],
    renderers: &[(&str, Renderer)],
) -> Result<String, RowError> {
    let mut text = format!("{{\"{}\":{position}", lead(contents));
    for (part, (name, renderer)) in parts.iter().zip(renderers) {
        text.push_str(&format!(",\"{name}\":"));
        renderer.append(&mut text, part)?;
    }
    text.push('}');
    Ok(text)
}

fn csv_line(position: u64, parts: &[&[u8]], renderers: &[(&str, Renderer)]) -> Result<String, RowError> {
    let mut text = position.to_string();
    for (part, (_name, renderer)) in parts.iter().zip(renderers) {
        for cell in renderer.cells(part)? {
            text.push(',');
            text.push_str(&quoted(&cell));
        }
    }
    Ok(text)
}

/// A field of CSV, in quotes where it must be.
fn quoted(text: &str) -> String {
    match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    }
}

fn line(out: &mut impl Write, path: &Path, text: &str) -> Result<(), InspectError> {
    let written = out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n"));
    written.map_err(|source| failed("write", path, source))
}

fn bad_row(contents: &StateContents<'_>, source: RowError) -> InspectError {
    let state = match contents {
        StateContents::Keyed(keyed) => return keyed.bad_row(source),
        StateContents::List { list, .. } => list.name.clone(),
    };
    InspectError::Snapshot(SnapshotError::Row { state, source })
}

fn failed(operation: &'static str, path: &Path, source: std::io::Error) -> InspectError {
    InspectError::File {
        operation,
        path: path.to_owned(),
        source,
    }
}
