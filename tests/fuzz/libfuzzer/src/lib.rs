//! What some of the programs need before they begin.

/// libFuzzer ends the program at every panic. Readers of Parquet catch those of the library: theirs must reach them.
/// A panic that nobody catches ends the program all the same.
pub fn let_panics_be_caught() {
    std::panic::set_hook(Box::new(|_panic| {}));
}
