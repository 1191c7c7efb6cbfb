//! Frames of a consumer.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::network::notices(data);
});
