//! The type of a value with a time to live: the value, and when it was last updated.

use crate::row::DataType;

/// The name of the struct around a value with a time to live. No type of Rust can have it.
const NAME: &str = "~expiring";

/// The type of a value of this type with a time to live: a struct of `last_update`, in milliseconds since 1970, and `value`.
///
/// By its name a value that gets a time to live, or loses it, is told from one that has always been such a struct.
pub fn expiring_type(value: DataType) -> DataType {
    DataType::structure(NAME, [("last_update", DataType::Int64), ("value", value)])
}

/// The type of the value, if it has a time to live.
pub(super) fn value_of_expiring(data_type: &DataType) -> Option<&DataType> {
    let DataType::Struct { name, fields } = data_type else {
        return None;
    };
    match fields.as_slice() {
        [last_update, value] if name == NAME && last_update.data_type == DataType::Int64 => Some(&value.data_type),
        _others => None,
    }
}
