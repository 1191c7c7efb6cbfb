//! JSON to encoded rows, strictly: what does not fit the type is refused with the place of it, never bent.

use streamd_core::row::{DataType, Field, RowReader, Variant, write_bytes, write_count};

use super::document::Document;
use super::order::compare;
use super::{SOME, is_tuple, may_be_null};

/// Characters of a value that a message shows.
const SHOWN: usize = 80;

/// Why JSON is no value of a type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not JSON at all.
    #[error("it is not JSON: {reason}")]
    NotJson {
        /// What the parser says.
        reason: String,
    },
    /// Another kind of value, or one out of range.
    #[error("`{path}` is {found} where {expected} is expected")]
    Mismatch {
        /// Where in the value; `$` is the whole.
        path: String,
        /// The type that it must be of.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A field that the type has and the value has not.
    #[error("`{path}` has no field `{field}`")]
    MissingField {
        /// Where in the value.
        path: String,
        /// The field.
        field: String,
    },
    /// A field that the type has not.
    #[error("`{path}` has a field `{field}`, which its type has not; there is {known}")]
    UnknownField {
        /// Where in the value.
        path: String,
        /// The field.
        field: String,
        /// The fields of the type.
        known: String,
    },
    /// The same key twice in a map.
    #[error("`{path}` has the key {key} twice")]
    RepeatedKey {
        /// Where in the value.
        path: String,
        /// The key.
        key: String,
    },
}

/// The row of a value that a person typed. JSON; where a text or the name of a variant is wanted, the bare text will do.
pub fn parse_text(data_type: &DataType, text: &str) -> Result<Vec<u8>, ValueError> {
    let bare = || Document::String(text.to_owned());
    let takes_text = match data_type {
        DataType::String | DataType::Bytes => true,
        DataType::Enum { variants, .. } => variants.iter().any(|variant| variant.fields.is_empty()),
        _other => false,
    };
    let value = match Document::parse(text) {
        Ok(value) if *data_type == DataType::String && value.as_str().is_none() => bare(),
        Ok(value) => value,
        Err(_no_json) if takes_text => bare(),
        Err(reason) => return Err(ValueError::NotJson { reason }),
    };
    parse_value(data_type, &value)
}

/// The row of a JSON value.
pub fn parse_value(data_type: &DataType, value: &Document) -> Result<Vec<u8>, ValueError> {
    let mut row = Vec::new();
    put(data_type, value, &mut "$".to_owned(), &mut row)?;
    Ok(row)
}

fn put(data_type: &DataType, value: &Document, path: &mut String, row: &mut Vec<u8>) -> Result<(), ValueError> {
    let mismatch = |path: &str| mismatch(path, data_type, value);
    macro_rules! integer {
        ($rust:ty) => {{
            let number = value.digits().and_then(|digits| digits.parse::<$rust>().ok());
            row.extend_from_slice(&number.ok_or_else(|| mismatch(path))?.to_le_bytes());
        }};
    }
    match data_type {
        DataType::Bool => match value {
            Document::Bool(truth) => row.push((*truth).into()),
            _no_truth => return Err(mismatch(path)),
        },
        DataType::Int8 => integer!(i8),
        DataType::Int16 => integer!(i16),
        DataType::Int32 => integer!(i32),
        DataType::Int64 => integer!(i64),
        DataType::UInt8 => integer!(u8),
        DataType::UInt16 => integer!(u16),
        DataType::UInt32 => integer!(u32),
        DataType::UInt64 => integer!(u64),
        DataType::Float32 => {
            let bits = float32(value).ok_or_else(|| mismatch(path))?;
            row.extend_from_slice(&bits.to_le_bytes());
        }
        DataType::Float64 => {
            let bits = float64(value).ok_or_else(|| mismatch(path))?;
            row.extend_from_slice(&bits.to_le_bytes());
        }
        DataType::String => write_bytes(row, value.as_str().ok_or_else(|| mismatch(path))?.as_bytes()),
        DataType::Bytes => {
            let bytes = value.as_str().and_then(from_hexadecimal);
            write_bytes(row, &bytes.ok_or_else(|| mismatch(path))?);
        }
        DataType::Option(inner) => put_option(data_type, inner, value, (path, row))?,
        DataType::List(item) => {
            let items = value.elements().ok_or_else(|| mismatch(path))?;
            write_count(row, items.len());
            for (index, value) in items.iter().enumerate() {
                below(path, &format!("[{index}]"), |path| put(item, value, path, row))?;
            }
        }
        DataType::Map(key, item) => put_map((key, item), value, data_type, (path, row))?,
        DataType::Struct { fields, .. } => put_fields(fields, value, data_type, (path, row))?,
        DataType::Enum { variants, .. } => put_variant(variants, value, data_type, (path, row))?,
    }
    Ok(())
}

