//! What can be kept in state: types that know their schema and their canonical encoding.

mod collections;
mod short_text;

use std::hash::Hash;
use std::mem::needs_drop;

pub use smol_str::SmolStr;
use streamd_prefetch::prefetch;
use xxhash_rust::xxh3::xxh3_64;

use crate::evolution::Evolution;
use crate::row::{DataType, Field, MAX_EMPTY_ELEMENTS, RowError, RowReader, write_bytes, write_count};

/// A type that streamd can keep in state, write into snapshots and read back.
///
/// Derive it: `#[derive(Clone, State)]` on a struct or enum whose fields are `State` themselves. The names of fields and
/// variants are their identity in every snapshot.
///
/// Guarantees of an implementation: `decode(encode(x)) == x`; equal values encode to equal bytes; `encode` writes exactly
/// what [`data_type`](Self::data_type) announces; `decode` never panics, whatever the bytes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be kept in state",
    label = "this type has no `State`",
    note = "derive it: `#[derive(Clone, State)]` on the type, whose fields are `State` themselves"
)]
pub trait State: Clone + Send + Sync + 'static {
    /// The schema of the type.
    fn data_type() -> DataType;

    /// Appends the canonical encoding to `row`.
    fn encode(&self, row: &mut Vec<u8>);

    /// Reads a value back. Errors if the bytes are no value of this type.
    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError>;

    /// Whether [`prefetch`](Self::prefetch) has something to ask for, as a rule.
    #[doc(hidden)]
    const OWNS_MEMORY: bool = needs_drop::<Self>();

    /// Asks for memory that the value owns, so that it is near when it is read: for some dozens of values at once, which the processor
    /// then waits for together. Says nothing about the value.
    #[doc(hidden)]
    #[inline]
    fn prefetch(&self) {}

    /// The schema of a list of values. Only `u8` has one of its own: a list of bytes is [`DataType::Bytes`].
    #[doc(hidden)]
    fn list_data_type() -> DataType {
        DataType::List(Box::new(Self::data_type()))
    }

    /// Appends the canonical encoding of a list.
    #[doc(hidden)]
    fn encode_list(list: &[Self], row: &mut Vec<u8>) {
        write_count(row, list.len());
        let before = row.len();
        list.iter().for_each(|element| element.encode(row));
        check_elements(list.len(), row.len() - before);
    }

    /// Reads a list back.
    #[doc(hidden)]
    fn decode_list(row: &mut RowReader<'_>) -> Result<Vec<Self>, RowError> {
        let count = row.elements()?;
        // Reserve for no more elements than bytes are left: a forged count must not allocate.
        let mut list = Vec::with_capacity(count.min(row.remaining().len()));
        for _ in 0..count {
            list.push(Self::decode(row)?);
        }
        Ok(list)
    }

    /// Adds what this type, and the types within it, say of their older versions. Derived from the attributes `alias`,
    /// `default` and `migrate`; a type written by hand has nothing to say unless it overrides this.
    #[doc(hidden)]
    fn describe_evolution(_evolution: &mut Evolution) {}

    /// The hash that places a key: XXH3-64 of the canonical encoding. Stable for ever (see [`crate::key_group`]).
    fn stable_hash(&self) -> u64 {
        // The buffer is taken out while it is used: an `encode` that hashes on its own finds an empty one.
        let mut row = HASHED_ROW.take();
        row.clear();
        self.encode(&mut row);
        let hash = xxh3_64(&row);
        HASHED_ROW.set(row);
        hash
    }
}

thread_local! {
    /// The row of the key being hashed: one allocation for each thread, not for each record.
    static HASHED_ROW: std::cell::Cell<Vec<u8>> = const { std::cell::Cell::new(Vec::new()) };
}

/// What a stream can be keyed by: any [`State`] type with equality. Floating-point numbers have none, and so are no keys.
#[diagnostic::on_unimplemented(
    message = "a stream cannot be keyed by `{Self}`",
    label = "this type is no key",
    note = "derive what keys need: `#[derive(Clone, PartialEq, Eq, Hash, State)]`; floating-point numbers are no keys"
)]
pub trait Key: State + Eq + Hash {}

impl<T: State + Eq + Hash> Key for T {}

/// Encodes a value into a row of its own.
pub fn to_row<T: State>(value: &T) -> Vec<u8> {
    let mut row = Vec::new();
    value.encode(&mut row);
    row
}

