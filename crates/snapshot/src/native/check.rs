//! What the metadata says of segments must be possible before anything is fetched for it.

use streamd_core::key_group::HashRange;
use streamd_core::snapshot::{KeyedStateHandle, NativeSegment};

use super::block::BLOCK_BYTES;
use super::format::HEADER_BYTES;

/// One past the upper half of any hash.
const ALL_HASHES: u64 = 1 << 32;

/// Checks the segments of a handle: in order of key group and within the handle's, each with rows before changes, every block within
/// an object that there is. Says what is wrong otherwise.
pub(crate) fn check_segments(handle: &KeyedStateHandle, segments: &[NativeSegment]) -> Result<(), String> {
    let mut first = handle.key_groups.start;
    for segment in segments {
        let groups = segment.key_groups;
        if groups.is_empty() || groups.start < first || groups.end > handle.key_groups.end {
            return Err(format!(
                "a segment of state `{}` with key groups {groups} is out of place",
                handle.state
            ));
        }
        if let Some(HashRange { start, end }) = segment.hashes
            && (start >= end || end > ALL_HASHES)
        {
            return Err(format!(
                "a segment of state `{}` is said to hold the hashes from {start} to {end}",
                handle.state
            ));
        }
        check_blocks(handle, segment)?;
        first = groups.start;
    }
    Ok(())
}

fn check_blocks(handle: &KeyedStateHandle, segment: &NativeSegment) -> Result<(), String> {
    let mut layer = 0;
    for block in &segment.blocks {
        let length = usize::try_from(block.object)
            .ok()
            .and_then(|object| handle.objects.get(object))
            .map(|object| object.length);
        let end = block.offset.checked_add(block.length);
        let fits = block.offset >= HEADER_BYTES
            && end.zip(length).is_some_and(|(end, length)| end <= length)
            && BLOCK_BYTES.contains(&block.length)
            && block.layer >= layer;
        if !fits {
            return Err(format!(
                "a block of state `{}` at byte {} is out of place",
                handle.state, block.offset
            ));
        }
        layer = block.layer;
    }
    if segment.blocks.first().is_none_or(|block| block.layer > 0) {
        return Err(format!(
            "a segment of state `{}` has no rows to begin with",
            handle.state
        ));
    }
    Ok(())
}
