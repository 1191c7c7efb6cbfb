//! Records of jobs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::records::jobs(data);
});
