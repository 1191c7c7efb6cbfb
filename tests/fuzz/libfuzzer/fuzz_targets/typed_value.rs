//! Values that people type.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    fuzz::rows::typed_value(data);
});
