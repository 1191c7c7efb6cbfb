//! Asks for memory before it is read: the processor goes on at once, and the cache line is near by the time that it is needed.
//!
//! A load that misses the caches holds up all that comes after it as soon as the processor has a few hundred instructions in flight: the
//! loads of some eight keys of a hash table, whatever lies between them. A prefetch holds up nothing, so that the misses of dozens of keys
//! happen at the same time. The memory of a million keys, one thread: 45 ns a key by loads in advance, 16 ns by prefetches.
//!
//! ```text
//!   loads in advance    key 1 … key 8 ── wait ── key 9 … key 16 ── wait ── …
//!   prefetches          key 1 … key 32 ── wait ── …
//! ```
//!
//! It deliberately does not know what is asked for. Nothing depends on it but time: an address where nothing is, or something else, is asked
//! for in vain.
//!
//! One of the two crates with `unsafe` code (the other is `rocksdb-env`): there is no safe function of the standard library for this yet.

// As the workspace's, but for `unsafe`, which is explained wherever it is.
#![deny(unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks, unused_must_use)]
#![warn(missing_docs, clippy::all)]

/// The bytes of a cache line.
const LINE: usize = 64;

/// Of a value that is larger than so many lines, only the first ones are asked for.
const MOST_LINES: usize = 4;

/// Asks for the cache lines of a value itself, not of what it points to.
///
/// A value whose size divides a line is taken to lie within one.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    prefetch_value_at::<T>(std::ptr::from_ref(value).addr());
}

/// Asks for the cache lines of a value that may be at this address.
#[inline(always)]
pub fn prefetch_value_at<T>(address: usize) {
    let size = size_of::<T>();
    if size == 0 {
        return;
    }
    for line in 0..size.div_ceil(LINE).min(MOST_LINES) {
        prefetch_at(address.wrapping_add(line * LINE));
    }
    if !LINE.is_multiple_of(size) && size < MOST_LINES * LINE {
        prefetch_at(address.wrapping_add(size - 1));
    }
}

/// Asks for the cache line of an address, whatever is there.
#[inline(always)]
pub fn prefetch_at(address: usize) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every processor of this architecture has the instruction; it reads nothing into the program, writes nothing, and does not
    // fault, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(std::ptr::without_provenance(address));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above; the registers and the stack stay as they are.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_address_can_be_asked_for() {
        for address in [0, 1, 4095, usize::MAX / 2, usize::MAX] {
            prefetch_at(address);
            prefetch_value_at::<[u8; 100]>(address);
        }
    }

    #[test]
    fn a_value_of_any_size_can_be_asked_for_and_stays_as_it_is() {
        prefetch(&());
        let (small, middle, large) = ([1u8; 16], [2u8; 100], [3u8; 10_000]);
        prefetch(&small);
        prefetch(&middle);
        prefetch(&large);
        assert!(small == [1; 16] && middle == [2; 100] && large == [3; 10_000]);
    }
}
