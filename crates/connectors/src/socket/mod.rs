//! Lines of text from a TCP connection: for first steps and demonstrations (`nc -lk 9999`).

mod source;

pub use source::{SocketReader, SocketSplit, SocketTextSource};

#[cfg(test)]
mod tests;
