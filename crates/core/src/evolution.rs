//! What a type says of its older versions: the defaults of new fields, the old names of renamed ones, and functions for
//! whatever else has changed.
//!
//! It travels in the plan beside the schema, so that a snapshot can be compared with an application before anything runs
//! (see [`Migration`](crate::migration::Migration)). It is no part of a schema: what is stored knows nothing of its future.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::row::{DataType, RowError};
use crate::state::{State, from_row, to_row};

/// What the types within one stored type say of their older versions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Evolution {
    types: Vec<TypeEvolution>,
}

/// What one struct or enum says of its older versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeEvolution {
    /// The type as it is now.
    pub data_type: DataType,
    /// Its fields that have a default or older names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldEvolution>,
    /// Its variants that have older names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<VariantEvolution>,
    /// Functions that make it out of other types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conversions: Vec<Conversion>,
}

/// A field that may be missing, or called otherwise, in older versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldEvolution {
    /// The variant that it is a field of; `None` in a struct.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Its name.
    pub field: String,
    /// Names that it had.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Its value, as a row, where an older version has no such field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Vec<u8>>,
}

/// A variant that was called otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariantEvolution {
    /// Its name.
    pub variant: String,
    /// Names that it had.
    pub aliases: Vec<String>,
}

/// A function of the application that makes a type out of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion {
    /// What it takes.
    pub from: DataType,
    /// The function, in the application itself; a job manager knows only that there is one.
    #[serde(skip)]
    pub(crate) function: Option<Function>,
}

type RowFunction = dyn Fn(&[u8]) -> Result<Vec<u8>, RowError> + Send + Sync;

/// From a row of one type to a row of another.
#[derive(Clone)]
pub(crate) struct Function(pub(crate) Arc<RowFunction>);

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Function")
    }
}

// Code has no identity that could be compared: what it converts from has, and is.
impl PartialEq for Function {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Function {}

impl Evolution {
    /// What the types within `T` say.
    pub fn of<T: State>() -> Self {
        let mut evolution = Self::default();
        T::describe_evolution(&mut evolution);
        evolution
    }

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        self.types.is_empty()
    }

    /// Adds what a type says. Two types of one name and schema that say different things are as if they said nothing: which
    /// of them a stored value belongs to cannot be told.
    pub fn declare(&mut self, declared: TypeEvolution) {
        match self
            .types
            .iter_mut()
            .find(|known| known.data_type == declared.data_type)
        {
            Some(known) if *known == declared => {}
            Some(known) => *known = TypeEvolution::new(declared.data_type),
            None => self.types.push(declared),
        }
    }

    /// What is said of a type.
    pub fn get(&self, data_type: &DataType) -> Option<&TypeEvolution> {
        self.types.iter().find(|known| known.data_type == *data_type)
    }
}

impl TypeEvolution {
    /// A type that says nothing yet.
    pub fn new(data_type: DataType) -> Self {
        Self {
            data_type,
            fields: Vec::new(),
            variants: Vec::new(),
            conversions: Vec::new(),
        }
    }

    /// Adds a field of a struct, or of a variant.
    #[must_use]
    pub fn field(mut self, variant: Option<&str>, field: &str, aliases: &[&str], default: Option<Vec<u8>>) -> Self {
        self.fields.push(FieldEvolution {
            variant: variant.map(str::to_owned),
            field: field.to_owned(),
            aliases: owned(aliases),
            default,
        });
        self
    }

    /// Adds a variant.
    #[must_use]
    pub fn variant(mut self, variant: &str, aliases: &[&str]) -> Self {
        self.variants.push(VariantEvolution {
            variant: variant.to_owned(),
            aliases: owned(aliases),
        });
        self
    }

    /// Adds a function that makes the type out of another one.
    #[must_use]
    pub fn conversion<A: State, B: State>(mut self, convert: impl Fn(A) -> B + Send + Sync + 'static) -> Self {
        let function = move |row: &[u8]| from_row(row).map(|old| to_row(&convert(old)));
        self.conversions.push(Conversion {
            from: A::data_type(),
            function: Some(Function(Arc::new(function))),
        });
        self
    }

    /// What is said of a field.
    pub(crate) fn of_field(&self, variant: Option<&str>, field: &str) -> Option<&FieldEvolution> {
        self.fields
            .iter()
            .find(|known| known.field == field && known.variant.as_deref() == variant)
    }

    /// The older names of a variant.
    pub(crate) fn aliases_of_variant(&self, variant: &str) -> &[String] {
        let known = self.variants.iter().find(|known| known.variant == variant);
        known.map_or(&[], |known| &known.aliases)
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}
