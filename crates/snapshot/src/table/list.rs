//! The tables of operator state in a savepoint: source positions, prepared commits.

use bytes::Bytes;
use streamd_core::snapshot::{ListState, ObjectHandle};

use super::file::{AddError, Description, Lead, TableFile};
use super::keyed::failed;
use super::reader::{Expected, TableReader};
use super::types::check_type;
use crate::error::SnapshotError;
use crate::store::Location;

/// Bytes of a table of operator state at most. It travels inside messages before it is written, so it is far smaller.
const MAX_LIST_BYTES: u64 = 256 << 20;

/// The bytes of the table of a list. `uri` is for messages.
pub(crate) fn write_list(operator: &str, list: &ListState, uri: &str) -> Result<Vec<u8>, SnapshotError> {
    check_type(&list.name, &list.data_type)?;
    let columns = [("value", &list.data_type)];
    let description = Description {
        operator,
        state: &list.name,
        columns: &columns,
    };
    let mut file = TableFile::new(Lead::Position, &description, Vec::new()).map_err(|source| failed(uri, source))?;
    for (position, item) in (0..).zip(&list.items) {
        file.add(position, &[item]).map_err(|error| match error {
            AddError::Row(source) => SnapshotError::Row {
                state: list.name.clone(),
                source,
            },
            AddError::File(source) => failed(uri, source),
            AddError::Store(source) => source.into(),
        })?;
    }
    file.finish().map_err(|source| failed(uri, source))
}

/// Fills `list.items` from its table, which must hold `rows` of them.
pub(crate) async fn read_list(
    list: &mut ListState,
    rows: u64,
    handle: &ObjectHandle,
    object: &Location,
) -> Result<(), SnapshotError> {
    let bytes = object.get(MAX_LIST_BYTES).await?;
    crate::restore::check_length(object, handle.length, bytes.len() as u64)?;
    let actual = crate::store::digest_text(xxhash_rust::xxh3::xxh3_128(&bytes));
    if actual != handle.digest {
        return Err(SnapshotError::DigestMismatch {
            uri: object.uri(),
            expected: handle.digest.clone(),
            actual,
        });
    }
    list.items = items_of(list, rows, bytes, object.uri())?;
    Ok(())
}

fn items_of(list: &ListState, rows: u64, bytes: Bytes, uri: String) -> Result<Vec<Vec<u8>>, SnapshotError> {
    check_type(&list.name, &list.data_type)?;
    let columns = [("value", &list.data_type)];
    let expected = Expected {
        lead: Lead::Position,
        columns: &columns,
        rows,
        uri,
    };
    let reader = TableReader::of_footer(&bytes, bytes.len() as u64, expected)?;
    let mut items = Vec::new();
    for group in 0..reader.row_groups() {
        let span = reader.span(group)?;
        let (start, end) = (span.start as usize, span.end as usize);
        reader.read_group(group, bytes.slice(start..end), &mut |position, values| {
            if position != items.len() as i64 {
                return Err(reader.malformed(format!("position {position} is where {} should be", items.len())));
            }
            items.push(values[0].to_vec());
            Ok(())
        })?;
    }
    Ok(items)
}
