//! What a migration does, and what stands against one, for people.

use std::fmt;

use crate::row::DataType;

/// One thing that a migration does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Where in the value: fields and variants by name, `[]` for the elements of a list, `{}` for the values of a map. Empty
    /// for the value itself.
    pub path: String,
    /// What.
    pub kind: ChangeKind,
}

/// What a migration does at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    /// A field is new and gets its default.
    Added,
    /// A field is gone, and with it its values.
    Removed,
    /// A field or variant has another name.
    Renamed {
        /// The name in the snapshot.
        from: String,
    },
    /// The fields of a struct, or the variants of an enum, are in another order.
    Reordered,
    /// A number has a wider type, or a value became an option.
    Widened {
        /// The type in the snapshot.
        from: DataType,
        /// The type in the application.
        to: DataType,
    },
    /// A variant is new.
    VariantAdded,
    /// A value gets a time to live.
    Expiring,
    /// A value has no time to live any more.
    Lasting,
    /// A function of the application is called.
    Converted {
        /// What it takes.
        from: DataType,
        /// What it makes.
        to: DataType,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = Place(&self.path);
        match &self.kind {
            ChangeKind::Added => write!(f, "adds {place}"),
            ChangeKind::Removed => write!(f, "removes {place}"),
            ChangeKind::Renamed { from } => write!(f, "renames `{from}` to {place}"),
            ChangeKind::Reordered => write!(f, "reorders {place}"),
            ChangeKind::Widened { from, to } => write!(f, "widens {place} from {from} to {to}"),
            ChangeKind::VariantAdded => write!(f, "adds variant {place}"),
            ChangeKind::Expiring => write!(f, "gives {place} a time to live, from the restore on"),
            ChangeKind::Lasting => write!(f, "takes the time to live from {place}"),
            ChangeKind::Converted { from, to } => {
                write!(f, "converts {place} from {} to {}", short(from), short(to))
            }
        }
    }
}

/// Why stored rows cannot be read as the present type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Where in the value, as in [`Change::path`].
    pub path: String,
    /// What.
    pub kind: MismatchKind,
}

/// What stands against a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MismatchKind {
    /// Nothing makes the one type of the other.
    Type {
        /// The type in the snapshot.
        stored: DataType,
        /// The type in the application.
        declared: DataType,
    },
    /// A new field has no default.
    NoDefault {
        /// Its type.
        declared: DataType,
    },
    /// A variant is gone: a row that holds it would have no value.
    VariantGone,
    /// No field of the stored struct would be kept.
    NothingKept {
        /// The type in the snapshot.
        stored: DataType,
        /// The type in the application.
        declared: DataType,
    },
    /// The keys of a map have another type.
    MapKey {
        /// The type in the snapshot.
        stored: DataType,
        /// The type in the application.
        declared: DataType,
    },
    /// The key of the state has another type.
    Key {
        /// The type in the snapshot.
        stored: DataType,
        /// The type in the application.
        declared: DataType,
    },
}

impl Mismatch {
    /// What to do about it.
    pub fn remedy(&self) -> String {
        match &self.kind {
            MismatchKind::Type { stored, .. } | MismatchKind::NothingKept { stored, .. } => format!(
                "keep the type {}, give the new type a function with #[state(migrate = ...)], or keep the new type under a \
                 new state name",
                short(stored)
            ),
            MismatchKind::NoDefault { .. } => "give the field a default with #[state(default)] or \
                 #[state(default = ...)], name the old field with #[state(alias = \"...\")], or make it an Option"
                .to_owned(),
            MismatchKind::VariantGone => {
                "keep the variant, or name it as an older name of another one with #[state(alias = \"...\")]".to_owned()
            }
            MismatchKind::MapKey { stored, .. } => format!(
                "keep the key type {}, or give the type around the map a function with #[state(migrate = ...)]",
                short(stored)
            ),
            MismatchKind::Key { stored, .. } => format!(
                "key by {} again; a new key needs a new state, filled by replaying the source",
                short(stored)
            ),
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = Place(&self.path);
        match &self.kind {
            MismatchKind::Type { stored, declared } => {
                write!(
                    f,
                    "{place} is `{stored}` in the snapshot and `{declared}` in the application"
                )
            }
            MismatchKind::NoDefault { declared } => {
                write!(
                    f,
                    "{place}, of type `{declared}`, is not in the snapshot and has no default"
                )
            }
            MismatchKind::VariantGone => write!(f, "variant {place} of the snapshot is not in the application"),
            MismatchKind::NothingKept { stored, declared } => {
                write!(
                    f,
                    "{place} is `{stored}` in the snapshot, of which `{declared}` keeps no field"
                )
            }
            MismatchKind::MapKey { stored, declared } => {
                match self.path.as_str() {
                    "" => f.write_str("the key of the map")?,
                    path => write!(f, "the key of map `{path}`")?,
                }
                write!(f, " is `{stored}` in the snapshot and `{declared}` in the application")
            }
            MismatchKind::Key { stored, declared } => {
                write!(
                    f,
                    "the key is `{stored}` in the snapshot and `{declared}` in the application"
                )
            }
        }
    }
}

impl std::error::Error for Mismatch {}

/// A path as it reads in a sentence.
struct Place<'a>(&'a str);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => f.write_str("the value"),
            path => write!(f, "`{path}`"),
        }
    }
}

/// A type by its name where it has one: a hint is to be read at a glance.
fn short(data_type: &DataType) -> String {
    match data_type {
        DataType::Struct { name, .. } | DataType::Enum { name, .. } if !name.is_empty() => format!("`{name}`"),
        other => format!("`{other}`"),
    }
}
