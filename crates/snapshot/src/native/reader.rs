//! Reading a native state object: only the blocks whose key groups are wanted, by range, a few megabytes ahead.

use std::ops::Range;

use bytes::Bytes;
use futures::StreamExt;
use streamd_core::key_group::KeyGroupRange;
use streamd_core::snapshot::{KeyedStateHandle, NativeBlock};
use tokio::runtime::Handle;

use super::format::{self, BLOCK_HEADER_BYTES, HEADER_BYTES, IMPOSSIBLE, MAX_BLOCK_BYTES, NATIVE_VERSION, Payload};
use crate::error::{SnapshotError, StoreError};
use crate::restore::{RowVisitor, check_length};
use crate::store::Location;

/// Bytes of neighbouring blocks that are fetched at once.
const FETCH_BYTES: u64 = 4 << 20;

/// Fetches under way at once: one is read while the next travels.
const FETCHES_IN_FLIGHT: usize = 2;

/// Calls `visit` for every row of the wanted key groups.
pub(crate) fn read_native(
    handle: &KeyedStateHandle,
    blocks: &[NativeBlock],
    object: &Location,
    wanted: (KeyGroupRange, &Handle),
    visit: &mut RowVisitor<'_>,
) -> Result<u64, SnapshotError> {
    let (range, runtime) = wanted;
    check_blocks(handle, blocks, object)?;
    runtime.block_on(check_object(handle, object))?;
    let needed: Vec<NativeBlock> = blocks
        .iter()
        .copied()
        .filter(|block| !block.key_groups.intersection(range).is_empty())
        .collect();
    let fetches = fetches(&needed);
    let mut pieces = futures::stream::iter(fetches.iter().map(|fetch| fetch.bytes.clone()))
        .map(|bytes| object.get_range(bytes))
        .buffered(FETCHES_IN_FLIGHT);
    let (mut delivered, mut seen) = (0, 0);
    for fetch in &fetches {
        let Some(bytes) = runtime.block_on(pieces.next()) else {
            break;
        };
        let bytes = bytes?;
        for block in &needed[fetch.blocks.clone()] {
            let (delivered_rows, rows) = read_block(block, &bytes, fetch, (object, range), visit)?;
            delivered += delivered_rows;
            seen += rows;
        }
    }
    if needed.len() == blocks.len() && seen != handle.rows {
        let reason = format!(
            "state `{}` has {seen} rows where the metadata says {}",
            handle.state, handle.rows
        );
        return Err(SnapshotError::Malformed {
            uri: object.uri(),
            reason,
        });
    }
    Ok(delivered)
}

/// Neighbouring blocks that are fetched together.
struct Fetch {
    /// The blocks, by position among those needed.
    blocks: Range<usize>,
    /// The bytes of the object.
    bytes: Range<u64>,
}

fn fetches(needed: &[NativeBlock]) -> Vec<Fetch> {
    let mut fetches: Vec<Fetch> = Vec::new();
    for (index, block) in needed.iter().enumerate() {
        let end = block.offset + block.length;
        match fetches.last_mut() {
            Some(last) if last.bytes.end == block.offset && end - last.bytes.start <= FETCH_BYTES => {
                last.blocks.end = index + 1;
                last.bytes.end = end;
            }
            _none_or_apart => fetches.push(Fetch {
                blocks: index..index + 1,
                bytes: block.offset..end,
            }),
        }
    }
    fetches
}

/// Delivers the wanted rows of one block; returns how many, and how many the block holds.
fn read_block(
    block: &NativeBlock,
    fetched: &Bytes,
    fetch: &Fetch,
    (object, range): (&Location, KeyGroupRange),
    visit: &mut RowVisitor<'_>,
) -> Result<(u64, u64), SnapshotError> {
    let corrupt = |reason: String| SnapshotError::CorruptBlock {
        uri: object.uri(),
        offset: block.offset,
        reason,
    };
    let start = (block.offset - fetch.bytes.start) as usize;
    let there = fetched.len().saturating_sub(start);
    let bytes = fetched
        .get(start..start + block.length as usize)
        .ok_or_else(|| corrupt(format!("{} bytes are expected, {there} are there", block.length)))?;
    let header = format::open(bytes, block).map_err(corrupt)?;
    let impossible = || corrupt(IMPOSSIBLE.to_owned());
    let mut payload = Payload::new(bytes);
    let (mut delivered, mut seen, mut floor) = (0, 0, header.key_groups.start);
    while !payload.is_empty() {
        let (group, rows) = payload.run().ok_or_else(impossible)?;
        if group < floor || group >= header.key_groups.end || rows == 0 {
            return Err(impossible());
        }
        floor = group + 1;
        let is_wanted = range.contains(group);
        for _ in 0..rows {
            let (key, value) = payload.row().ok_or_else(impossible)?;
            if is_wanted {
                visit(group, key, value)?;
                delivered += 1;
            }
        }
        seen += u64::from(rows);
    }
    if seen != u64::from(header.rows) {
        return Err(impossible());
    }
    Ok((delivered, seen))
}

/// The metadata comes from outside: its blocks must lie within the object, in order, and hold no more than they may.
fn check_blocks(handle: &KeyedStateHandle, blocks: &[NativeBlock], object: &Location) -> Result<(), SnapshotError> {
    let mut next = HEADER_BYTES;
    let mut group = handle.key_groups.start;
    for block in blocks {
        let end = block.offset.checked_add(block.length);
        let fits = block.offset >= next
            && end.is_some_and(|end| end <= handle.object.length)
            && (BLOCK_HEADER_BYTES as u64..=MAX_BLOCK_BYTES).contains(&block.length)
            && block.key_groups.start >= group
            && !block.key_groups.is_empty()
            && block.key_groups.end <= handle.key_groups.end;
        if !fits {
            let reason = format!(
                "a block of state `{}` at byte {} is out of place",
                handle.state, block.offset
            );
            return Err(SnapshotError::Malformed {
                uri: object.uri(),
                reason,
            });
        }
        next = end.expect("checked just above");
        group = block.key_groups.end - 1;
    }
    Ok(())
}

/// The object must have its recorded length and be of a known version.
async fn check_object(handle: &KeyedStateHandle, object: &Location) -> Result<(), SnapshotError> {
    let length = object
        .head()
        .await?
        .ok_or_else(|| StoreError::NotFound { uri: object.uri() })?;
    check_length(object, handle.object.length, length)?;
    let header = object.get_range(0..HEADER_BYTES).await?;
    if header.len() < HEADER_BYTES as usize || header[..8] != format::MAGIC {
        let reason = "it does not begin as a state object does".to_owned();
        return Err(SnapshotError::Malformed {
            uri: object.uri(),
            reason,
        });
    }
    let found = u32::from_le_bytes(header[8..12].try_into().expect("four bytes"));
    if found > NATIVE_VERSION {
        return Err(SnapshotError::NewerVersion {
            uri: object.uri(),
            found,
            supported: NATIVE_VERSION,
        });
    }
    if header[..] != format::header() {
        let reason = "its header is damaged".to_owned();
        return Err(SnapshotError::Malformed {
            uri: object.uri(),
            reason,
        });
    }
    Ok(())
}
