//! Where the processor time of a worker goes: the kernel's profiler looks at it from outside, and the stacks that it saw are counted.
//!
//! The worker takes no part in it. A signal handler in it would be simpler, and would run in the midst of whatever user code does.
//!
//! ```text
//!   worker ◀─ so often a second ─ perf record ──▶ perf.data ──▶ perf script ──▶ Stacks ──▶ job manager
//!                                                 (a folder of its own, gone afterwards)
//! ```

mod perf;
mod profiler;
mod stacks;

pub(crate) use profiler::Profiler;
