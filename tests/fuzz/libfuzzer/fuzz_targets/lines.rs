//! Text and JSON lines.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::connectors::lines(data);
});
