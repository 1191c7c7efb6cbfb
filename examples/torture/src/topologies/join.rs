//! Joins the records with others of their key in windows: a pair that is missing lost one of its records, or both.

use streamd::prelude::*;

use crate::output::Output;
use crate::record::{LATEST, Numbers, Record, digest};

const WINDOW: Duration = Duration::from_millis(100);

/// An output for each pair.
pub fn join(records: &DataStream<Record>, numbers: &Numbers) -> DataStream<Output> {
    let others = Numbers {
        seed: numbers.seed + 1,
        ..numbers.clone()
    };
    let make = others.clone();
    let source = GeneratorSource::new(others.records, move |number| make.record(number)).splits(others.splits);
    let others = records
        .environment()
        .from_source(source, "others")
        .uid("others")
        .assign_timestamps_and_watermarks(
            WatermarkStrategy::for_bounded_out_of_orderness(LATEST)
                .with_timestamp_assigner(|record: &Record, _| record.time),
        );
    records
        .join(&others)
        .where_key(|record: &Record| record.key)
        .equal_to(|other: &Record| other.key)
        .window(TumblingEventTimeWindows::of(WINDOW))
        .apply(|record: &Record, other: &Record| Output {
            key: record.key,
            ordinal: other.seq,
            digest: digest(record.canary, other.canary),
            split: record.split,
            seq: record.seq as i64,
            watermark: None,
            attempt: None,
        })
        .uid("join")
}
