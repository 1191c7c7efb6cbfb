//! Two schemas compared, once, into the steps that every row takes.

use super::change::{Change, ChangeKind, Mismatch, MismatchKind};
use super::expiring::value_of_expiring;
use crate::evolution::{Evolution, Function, TypeEvolution};
use crate::row::{DataType, Field, Variant};
use crate::time::WallTime;

/// How rows of a stored type become rows of the present one.
#[derive(Debug, Clone)]
pub struct Migration {
    pub(super) step: Step,
    changes: Vec<Change>,
}

/// What is done with one value.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// It stays as it is.
    Copy(DataType),
    /// A number becomes a wider one.
    Widen { from: Number, to: Number },
    /// A value becomes an option that is there.
    Wrap(Box<Step>),
    /// What is in an option changes.
    Option(Box<Step>),
    /// The elements of a list change.
    List(Box<Step>),
    /// The values of a map change.
    Map { key: DataType, value: Box<Step> },
    /// Fields change.
    Struct(Record),
    /// For each stored variant, its present index and what becomes of its fields.
    Enum(Vec<(u32, Record)>),
    /// A value gets a time to live, which begins at this time.
    Stamp(WallTime, Box<Step>),
    /// A value has no time to live any more.
    Unstamp(Box<Step>),
    /// A function of the application makes the new value.
    Convert { from: DataType, function: Option<Function> },
}

/// What becomes of the fields of a struct or variant.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// The types of the stored fields, in order.
    pub stored: Vec<DataType>,
    /// Where each present field comes from, in order.
    pub fields: Vec<Origin>,
}

/// Where a field comes from.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// The stored field at this position.
    Stored(usize, Step),
    /// Its default, as a row.
    Default(Vec<u8>),
}

/// A number's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Signed(u8),
    Unsigned(u8),
    Float(u8),
}

impl Migration {
    /// Compares a stored type with the present one. Errors, for the first part that nothing makes the new one of.
    pub fn resolve(stored: &DataType, declared: &DataType, evolution: &Evolution) -> Result<Self, Mismatch> {
        Self::resolve_at(stored, declared, evolution, WallTime(0))
    }

    /// As [`resolve`](Self::resolve), for rows that are restored at this time: from it on counts the time to live of values that get
    /// one.
    pub fn resolve_at(
        stored: &DataType,
        declared: &DataType,
        evolution: &Evolution,
        now: WallTime,
    ) -> Result<Self, Mismatch> {
        let mut resolver = Resolver {
            evolution,
            now,
            changes: Vec::new(),
        };
        let step = resolver.value("", stored, declared)?;
        Ok(Self {
            step,
            changes: resolver.changes,
        })
    }

    /// Whether rows stay as they are.
    pub fn is_identity(&self) -> bool {
        matches!(self.step, Step::Copy(_))
    }

    /// What it does, for people. Empty if rows stay as they are.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }
}

struct Resolver<'a> {
    evolution: &'a Evolution,
    now: WallTime,
    changes: Vec<Change>,
}

