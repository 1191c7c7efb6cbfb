//! The catalogue of savepoints.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::records::operations(data);
});
