//! Claims of folders and the identity of a cluster.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::records::claims(data);
});
