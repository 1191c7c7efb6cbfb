//! Reading single fields of hostile messages.

use std::collections::BTreeMap;
use std::str::FromStr;

use streamd_core::row::{DataType, MAX_TYPE_DEPTH};
use streamd_core::time::EventTime;

use super::ConvertError;

/// The value of a field that must be there.
pub(super) fn required<T>(value: Option<T>, field: &'static str) -> Result<T, ConvertError> {
    value.ok_or(ConvertError::Missing { field })
}

/// Text that must not be empty.
pub(super) fn text(value: String, field: &'static str) -> Result<String, ConvertError> {
    if value.is_empty() {
        return Err(ConvertError::Missing { field });
    }
    Ok(value)
}

/// An identifier in its text form.
pub(super) fn id<T>(value: &str, field: &'static str) -> Result<T, ConvertError>
where
    T: FromStr<Err: std::fmt::Display>,
{
    if value.is_empty() {
        return Err(ConvertError::Missing { field });
    }
    value
        .parse()
        .map_err(|error: T::Err| ConvertError::invalid(field, error.to_string()))
}

/// All elements of a list, converted.
pub(super) fn all<P, C>(values: Vec<P>) -> Result<Vec<C>, ConvertError>
where
    C: TryFrom<P, Error = ConvertError>,
{
    values.into_iter().map(C::try_from).collect()
}

/// Event times by name: milliseconds on the wire.
pub(super) fn event_times<M>(times: M) -> BTreeMap<String, EventTime>
where
    M: IntoIterator<Item = (String, i64)>,
{
    times.into_iter().map(|(name, time)| (name, EventTime(time))).collect()
}

/// The JSON form of a schema.
pub(super) fn schema_to_json(data_type: &DataType) -> String {
    serde_json::to_string(data_type).expect("a schema holds only names and variants, which JSON can write")
}

/// A schema from its JSON form.
pub(super) fn schema(json: &str, field: &'static str) -> Result<DataType, ConvertError> {
    if json.is_empty() {
        return Err(ConvertError::Missing { field });
    }
    let data_type: DataType =
        serde_json::from_str(json).map_err(|error| ConvertError::invalid(field, error.to_string()))?;
    if data_type.depth() > MAX_TYPE_DEPTH {
        return Err(ConvertError::invalid(
            field,
            format!("the type nests deeper than {MAX_TYPE_DEPTH}"),
        ));
    }
    Ok(data_type)
}
