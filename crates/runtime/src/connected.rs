//! Two streams of different types as one: a record of either.

use serde::{Deserialize, Serialize};
use streamd_core::evolution::Evolution;
use streamd_core::row::{DataType, Field, RowError, RowReader, Variant};
use streamd_core::state::State;
use streamd_exchange::Batch;
use streamd_exchange::partition::ResultPartition;

use crate::chain::{AnyLink, ControlEvent, Link};
use crate::completions::Calls;
use crate::error::TaskError;
use crate::exit::Exit;
use crate::record::Record;

/// A record of one of two connected streams.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Either<A, B> {
    /// Of the first stream.
    First(A),
    /// Of the second.
    Second(B),
}

impl<A: State, B: State> State for Either<A, B> {
    fn data_type() -> DataType {
        let variant = |name: &str, data_type| Variant {
            name: name.to_owned(),
            fields: vec![Field {
                name: "0".to_owned(),
                data_type,
            }],
        };
        DataType::Enum {
            name: "Either".to_owned(),
            variants: vec![variant("First", A::data_type()), variant("Second", B::data_type())],
        }
    }

    fn encode(&self, row: &mut Vec<u8>) {
        match self {
            Self::First(first) => {
                0u32.encode(row);
                first.encode(row);
            }
            Self::Second(second) => {
                1u32.encode(row);
                second.encode(row);
            }
        }
    }

    fn decode(row: &mut RowReader<'_>) -> Result<Self, RowError> {
        match u32::decode(row)? {
            0 => A::decode(row).map(Self::First),
            1 => B::decode(row).map(Self::Second),
            other => Err(RowError::Invalid {
                what: "the variant of `Either`",
                value: other.into(),
            }),
        }
    }

    fn describe_evolution(evolution: &mut Evolution) {
        A::describe_evolution(evolution);
        B::describe_evolution(evolution);
    }
}

/// The exit of the first of two connected streams: its records become records of either.
pub fn first_exit<A: Record, B: Record>(partition: ResultPartition<Either<A, B>>) -> AnyLink {
    converting(partition, Either::First)
}

/// The exit of the second of two connected streams.
pub fn second_exit<A: Record, B: Record>(partition: ResultPartition<Either<A, B>>) -> AnyLink {
    converting(partition, Either::Second)
}

fn converting<T: Record, O: Record>(partition: ResultPartition<O>, convert: fn(T) -> O) -> AnyLink {
    let link: Box<dyn Link<T>> = Box::new(ConvertingExit {
        exit: Exit::new(partition),
        convert,
        converted: Batch::new(),
    });
    AnyLink::new(link)
}

/// An exit that makes other records of those that leave.
struct ConvertingExit<T, O> {
    exit: Exit<O>,
    convert: fn(T) -> O,
    converted: Batch<O>,
}

impl<T: Record, O: Record> Link<T> for ConvertingExit<T, O> {
    fn process(&mut self, batch: &mut Batch<T>) -> Result<(), TaskError> {
        batch.map_into(&mut self.converted, self.convert);
        self.exit.process(&mut self.converted)
    }

    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        self.exit.control(event)
    }

    fn resume(&mut self) -> Result<bool, TaskError> {
        Ok(false)
    }

    fn has_room(&self) -> bool {
        self.exit.has_room()
    }

    fn calls(&self) -> Calls {
        Calls::None
    }
}
