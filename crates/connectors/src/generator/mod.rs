//! Records made by a function of their number: for benchmarks, tests and first steps.

mod source;

pub use source::{Generated, GeneratorSource};

#[cfg(test)]
mod tests;
