//! Whether a snapshot is whole: every byte is read, every digest and block checked, every row decoded and found in its key group.

use futures::StreamExt;
use streamd_core::key_group::{KeyGroupRange, key_group_of};
use streamd_core::row::{RowError, RowReader};
use streamd_core::snapshot::{KeyedStateHandle, ObjectHandle, OperatorState};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_64;

use crate::database_reader::{is_readable, read_operator_state};
use crate::error::SnapshotError;
use crate::json::{Renderer, split};
use crate::read::{Found, check_digest, find, objects_of};
use crate::restore::{missing, resolve};
use crate::table::read_list;

/// Objects that are read at once.
const READS_IN_FLIGHT: usize = 4;

/// Damages that are told of at most; there may be as many as objects.
const MAX_DAMAGES: usize = 10_000;

/// What was read, and what is wrong with it.
#[derive(Debug)]
pub struct Verified {
    /// The URI of the snapshot's folder.
    pub folder: String,
    /// Objects that the metadata refers to.
    pub objects: u64,
    /// Bytes of the metadata and of these objects, by the metadata.
    pub bytes: u64,
    /// Rows and elements that were decoded.
    pub rows: u64,
    /// States in the files of a database that this program cannot read: of these the bytes were checked and not the rows.
    pub undecoded: Vec<String>,
    /// What is wrong, object by object; empty if the snapshot is whole.
    pub damages: Vec<Damage>,
}

/// Something that is wrong with a snapshot.
#[derive(Debug)]
pub struct Damage {
    /// The object, as the metadata names it.
    pub object: String,
    /// What is wrong with it.
    pub error: SnapshotError,
}

/// Reads all of a snapshot. Fails where the metadata cannot be read; whatever else is wrong is in the answer. Blocks: call it on a
/// thread that is not tokio's.
pub fn verify_snapshot(pointer: &str, runtime: &Handle) -> Result<Verified, SnapshotError> {
    let found = runtime.block_on(find(pointer))?;
    let folder = found.folder.uri();
    let objects = all_objects(&found);
    let mut verified = Verified {
        objects: objects.len() as u64,
        bytes: objects
            .iter()
            .fold(found.bytes, |sum, object| sum.saturating_add(object.length)),
        damages: runtime.block_on(check_digests(&objects, &folder)),
        folder,
        rows: 0,
        undecoded: Vec::new(),
    };
    let damaged: Vec<String> = verified.damages.iter().map(|damage| damage.object.clone()).collect();
    let is_whole = |path: &str| !damaged.iter().any(|object| object == path);
    for operator in &found.metadata.operators {
        for handle in &operator.keyed {
            if !is_readable(handle) {
                verified.undecoded.push(handle.state.clone());
            } else if handle.objects.iter().all(|object| is_whole(&object.path)) {
                let rows = check_rows(operator, handle, &verified.folder, runtime);
                verified.add(&names_of(handle), rows);
            }
        }
    }
    verified.undecoded.dedup();
    for table in found.list_tables.iter().filter(|table| is_whole(&table.object.path)) {
        verified.add(&table.object.path, check_list(&found, table, runtime));
    }
    for operator in &found.metadata.operators {
        let inline = operator
            .lists
            .iter()
            .flat_map(|list| list.items.iter().map(move |item| (list, item)));
        for (list, item) in inline {
            let row = Renderer::new(&list.data_type).render(item).map(|_text| 1);
            let row = row.map_err(|source| row_error(&list.name, source));
            verified.add(crate::layout::METADATA, row);
        }
    }
    Ok(verified)
}

impl Verified {
    fn add(&mut self, object: &str, rows: Result<u64, SnapshotError>) {
        match rows {
            Ok(rows) => self.rows += rows,
            Err(error) if self.damages.len() < MAX_DAMAGES => self.damages.push(Damage {
                object: object.to_owned(),
                error,
            }),
            Err(_one_more) => {}
        }
    }
}

/// The objects of a part of a state, for messages.
fn names_of(handle: &KeyedStateHandle) -> String {
    let names: Vec<&str> = handle.objects.iter().map(|object| object.path.as_str()).collect();
    match names.as_slice() {
        [one, _, .., last] => format!("{one} … {last}"),
        few => few.join(", "),
    }
}

/// Every object that a snapshot refers to, once: those of keyed states, then the tables of lists.
pub(crate) fn all_objects(found: &Found) -> Vec<ObjectHandle> {
    let mut objects = objects_of(&found.metadata);
    objects.extend(found.list_tables.iter().map(|table| table.object.clone()));
    objects
}

async fn check_digests(objects: &[ObjectHandle], folder: &str) -> Vec<Damage> {
    let checked = futures::stream::iter(objects).map(|object| async move {
        let checked = async { check_digest(&resolve(folder, &object.path)?, object).await };
        let error = checked.await.err()?;
        Some(Damage {
            object: object.path.clone(),
            error: missing(error, folder, &object.path),
        })
    });
    let damages = checked.buffered(READS_IN_FLIGHT).filter_map(async |damage| damage);
    damages.take(MAX_DAMAGES).collect().await
}

fn check_rows(
    operator: &OperatorState,
    handle: &KeyedStateHandle,
    folder: &str,
    runtime: &Handle,
) -> Result<u64, SnapshotError> {
    let (values, namespaces) = (
        Renderer::new(&handle.value),
        handle.namespace.as_ref().map(Renderer::new),
    );
    let (keys, groups) = (Renderer::new(&handle.key), operator.max_parallelism);
    let mut text = String::new();
    let mut decode = |key: &[u8], value: &[u8]| {
        text.clear();
        let (key, namespace) = split(&handle.key, key)?;
        keys.append(&mut text, key)?;
        match &namespaces {
            Some(namespaces) => namespaces.append(&mut text, namespace)?,
            None => RowReader::new(namespace).finish()?,
        }
        values.append(&mut text, value)?;
        Ok(key_group_of(xxh3_64(key), groups))
    };
    read_operator_state(
        (operator, handle),
        folder,
        KeyGroupRange::all(groups),
        runtime,
        &mut |group, key, value| {
            let belongs = decode(key, value).map_err(|source| row_error(&handle.state, source))?;
            if belongs != group {
                return Err(SnapshotError::Malformed {
                    uri: folder.to_owned(),
                    reason: format!(
                        "a key of state `{}` is in key group {group} instead of {belongs}, in {}",
                        handle.state,
                        names_of(handle)
                    ),
                });
            }
            Ok(())
        },
    )
}

fn check_list(found: &Found, table: &crate::metadata::ListTable, runtime: &Handle) -> Result<u64, SnapshotError> {
    let lists = found
        .metadata
        .operators
        .iter()
        .filter(|operator| operator.id == table.operator)
        .flat_map(|operator| &operator.lists);
    let Some(list) = lists.into_iter().find(|list| list.name == table.state) else {
        return Err(SnapshotError::ImpossibleOperator {
            uri: found.folder.uri(),
            operator: table.operator,
            reason: format!("table `{}` belongs to no list of it", table.object.path),
        });
    };
    let mut list = list.clone();
    let object = found.folder.child(&table.object.path)?;
    runtime.block_on(read_list(&mut list, table.items, &table.object, &object))?;
    let renderer = Renderer::new(&list.data_type);
    for item in &list.items {
        renderer.render(item).map_err(|source| row_error(&list.name, source))?;
    }
    Ok(list.items.len() as u64)
}

fn row_error(state: &str, source: RowError) -> SnapshotError {
    SnapshotError::Row {
        state: state.to_owned(),
        source,
    }
}
