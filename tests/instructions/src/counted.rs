//! Where instructions are counted, and the numbers that all paths work on.

/// Runs what is counted: callgrind is told to collect between entry and return of this very function.
#[inline(never)]
pub fn counted(work: &mut dyn FnMut()) {
    work();
    // Something to come back for: a jump into the work would be no return from it.
    std::hint::black_box(());
}

/// SplitMix64's finaliser.
#[inline]
pub fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Event `index` of the benchmarks' *keyed-sum*, over so many keys: key and value.
pub fn event(index: u64, keys: u64) -> (u64, i64) {
    let hash = mix((index + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    (mix((((hash >> 32) * keys) >> 32) + 1), (hash & 0xFFFF) as i64 - 32768)
}
