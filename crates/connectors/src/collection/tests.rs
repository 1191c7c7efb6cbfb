use proptest::prelude::*;
use streamd_core::source::{Source, SourceReader};

use super::*;
use crate::conformance::source::{Scenario, reads_every_record_once};

proptest! {
    #[test]
    fn every_element_comes_once_however_the_job_is_cut(scenario: Scenario, count in 0u32..300) {
        reads_every_record_once(&CollectionSource::new((0..count).map(|i| format!("element {i}"))), &scenario);
    }
}

#[test]
fn a_snapshot_of_another_collection_is_refused() {
    let splits = CollectionSource::new([1, 2, 3]).enumerate(1).unwrap();
    let mut reader = CollectionSource::new([1, 2]).reader().unwrap();
    let error = reader.add_splits(splits).unwrap_err().to_string();
    assert!(
        error.contains("holds 2 elements") && error.contains("held 3"),
        "{error}"
    );
}
