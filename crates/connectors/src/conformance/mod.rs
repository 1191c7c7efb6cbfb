//! What every connector must do, as code to run in its tests.
//!
//! ```text
//!   source:  read ─▶ snapshot ─▶ other readers, other parallelism ─▶ read …     every record once, each split in order
//!   sink:    write ─▶ prepare ─▶ (crash?) ─▶ commit, commit again              visible exactly if committed
//! ```
//!
//! Reading order: [`source`], [`sink`], [`sink_life`]. The functions panic where a connector fails, as tests do.

pub(crate) mod random;
pub mod sink;
pub mod sink_life;
pub mod source;

#[cfg(test)]
mod tests;
