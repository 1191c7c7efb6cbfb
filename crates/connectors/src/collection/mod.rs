//! Records from a collection that the application holds in memory: for tests and first steps.

mod source;

pub use source::{CollectionSource, Elements};

#[cfg(test)]
mod tests;
