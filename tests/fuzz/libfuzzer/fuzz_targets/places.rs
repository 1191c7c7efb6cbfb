//! Places of snapshots and names in them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::configuration::places(data);
});
