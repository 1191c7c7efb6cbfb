//! The body of `_metadata`, of every version.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::snapshot::metadata_body(data);
});
