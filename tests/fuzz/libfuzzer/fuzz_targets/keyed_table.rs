//! A table of keyed state in a savepoint.
#![no_main]

libfuzzer_sys::fuzz_target!(init: libfuzzer::let_panics_be_caught(), |data: &[u8]| {
    fuzz::snapshot::keyed_table(data);
});
