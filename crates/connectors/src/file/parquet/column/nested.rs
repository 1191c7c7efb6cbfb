//! Lists, maps, structs and tuples in the making.

use arrow_buffer::NullBufferBuilder;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple, SerializeTupleStruct};

use super::{Column, Misfit};

/// A list in the making.
pub(in crate::file::parquet) struct ListRow<'a> {
    pub(super) element: &'a mut Column,
    pub(super) lengths: &'a mut Vec<usize>,
    pub(super) rows: &'a mut NullBufferBuilder,
    pub(super) length: usize,
}

impl SerializeSeq for ListRow<'_> {
    type Ok = ();
    type Error = Misfit;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Misfit> {
        self.length += 1;
        value.serialize(&mut *self.element)
    }

    fn end(self) -> Result<(), Misfit> {
        self.lengths.push(self.length);
        self.rows.append_non_null();
        Ok(())
    }
}

/// A map in the making.
pub(in crate::file::parquet) struct MapRow<'a> {
    pub(super) key: &'a mut Column,
    pub(super) value: &'a mut Column,
    pub(super) lengths: &'a mut Vec<usize>,
    pub(super) rows: &'a mut NullBufferBuilder,
    pub(super) length: usize,
}

impl SerializeMap for MapRow<'_> {
    type Ok = ();
    type Error = Misfit;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Misfit> {
        self.length += 1;
        key.serialize(&mut *self.key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Misfit> {
        value.serialize(&mut *self.value)
    }

    fn end(self) -> Result<(), Misfit> {
        self.lengths.push(self.length);
        self.rows.append_non_null();
        Ok(())
    }
}

/// A struct in the making: fields come in their order, as a rule, and may be left out.
pub(in crate::file::parquet) struct StructRow<'a> {
    pub(super) fields: &'a mut [Column],
    pub(super) count: &'a mut usize,
    pub(super) rows: &'a mut NullBufferBuilder,
    /// The field that is likely to come next.
    pub(super) next: usize,
}

impl StructRow<'_> {
    fn at<T: Serialize + ?Sized>(&mut self, index: usize, value: &T) -> Result<(), Misfit> {
        self.next = index + 1;
        let columns = self.fields.len();
        match self.fields.get_mut(index) {
            Some(column) => value.serialize(column),
            None => Err(Misfit(format!(
                "there are {columns} columns, and more fields than that"
            ))),
        }
    }

    fn finish(self) -> Result<(), Misfit> {
        *self.count += 1;
        self.rows.append_non_null();
        let count = *self.count;
        let mut missing = self.fields.iter_mut().filter(|field| field.rows() < count);
        missing.try_for_each(Column::append_null)
    }
}

impl SerializeStruct for StructRow<'_> {
    type Ok = ();
    type Error = Misfit;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Misfit> {
        let is_next = self
            .fields
            .get(self.next)
            .is_some_and(|column| column.field.name() == key);
        let index = match is_next {
            true => Some(self.next),
            false => self.fields.iter().position(|column| column.field.name() == key),
        };
        match index {
            Some(index) => self.at(index, value),
            None => Err(Misfit(format!("there is no column for the field `{key}`"))),
        }
    }

    fn end(self) -> Result<(), Misfit> {
        self.finish()
    }
}

/// A tuple in the making.
pub(in crate::file::parquet) struct TupleRow<'a>(pub(super) StructRow<'a>);

impl SerializeTuple for TupleRow<'_> {
    type Ok = ();
    type Error = Misfit;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Misfit> {
        self.0.at(self.0.next, value)
    }

    fn end(self) -> Result<(), Misfit> {
        self.0.finish()
    }
}

impl SerializeTupleStruct for TupleRow<'_> {
    type Ok = ();
    type Error = Misfit;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Misfit> {
        self.0.at(self.0.next, value)
    }

    fn end(self) -> Result<(), Misfit> {
        self.0.finish()
    }
}
