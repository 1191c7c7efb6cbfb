//! A source of numbers that stops at a gate for as long as a test keeps it closed.

mod source;

pub use source::{HeldNumbers, Hold};
