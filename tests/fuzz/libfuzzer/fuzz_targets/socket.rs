//! Text from a socket.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::connectors::socket(data);
});
