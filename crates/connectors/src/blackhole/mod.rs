//! A sink that discards every record: for benchmarks.

mod sink;

pub use sink::{BlackholeSink, BlackholeWriter};
