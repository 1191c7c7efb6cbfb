//! Records of completion.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::records::completions(data);
});
