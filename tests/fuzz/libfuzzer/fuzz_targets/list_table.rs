//! A table of a list in a savepoint.
#![no_main]

libfuzzer_sys::fuzz_target!(init: libfuzzer::let_panics_be_caught(), |data: &[u8]| {
    fuzz::snapshot::list_table(data);
});