/// Where a value is, and where its bytes go.
type Place<'a> = (&'a mut String, &'a mut Vec<u8>);

fn put_option(whole: &DataType, inner: &DataType, value: &Document, (path, row): Place<'_>) -> Result<(), ValueError> {
    if *value == Document::Null {
        row.push(0);
        return Ok(());
    }
    row.push(1);
    if !may_be_null(inner) {
        return put(inner, value, path, row);
    }
    match value
        .field(SOME)
        .filter(|_some| value.fields().is_some_and(|fields| fields.len() == 1))
    {
        Some(value) => below(path, ".some", |path| put(inner, value, path, row)),
        None => Err(mismatch(path, whole, value)),
    }
}

fn put_map(
    (key, item): (&DataType, &DataType),
    value: &Document,
    whole: &DataType,
    (path, row): Place<'_>,
) -> Result<(), ValueError> {
    let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut add = |name: &Document, value: &Document, path: &mut String| {
        let (mut key_row, mut value_row) = (Vec::new(), Vec::new());
        put(key, name, path, &mut key_row)?;
        put(item, value, path, &mut value_row)?;
        entries.push((key_row, value_row));
        Ok::<(), ValueError>(())
    };
    if *key == DataType::String {
        let object = value.fields().ok_or_else(|| mismatch(path, whole, value))?;
        for (name, value) in object {
            let step = format!(".{name}");
            below(path, &step, |path| add(&Document::String(name.clone()), value, path))?;
        }
    } else {
        let array = value.elements().ok_or_else(|| mismatch(path, whole, value))?;
        for (index, entry) in array.iter().enumerate() {
            below(path, &format!("[{index}]"), |path| match entry_of(entry) {
                Some((name, value)) => add(name, value, path),
                None => Err(ValueError::Mismatch {
                    path: path.clone(),
                    expected: "`{\"key\": …, \"value\": …}`".to_owned(),
                    found: shown(entry),
                }),
            })?;
        }
    }
    let order = |a: &[u8], b: &[u8]| {
        compare(key, &mut RowReader::new(a), &mut RowReader::new(b)).expect("both keys were just encoded by their type")
    };
    entries.sort_by(|a, b| order(&a.0, &b.0));
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        let key = super::Renderer::new(key).render(&pair[0].0).unwrap_or_default();
        let path = path.clone();
        return Err(ValueError::RepeatedKey { path, key });
    }
    write_count(row, entries.len());
    for (key, value) in entries {
        row.extend_from_slice(&key);
        row.extend_from_slice(&value);
    }
    Ok(())
}

fn entry_of(entry: &Document) -> Option<(&Document, &Document)> {
    entry.fields().filter(|fields| fields.len() == 2)?;
    Some((entry.field("key")?, entry.field("value")?))
}