/// Decodes a value that fills the whole row.
pub fn from_row<T: State>(row: &[u8]) -> Result<T, RowError> {
    let mut reader = RowReader::new(row);
    let value = T::decode(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// Asks for the first and the last element: of a short list, all of its cache lines.
#[inline]
fn prefetch_ends<T>(list: &[T]) {
    if let (Some(first), Some(last)) = (list.first(), list.last()) {
        prefetch(first);
        prefetch(last);
    }
}

/// Refuses, while a value is written, what [`RowReader::elements`] would refuse when it is read.
fn check_elements(count: usize, bytes: usize) {
    assert!(
        count <= bytes.max(MAX_EMPTY_ELEMENTS),
        "a list or map in state holds at most {MAX_EMPTY_ELEMENTS} elements without a byte, not {count}"
    );
}

macro_rules! fixed_width {
    ($($rust:ty => $data_type:ident { $($more:item)* }),* $(,)?) => {$(
        impl State for $rust {
            $($more)*

            fn data_type() -> DataType {
                DataType::$data_type
            }

            #[inline]
            fn encode(&self, row: &mut Vec<u8>) {
                row.extend_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
                row.array().map(<$rust>::from_le_bytes)
            }

            #[inline]
            fn stable_hash(&self) -> u64 {
                xxh3_64(&self.to_le_bytes())
            }
        }
    )*};
}

fixed_width! {
    i8 => Int8 {}, i16 => Int16 {}, i32 => Int32 {}, i64 => Int64 {},
    u16 => UInt16 {}, u32 => UInt32 {}, u64 => UInt64 {},
    f32 => Float32 {}, f64 => Float64 {},
    u8 => UInt8 {
        fn list_data_type() -> DataType {
            DataType::Bytes
        }

        fn encode_list(list: &[u8], row: &mut Vec<u8>) {
            write_bytes(row, list);
        }

        fn decode_list(row: &mut RowReader<'_>) -> Result<Vec<u8>, RowError> {
            row.bytes().map(<[u8]>::to_vec)
        }
    },
}

impl State for bool {
    fn data_type() -> DataType {
        DataType::Bool
    }

    fn encode(&self, row: &mut Vec<u8>) {
        row.push(u8::from(*self));
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        row.truth()
    }
}

macro_rules! text {
    ($($(#[$note:meta])* $rust:ty { $($more:item)* }),* $(,)?) => {$(
        $(#[$note])*
        impl State for $rust {
            $($more)*

            fn data_type() -> DataType {
                DataType::String
            }

            fn encode(&self, row: &mut Vec<u8>) {
                write_bytes(row, self.as_bytes());
            }

            #[inline]
            fn prefetch(&self) {
                prefetch_ends(self.as_bytes());
            }

            fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
                row.text().map(Self::from)
            }

            #[inline]
            fn stable_hash(&self) -> u64 {
                hash_of_text(self)
            }
        }
    )*};
}

text! {
    String {},
    /// A text of up to 23 bytes is no allocation, and a copy of a longer one is a pointer: for keys that are texts. In snapshots it is
    /// what a `String` is.
    SmolStr {
        const OWNS_MEMORY: bool = false;
    },
}

/// The hash of a text's row.
#[inline]
fn hash_of_text(text: &str) -> u64 {
    if text.len() <= short_text::LONGEST {
        return short_text::hash(text.as_bytes());
    }
    // Most others fit on the stack, with their row.
    let mut row = [0; 64];
    match row.get_mut(4..4 + text.len()) {
        Some(place) => {
            place.copy_from_slice(text.as_bytes());
            row[..4].copy_from_slice(&(text.len() as u32).to_le_bytes());
            xxh3_64(&row[..4 + text.len()])
        }
        None => {
            let mut row = Vec::with_capacity(4 + text.len());
            write_bytes(&mut row, text.as_bytes());
            xxh3_64(&row)
        }
    }
}

impl State for () {
    fn data_type() -> DataType {
        DataType::structure("()", [])
    }

    fn encode(&self, _row: &mut Vec<u8>) {}

    fn decode(_row: &mut RowReader<'_>) -> Result<Self, RowError> {
        Ok(())
    }

    #[inline]
    fn stable_hash(&self) -> u64 {
        xxh3_64(&[])
    }
}

impl<T: State> State for Option<T> {
    const OWNS_MEMORY: bool = T::OWNS_MEMORY;

    fn data_type() -> DataType {
        DataType::Option(Box::new(T::data_type()))
    }

    fn encode(&self, row: &mut Vec<u8>) {
        row.push(u8::from(self.is_some()));
        if let Some(value) = self {
            value.encode(row);
        }
    }

    #[inline]
    fn prefetch(&self) {
        if let Some(value) = self {
            value.prefetch();
        }
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        if bool::decode(row)? {
            T::decode(row).map(Some)
        } else {
            Ok(None)
        }
    }

    fn describe_evolution(evolution: &mut Evolution) {
        T::describe_evolution(evolution);
    }
}

macro_rules! tuple {
    ($($name:ident . $index:tt),+) => {
        impl<$($name: State),+> State for ($($name,)+) {
            const OWNS_MEMORY: bool = false $(|| $name::OWNS_MEMORY)+;

            fn data_type() -> DataType {
                DataType::Struct {
                    name: "tuple".to_owned(),
                    fields: vec![$(Field { name: stringify!($index).to_owned(), data_type: $name::data_type() }),+],
                }
            }

            fn encode(&self, row: &mut Vec<u8>) {
                $(self.$index.encode(row);)+
            }

            #[inline]
            fn prefetch(&self) {
                $(self.$index.prefetch();)+
            }

            fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
                Ok(($($name::decode(row)?,)+))
            }

            fn describe_evolution(evolution: &mut Evolution) {
                $($name::describe_evolution(evolution);)+
            }
        }
    };
}

tuple!(A.0);
tuple!(A.0, B.1);
tuple!(A.0, B.1, C.2);
tuple!(A.0, B.1, C.2, D.3);
tuple!(A.0, B.1, C.2, D.3, E.4);
tuple!(A.0, B.1, C.2, D.3, E.4, F.5);

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
