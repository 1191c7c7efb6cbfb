//! Rows as JSON, and JSON as rows: how people read and write single values of state. The one place that knows how a type of
//! the row encoding looks as text.
//!
//! | type | JSON |
//! |---|---|
//! | bool, integers | `true`, `-7`; 64-bit integers are written out in full |
//! | floats | a number; `"NaN"`, `"Infinity"`, `"-Infinity"`; other not-a-numbers with their bits, `"NaN:7fc00001"` |
//! | string | a string |
//! | bytes | `"0x0a1b"` |
//! | option | `null` or the value; `{"some": …}` around a value that may itself be `null` |
//! | list | an array |
//! | map | an object where the keys are strings, else an array of `{"key": …, "value": …}` |
//! | struct | an object; a tuple is an array |
//! | enum | `"Variant"`, or `{"Variant": …}` with its fields as of a struct |
//!
//! Reading order: `render`, `document` (JSON as it was written), `parse`, `order` (of the keys of a map), `extent` (where a value ends).

mod document;
mod extent;
mod order;
mod parse;
mod render;

pub use document::Document;
pub use extent::split;
pub use parse::{ValueError, parse_text, parse_value};
pub use render::Renderer;

use streamd_core::row::{DataType, Field};

/// What stands around a present value whose own text could be `null`.
const SOME: &str = "some";

/// Whether the fields are those of a tuple, which is written without names.
fn is_tuple(fields: &[Field]) -> bool {
    !fields.is_empty()
        && fields
            .iter()
            .enumerate()
            .all(|(index, field)| field.name.parse() == Ok(index) && !field.name.starts_with('+'))
}

/// Whether a value of the type may be written as `null`.
fn may_be_null(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Option(_))
}

#[cfg(test)]
mod tests;
