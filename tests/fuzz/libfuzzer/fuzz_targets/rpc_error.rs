//! Errors between processes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::messages::error(data);
});
