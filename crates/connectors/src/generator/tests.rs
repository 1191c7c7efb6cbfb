use proptest::prelude::*;
use streamd_core::source::{Source, SourceReader, SourceStatus};

use super::*;
use crate::conformance::source::{Scenario, reads_every_record_once};

proptest! {
    #[test]
    fn every_number_comes_once_however_the_job_is_cut(scenario: Scenario, count in 0u64..500, splits in 1u32..9) {
        reads_every_record_once(&GeneratorSource::new(Some(count), |i| i).splits(splits), &scenario);
    }
}

#[test]
fn a_subtask_takes_its_numbers_in_order() {
    let source = GeneratorSource::new(Some(10), |i| i);
    let mut reader = source.reader().unwrap();
    reader.add_splits(vec![source.enumerate(3).unwrap()[1]]).unwrap();
    let mut out = vec![99];
    assert_eq!(reader.poll(&mut out, 2).unwrap(), SourceStatus::More);
    assert_eq!(out, [99, 1, 4]);
    assert_eq!(reader.poll(&mut out, 2).unwrap(), SourceStatus::End);
    assert_eq!(out, [99, 1, 4, 7]);
}

#[test]
fn an_endless_generator_serves_all_its_splits() {
    let source = GeneratorSource::new(None, |i| i);
    let mut reader = source.reader().unwrap();
    reader.add_splits(source.enumerate(2).unwrap()).unwrap();
    let mut out = Vec::new();
    for _ in 0..4 {
        assert_eq!(reader.poll(&mut out, 2).unwrap(), SourceStatus::More);
    }
    assert_eq!(out, [0, 2, 1, 3, 4, 6, 5, 7]);
}

#[test]
fn the_split_that_was_polled_is_found_by_its_number_though_others_have_ended() {
    let source = GeneratorSource::new(Some(7), |i| i);
    let mut reader = source.reader().unwrap();
    reader.add_splits(source.enumerate(3).unwrap()).unwrap();
    while let SourceStatus::More = {
        let before = reader.snapshot();
        let status = reader.poll(&mut Vec::new(), 2).unwrap();
        let after = reader.snapshot();
        let moved: Vec<_> = (0..3).filter(|split| before[*split] != after[*split]).collect();
        assert_eq!(moved, Vec::from_iter(reader.polled_split()));
        status
    } {}
    assert!((0..3).all(|split| reader.is_at_end(split)));
}

#[test]
fn the_last_numbers_there_are_do_not_overflow() {
    let source = GeneratorSource::new(None, |i| i);
    let mut reader = source.reader().unwrap();
    let split = crate::strided::StridedSplit {
        next: u64::MAX - 3,
        stride: 2,
        end: None,
    };
    reader.add_splits(vec![split]).unwrap();
    let mut out = Vec::new();
    assert_eq!(reader.poll(&mut out, 100).unwrap(), SourceStatus::End);
    assert_eq!(out, [u64::MAX - 3, u64::MAX - 1]);
}

#[test]
fn a_generator_without_splits_is_refused() {
    let error = GeneratorSource::new(None, |i| i).splits(0).enumerate(1).unwrap_err();
    assert_eq!(error.to_string(), "the generator has 0 splits: at least 1 is needed");
}
