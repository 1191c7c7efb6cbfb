//! A batch of records between workers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::rows::batch(data);
});
