//! Where event time comes from: who says what time a record has, and how far the time of a stream has come.
//!
//! ```text
//!   batch of split 0 ─▶ generator 0 ──7─┐
//!   batch of split 1 ─▶ generator 1 ──5─┴─▶ valve ──5──▶ consumers, and the group that it is aligned with
//! ```

mod alignment;
mod generator;
mod operator;

pub use alignment::{AlignmentGroups, WatermarkAlignment};
pub use generator::{BoundedOutOfOrderness, NoWatermarks, WatermarkGenerator};
pub use operator::{TimestampsAndWatermarks, WatermarkPolicy};

#[cfg(test)]
mod tests;
