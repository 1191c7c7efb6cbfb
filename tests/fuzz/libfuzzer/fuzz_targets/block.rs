//! A block of a state object.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::snapshot::block(data);
});