impl Resolver<'_> {
    fn value(&mut self, path: &str, stored: &DataType, declared: &DataType) -> Result<Step, Mismatch> {
        if stored.is_same_schema(declared) {
            return Ok(Step::Copy(stored.clone()));
        }
        if let Some(step) = self.conversion(path, stored, declared) {
            return Ok(step);
        }
        if let (Some(from), Some(to)) = (Number::of(stored), Number::of(declared))
            && from.fits_in(to)
        {
            self.widened(path, stored, declared);
            return Ok(Step::Widen { from, to });
        }
        match (value_of_expiring(stored), value_of_expiring(declared)) {
            (None, Some(new)) => {
                self.change(path, ChangeKind::Expiring);
                return Ok(Step::Stamp(self.now, Box::new(self.value(path, stored, new)?)));
            }
            (Some(old), None) => {
                self.change(path, ChangeKind::Lasting);
                return Ok(Step::Unstamp(Box::new(self.value(path, old, declared)?)));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        match (stored, declared) {
            (DataType::Option(old), DataType::Option(new)) => Ok(Step::Option(Box::new(self.value(path, old, new)?))),
            (_, DataType::Option(new)) => {
                self.widened(path, stored, declared);
                Ok(Step::Wrap(Box::new(self.value(path, stored, new)?)))
            }
            (DataType::List(old), DataType::List(new)) => self.list(path, old, new),
            // A list of bytes has a type of its own, and the rows of any list.
            (DataType::Bytes, DataType::List(new)) => self.list(path, &DataType::UInt8, new),
            (DataType::List(old), DataType::Bytes) if **old == DataType::UInt8 => Ok(Step::Copy(DataType::Bytes)),
            (DataType::List(old), DataType::Bytes) if value_of_expiring(old) == Some(&DataType::UInt8) => {
                self.list(path, old, &DataType::UInt8)
            }
            (DataType::Map(old_key, old), DataType::Map(new_key, new)) => {
                if !old_key.is_same_schema(new_key) {
                    return Err(mismatch(
                        path,
                        MismatchKind::MapKey {
                            stored: (**old_key).clone(),
                            declared: (**new_key).clone(),
                        },
                    ));
                }
                let key = (**old_key).clone();
                let value = Box::new(self.value(&format!("{path}{{}}"), old, new)?);
                Ok(Step::Map { key, value })
            }
            (DataType::Struct { fields: old, .. }, DataType::Struct { fields: new, .. }) => {
                let known = self.evolution.get(declared);
                let record = self.record(path, None, (old, new), known)?;
                if !old.is_empty() && !new.is_empty() && record.keeps_nothing() {
                    return Err(mismatch(
                        path,
                        MismatchKind::NothingKept {
                            stored: stored.clone(),
                            declared: declared.clone(),
                        },
                    ));
                }
                Ok(Step::Struct(record))
            }
            (DataType::Enum { variants: old, .. }, DataType::Enum { variants: new, .. }) => {
                let known = self.evolution.get(declared);
                self.variants(path, (old, new), known).map(Step::Enum)
            }
            _others => Err(mismatch(
                path,
                MismatchKind::Type {
                    stored: stored.clone(),
                    declared: declared.clone(),
                },
            )),
        }
    }

    fn list(&mut self, path: &str, old: &DataType, new: &DataType) -> Result<Step, Mismatch> {
        Ok(match self.value(&format!("{path}[]"), old, new)? {
            Step::Copy(item) => Step::Copy(DataType::List(Box::new(item))),
            step => Step::List(Box::new(step)),
        })
    }

    fn conversion(&mut self, path: &str, stored: &DataType, declared: &DataType) -> Option<Step> {
        let known = self.evolution.get(declared)?;
        let conversion = known.conversions.iter().find(|c| c.from.is_same_schema(stored))?;
        self.change(
            path,
            ChangeKind::Converted {
                from: stored.clone(),
                to: declared.clone(),
            },
        );
        Some(Step::Convert {
            from: stored.clone(),
            function: conversion.function.clone(),
        })
    }

    /// The fields of a struct, or of this variant.
    fn record(
        &mut self,
        path: &str,
        variant: Option<&str>,
        (old, new): (&[Field], &[Field]),
        known: Option<&TypeEvolution>,
    ) -> Result<Record, Mismatch> {
        let mut origins = Vec::with_capacity(new.len());
        let mut taken = Vec::new();
        for field in new {
            let place = join(path, &field.name);
            let says = known.and_then(|known| known.of_field(variant, &field.name));
            let aliases = says.map_or(&[][..], |says| &says.aliases);
            match source_of(field, aliases, old, new) {
                Some(position) => {
                    let stored = &old[position];
                    if stored.name != field.name {
                        let from = stored.name.clone();
                        self.change(&place, ChangeKind::Renamed { from });
                    }
                    let step = self.value(&place, &stored.data_type, &field.data_type)?;
                    taken.push(position);
                    origins.push(Origin::Stored(position, step));
                }
                None => {
                    let default = says.and_then(|says| says.default.clone());
                    let default = default.or_else(|| nothing(&field.data_type)).ok_or_else(|| {
                        let declared = field.data_type.clone();
                        mismatch(&place, MismatchKind::NoDefault { declared })
                    })?;
                    self.change(&place, ChangeKind::Added);
                    origins.push(Origin::Default(default));
                }
            }
        }
        if !taken.is_sorted() {
            self.change(path, ChangeKind::Reordered);
        }
        for (position, field) in old.iter().enumerate() {
            if !taken.contains(&position) {
                self.change(&join(path, &field.name), ChangeKind::Removed);
            }
        }
        let stored = old.iter().map(|field| field.data_type.clone()).collect();
        Ok(Record {
            stored,
            fields: origins,
        })
    }

    fn variants(
        &mut self,
        path: &str,
        (old, new): (&[Variant], &[Variant]),
        known: Option<&TypeEvolution>,
    ) -> Result<Vec<(u32, Record)>, Mismatch> {
        let aliases = |name: &str| known.map_or(&[][..], |known| known.aliases_of_variant(name));
        let mut steps = Vec::with_capacity(old.len());
        for variant in old {
            let same = new.iter().position(|other| other.name == variant.name);
            let renamed = || {
                new.iter()
                    .position(|other| aliases(&other.name).contains(&variant.name))
            };
            let Some(position) = same.or_else(renamed) else {
                return Err(mismatch(&join(path, &variant.name), MismatchKind::VariantGone));
            };
            let declared = &new[position];
            let place = join(path, &declared.name);
            if declared.name != variant.name {
                let from = variant.name.clone();
                self.change(&place, ChangeKind::Renamed { from });
            }
            let fields = (variant.fields.as_slice(), declared.fields.as_slice());
            let record = self.record(&place, Some(&declared.name), fields, known)?;
            let index = u32::try_from(position).expect("an enum of Rust has fewer than 2^32 variants");
            steps.push((index, record));
        }
        let indexes: Vec<u32> = steps.iter().map(|(index, _record)| *index).collect();
        if !indexes.is_sorted() {
            self.change(path, ChangeKind::Reordered);
        }
        for (index, variant) in (0u32..).zip(new) {
            if !indexes.contains(&index) {
                self.change(&join(path, &variant.name), ChangeKind::VariantAdded);
            }
        }
        Ok(steps)
    }

    fn widened(&mut self, path: &str, from: &DataType, to: &DataType) {
        self.change(
            path,
            ChangeKind::Widened {
                from: from.clone(),
                to: to.clone(),
            },
        );
    }

    fn change(&mut self, path: &str, kind: ChangeKind) {
        self.changes.push(Change {
            path: path.to_owned(),
            kind,
        });
    }
}

impl Record {
    fn keeps_nothing(&self) -> bool {
        self.fields.iter().all(|field| matches!(field, Origin::Default(_)))
    }
}

/// The stored field that a present one continues: the one of its name, else one of an older name of its that no present field
/// has.
fn source_of(field: &Field, aliases: &[String], old: &[Field], new: &[Field]) -> Option<usize> {
    let named = |name: &str| old.iter().position(|stored| stored.name == name);
    named(&field.name).or_else(|| {
        let free = |alias: &&String| !new.iter().any(|other| other.name == **alias);
        aliases.iter().filter(free).find_map(|alias| named(alias))
    })
}

/// The default of a type that has a natural one: an option is absent.
fn nothing(data_type: &DataType) -> Option<Vec<u8>> {
    match data_type {
        DataType::Option(_) => Some(vec![0]),
        _other => None,
    }
}

impl Number {
    fn of(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Int8 => Self::Signed(1),
            DataType::Int16 => Self::Signed(2),
            DataType::Int32 => Self::Signed(4),
            DataType::Int64 => Self::Signed(8),
            DataType::UInt8 => Self::Unsigned(1),
            DataType::UInt16 => Self::Unsigned(2),
            DataType::UInt32 => Self::Unsigned(4),
            DataType::UInt64 => Self::Unsigned(8),
            DataType::Float32 => Self::Float(4),
            DataType::Float64 => Self::Float(8),
            _other => return None,
        })
    }

    /// Whether every number of this type is one of the other.
    fn fits_in(self, wider: Self) -> bool {
        match (self, wider) {
            (Self::Signed(from), Self::Signed(to))
            | (Self::Unsigned(from), Self::Unsigned(to) | Self::Signed(to))
            // Half of a float's width holds integers exactly: 24 of 32 bits, 53 of 64.
            | (Self::Signed(from) | Self::Unsigned(from), Self::Float(to))
            | (Self::Float(from), Self::Float(to)) => from < to,
            (Self::Signed(_), Self::Unsigned(_)) | (Self::Float(_), Self::Signed(_) | Self::Unsigned(_)) => false,
        }
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    }
}

fn mismatch(path: &str, kind: MismatchKind) -> Mismatch {
    Mismatch {
        path: path.to_owned(),
        kind,
    }
}
