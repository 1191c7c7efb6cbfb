//! Events of workers.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::messages::worker_event(data);
});
