//! Tests of origins: what they say, what they become together, and how they travel.

use super::*;

fn stretch(of: &str, from: u64, to: u64) -> Stretch {
    Stretch {
        of: Some(Arc::from(of)).filter(|of: &Arc<str>| !of.is_empty()),
        unit: Unit::Bytes,
        from,
        to,
    }
}

fn events(subtask: u32, stretches: &[Stretch]) -> Origin {
    Origin::read(&Arc::from("events"), subtask, stretches)
}

#[test]
fn an_origin_says_where_to_look() {
    let one = events(1, &[stretch("/in/a.csv", 1200, 3400)]);
    assert_eq!(
        one.to_string(),
        "source `events` (subtask 2), between bytes 1200 and 3400 of `/in/a.csv`"
    );
    assert_eq!(events(0, &[]).to_string(), "source `events` (subtask 1)");
    let two = Origin::union([&one, &events(0, &[stretch("", 0, 7)]), &Origin::UNKNOWN].into_iter());
    assert_eq!(
        two.to_string(),
        "source `events` (subtask 2), between bytes 1200 and 3400 of `/in/a.csv`, or of source `events` (subtask 1), between \
         bytes 0 and 7, or from elsewhere"
    );
    assert!(one.is_exact() && !events(0, &[]).is_exact() && !Origin::UNKNOWN.is_known());
}

#[test]
fn origins_of_one_split_become_one_stretch_and_of_many_splits_some_are_named() {
    let batches = [(40, 60), (0, 20), (20, 40)].map(|(from, to)| events(3, &[stretch("a", from, to)]));
    assert_eq!(Origin::union(batches.iter()), events(3, &[stretch("a", 0, 60)]));
    let files: Vec<_> = (0..10)
        .map(|n| events(3, &[stretch(&format!("file {n}"), 0, 9)]))
        .collect();
    let all = Origin::union(files.iter()).to_string();
    assert!(
        all.contains("file 3") && !all.contains("file 4") && all.ends_with("or from elsewhere"),
        "{all}"
    );
}

#[test]
fn what_was_not_known_is_never_passed_off_as_known() {
    let known = events(0, &[stretch("a", 0, 9)]);
    for origins in [[&Origin::UNKNOWN, &known], [&known, &Origin::UNKNOWN]] {
        assert!(
            Origin::union(origins.into_iter())
                .to_string()
                .ends_with("or from elsewhere")
        );
    }
    assert_eq!(
        Origin::union([&Origin::UNKNOWN, &Origin::UNKNOWN].into_iter()),
        Origin::UNKNOWN
    );
}

#[test]
fn an_origin_arrives_as_it_was_sent() {
    let rows = Stretch {
        unit: Unit::Rows,
        ..stretch("größe.parquet", u64::MAX - 1, u64::MAX)
    };
    let mixed = Origin::union(
        [
            &events(u32::MAX, &[rows, stretch("", 1, 2)]),
            &events(7, &[]),
            &Origin::UNKNOWN,
        ]
        .into_iter(),
    );
    for origin in [Origin::UNKNOWN, events(0, &[]), mixed] {
        assert_eq!(Origin::from_bytes(&origin.to_bytes()), Some(origin));
    }
}

#[test]
fn an_origin_that_is_cut_off_or_garbage_is_refused() {
    let bytes = events(1, &[stretch("/in/a.csv", 1200, 3400)]).to_bytes();
    for length in 1..bytes.len() {
        assert_eq!(Origin::from_bytes(&bytes[..length]), None, "{length} bytes");
    }
    for (at, value) in [(0, 2), (1, 5), (6, 0xff), (bytes.len() - 28, 9)] {
        let mut garbled = bytes.to_vec();
        garbled[at] = value;
        assert_eq!(Origin::from_bytes(&garbled), None, "byte {at}");
    }
    assert_eq!(Origin::from_bytes(&[&bytes[..], &[0]].concat()), None);
}

#[test]
fn an_origin_of_endless_names_is_cut_to_what_a_frame_may_hold() {
    let long = events(1, &[stretch(&"x".repeat(100_000), 0, 1), stretch("short", 0, 1)]);
    let bytes = long.to_bytes();
    assert!(bytes.len() <= MAX_ORIGIN_BYTES);
    let arrived = Origin::from_bytes(&bytes).unwrap();
    assert_eq!(
        arrived.to_string(),
        "source `events` (subtask 2), between bytes 0 and 1 of `short`, or from elsewhere"
    );
}

#[test]
fn a_partition_knows_what_was_emitted_since_a_buffer_was_sent() {
    let mut noted = Noted::default();
    let batch = |n: u64| events(0, &[stretch("a", n * 10, n * 10 + 10)]);
    let numbers: Vec<u64> = (0..3).map(|n| noted.note(&batch(n))).collect();
    assert_eq!(noted.since(numbers[1]), events(0, &[stretch("a", 10, 30)]));
    noted.clear();
    assert_eq!(noted.since(numbers[1]), Origin::UNKNOWN);
    let after = noted.note(&batch(3));
    assert_eq!(noted.since(after), batch(3));
}

#[test]
fn of_more_batches_than_are_remembered_the_oldest_are_told_together() {
    let mut noted = Noted::default();
    let count = MAX_NOTED as u64 + 10;
    let batch = |n: u64| events(0, &[stretch("a", n, n + 1)]);
    let numbers: Vec<u64> = (0..count).map(|n| noted.note(&batch(n))).collect();
    assert_eq!(noted.origins.len(), MAX_NOTED);
    assert_eq!(noted.since(numbers[0]), events(0, &[stretch("a", 0, count)]));
    assert_eq!(noted.since(numbers[200]), events(0, &[stretch("a", 200, count)]));
    assert!(noted.since(numbers[5]).to_string().contains("between bytes 0 and"));
}
