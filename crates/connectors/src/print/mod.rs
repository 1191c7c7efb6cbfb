//! A sink that prints every record on a line of standard output: for first steps and for looking at a job.

mod sink;

pub use sink::{PrintSink, PrintWriter};
