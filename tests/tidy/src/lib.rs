//! The rules of the house, as tests: see `tests/house.rs`. This crate deliberately contains nothing else.
//!
//! ```text
//!   crates/*/Cargo.toml ──▶ who may import whom
//!   crates/**/*.rs      ──▶ sizes, docs, forbidden words
//!   docs/               ──▶ every code and key has its place
//! ```
