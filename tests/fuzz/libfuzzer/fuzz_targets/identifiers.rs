//! Ids, durations, sizes, URLs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::configuration::identifiers(data);
});
