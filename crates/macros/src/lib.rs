//! The derive macro that makes a struct or an enum storable in streamd's state.
//!
//! It deliberately knows nothing of tables, snapshots or jobs: it only writes down, for one type, what
//! `streamd_core::state::State` asks of it, in the encoding that `streamd_core::row` specifies.
//!
//! ```text
//!   #[derive(Clone, State)]        attributes ── names, crate path ──┐
//!   struct Delay { .. }     ─────▶ shape ─────── fields, variants ───┼──▶ expand ──▶ impl State for Delay
//! ```
//!
//! Reading order: `attributes`, `shape`, `expand`.

mod attributes;
mod shape;

mod expand;

#[cfg(test)]
mod tests;

/// Implements `State` for a struct or an enum whose fields are `State` themselves.
///
/// The names of the fields and variants are their identity in every snapshot. A Rust name can change while the stored
/// name stays:
///
/// ```ignore
/// #[derive(Clone, State)]
/// struct AirportDelay {
///     flights: u64,
///     #[state(rename = "worst_delay")]
///     worst_delay_minutes: i32,
/// }
/// ```
///
/// The type must be `Clone`, own its data (no lifetimes) and not contain itself. Type parameters must be `State`.
/// Crates that depend on `streamd-core` instead of `streamd` add `#[state(crate = "streamd_core")]` to the type.
#[proc_macro_derive(State, attributes(state))]
pub fn derive_state(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand::derive(input.into()).into()
}