fn put_fields(fields: &[Field], value: &Document, whole: &DataType, (path, row): Place<'_>) -> Result<(), ValueError> {
    if is_tuple(fields) {
        let values = value.elements().filter(|values| values.len() == fields.len());
        let values = values.ok_or_else(|| mismatch(path, whole, value))?;
        for (index, (field, value)) in fields.iter().zip(values).enumerate() {
            below(path, &format!("[{index}]"), |path| {
                put(&field.data_type, value, path, row)
            })?;
        }
        return Ok(());
    }
    let known = value.fields().ok_or_else(|| mismatch(path, whole, value))?;
    refuse_unknown(fields, known, path)?;
    for field in fields {
        let value = value.field(&field.name).ok_or_else(|| ValueError::MissingField {
            path: path.clone(),
            field: field.name.clone(),
        })?;
        below(path, &format!(".{}", field.name), |path| {
            put(&field.data_type, value, path, row)
        })?;
    }
    Ok(())
}

fn refuse_unknown(fields: &[Field], object: &[(String, Document)], path: &str) -> Result<(), ValueError> {
    match object
        .iter()
        .find(|(name, _value)| fields.iter().all(|field| field.name != *name))
    {
        None => Ok(()),
        Some((unknown, _value)) => Err(ValueError::UnknownField {
            path: path.to_owned(),
            field: unknown.clone(),
            known: names(fields.iter().map(|field| &field.name)),
        }),
    }
}

fn put_variant(
    variants: &[Variant],
    value: &Document,
    whole: &DataType,
    (path, row): Place<'_>,
) -> Result<(), ValueError> {
    let (name, body) = match value {
        Document::String(name) => (name, None),
        Document::Object(fields) if fields.len() == 1 => (&fields[0].0, Some(&fields[0].1)),
        _other => return Err(mismatch(path, whole, value)),
    };
    let found = variants.iter().position(|variant| variant.name == *name);
    let (index, fields) = match found.map(|index| (index, &variants[index].fields)) {
        Some((index, fields)) if fields.is_empty() == body.is_none() => (index, fields),
        _unknown_or_of_another_shape => return Err(mismatch(path, whole, value)),
    };
    write_count(row, index);
    match body {
        Some(body) => below(path, &format!(".{name}"), |path| {
            put_fields(fields, body, whole, (path, row))
        }),
        None => Ok(()),
    }
}

/// Goes one step into the value, and back.
fn below(
    path: &mut String,
    step: &str,
    inside: impl FnOnce(&mut String) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    let length = path.len();
    path.push_str(step);
    let outcome = inside(path);
    path.truncate(length);
    outcome
}

fn mismatch(path: &str, expected: &DataType, found: &Document) -> ValueError {
    ValueError::Mismatch {
        path: path.to_owned(),
        expected: cut(&expected.to_string()),
        found: shown(found),
    }
}

fn shown(value: &Document) -> String {
    cut(&value.to_string())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((at, _char)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    cut(&names.join(", "))
}

fn float32(value: &Document) -> Option<u32> {
    if let Some(name) = value.as_str() {
        return match name {
            "NaN" => Some(f32::NAN),
            "Infinity" => Some(f32::INFINITY),
            "-Infinity" => Some(f32::NEG_INFINITY),
            other => {
                let bits = u32::from_str_radix(bits_of(other, 8)?, 16).ok()?;
                return Some(bits).filter(|bits| f32::from_bits(*bits).is_nan());
            }
        }
        .map(f32::to_bits);
    }
    let number: f32 = value.digits()?.parse().ok()?;
    number.is_finite().then(|| number.to_bits())
}

fn float64(value: &Document) -> Option<u64> {
    if let Some(name) = value.as_str() {
        return match name {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            other => {
                let bits = u64::from_str_radix(bits_of(other, 16)?, 16).ok()?;
                return Some(bits).filter(|bits| f64::from_bits(*bits).is_nan());
            }
        }
        .map(f64::to_bits);
    }
    let number: f64 = value.digits()?.parse().ok()?;
    number.is_finite().then(|| number.to_bits())
}

/// The hexadecimal digits of `NaN:…`.
fn bits_of(text: &str, digits: usize) -> Option<&str> {
    text.strip_prefix("NaN:")
        .filter(|bits| bits.len() == digits && bits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn from_hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix("0x")?.as_bytes();
    if digits.len() % 2 != 0 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    digits
        .chunks_exact(2)
        .map(|pair| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok())
        .collect()
}
