//! The handshake of workers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::network::handshake(data);
});
