//! The changes of `streamctl state edit`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::rows::changes(data);
});
