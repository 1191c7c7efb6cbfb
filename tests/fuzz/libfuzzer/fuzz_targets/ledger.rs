//! Answers of a ledger.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::connectors::ledger(data);
});
