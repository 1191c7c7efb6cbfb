//! A flame graph: a picture of where processor time goes, which a browser shows and lets people zoom into.
//!
//! Each function is a bar, as wide as the part of the time that it and what it called took. Callers are below, and bars side by side are in
//! the order of their names, not of time. It is Brendan Gregg's idea.

mod draw;
mod tree;

pub use draw::draw;
pub use tree::Frame;
