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
/// What a newer version of a type does with the snapshots of an older one:
///
/// * `#[state(alias = "old_name")]` on a field or variant: it had that name.
/// * `#[state(default)]` or `#[state(default = value)]` on a field: its value where the older version has no such field. A new
///   `Option` needs none: it is `None`.
/// * `#[state(migrate = function)]` on the type: a function `fn(Old) -> Self`, where `Old` is `State`, for what no rule
///   covers. May be given more than once, for several older types.
///
/// ```ignore
/// #[derive(Clone, State)]
/// #[state(migrate = from_minutes)]
/// struct Delay {
///     seconds: i64,
///     #[state(default = 1)]
///     flights: u64,
/// }
///
/// fn from_minutes(old: DelayInMinutes) -> Delay {
///     Delay { seconds: 60 * i64::from(old.minutes), flights: 1 }
/// }
/// ```
///
/// The type must be `Clone`, own its data (no lifetimes) and not contain itself. Type parameters must be `State`.
/// Crates that depend on `streamd-core` instead of `streamd` add `#[state(crate = "streamd_core")]` to the type.
#[proc_macro_derive(State, attributes(state))]
pub fn derive_state(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    expand::derive(input.into()).into()
}
