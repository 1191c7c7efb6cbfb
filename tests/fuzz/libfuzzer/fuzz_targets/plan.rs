//! The plan of an application.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::plan::descriptor(data);
});
