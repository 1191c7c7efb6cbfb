use std::path::PathBuf;
use std::time::Duration;

use servers::ledger::book::State;
use servers::{Fault, Ledger, Proxy, own_port};
use streamd_core::error::chain;
use streamd_core::sink::{Sink, SinkWriter};
use tempfile::TempDir;

use super::*;
use crate::conformance::sink::{Suite, context};

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder }
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    fn ledger(&self) -> Ledger {
        Ledger::open(own_port(), &self.journal())
    }
}

fn sink(url: &str) -> LedgerSink<u64> {
    LedgerSink::text(url).request_timeout(Duration::from_secs(2))
}

/// A sink that does not try for long.
fn hasty(url: &str) -> LedgerSink<u64> {
    sink(url).retry_for(Duration::from_secs(1))
}

fn written(sink: &LedgerSink<u64>, numbers: &[u64]) -> LedgerWriter<u64> {
    let mut writer = sink.writer(&context(0, "a")).unwrap();
    writer.write(&mut numbers.to_vec()).unwrap();
    writer
}

#[test]
fn a_ledger_shows_exactly_what_is_committed() {
    let place = Place::new();
    let ledger = place.ledger();
    let suite = Suite {
        sink: &sink(&ledger.url()),
        record: &|number| number,
        view: &|number| number.to_string(),
        visible: &|| ledger.records(),
    };
    suite.shows_exactly_what_is_committed();
}

#[test]
fn a_ledger_is_exact_over_any_life() {
    for seed in 0..40 {
        let place = Place::new();
        let ledger = place.ledger();
        let suite = Suite {
            sink: &sink(&ledger.url()),
            record: &|number| number,
            view: &|number| number.to_string(),
            visible: &|| ledger.records(),
        };
        suite.survives(seed);
    }
}

#[test]
fn a_ledger_is_exact_over_any_life_behind_a_network_that_fails() {
    let faults = [
        Fault::AppliedThen500,
        Fault::AppliedThenReset,
        Fault::Reset,
        Fault::Unavailable,
        Fault::Truncated,
    ];
    for seed in 0..6 {
        let place = Place::new();
        let ledger = place.ledger();
        let proxy = Proxy::before(ledger.address());
        // Never the same request twice in a row, so that each succeeds in the end.
        proxy.plan(move |request| match request.index % 3 {
            1 => faults[(request.index / 3 + seed as usize) % faults.len()],
            _ => Fault::Well,
        });
        let suite = Suite {
            sink: &sink(&proxy.url()),
            record: &|number| number,
            view: &|number| number.to_string(),
            visible: &|| ledger.records(),
        };
        suite.survives(1000 + seed);
    }
}

#[test]
fn an_answer_that_never_comes_is_asked_for_again() {
    let place = Place::new();
    let ledger = place.ledger();
    let proxy = Proxy::before(ledger.address());
    proxy.plan(|request| match request.index % 2 {
        0 => Fault::HangAfterHeaders,
        _ => Fault::Well,
    });
    let sink = LedgerSink::<u64>::text(proxy.url()).request_timeout(Duration::from_millis(100));
    let prepared = written(&sink, &[1, 2]).prepare_commit().unwrap();
    sink.commit(&prepared).unwrap();
    assert_eq!(ledger.records(), ["1", "2"]);
    assert!(proxy.end().len() >= 8, "each of four requests was sent twice");
}

#[test]
fn a_ledger_that_is_killed_between_prepare_and_commit_and_comes_back_commits() {
    let place = Place::new();
    let address = own_port();
    let ledger = Ledger::open(address, &place.journal());
    let sink = sink(&ledger.url());
    let mut writer = written(&sink, &[1]);
    let first = writer.prepare_commit().unwrap();
    writer.write(&mut vec![2]).unwrap();
    drop(ledger);

    let back = std::thread::spawn({
        let journal = place.journal();
        move || Ledger::open(address, &journal)
    });
    let second = writer.prepare_commit().unwrap();
    let ledger = back.join().unwrap();
    sink.commit(&[second, first].concat()).unwrap();
    assert_eq!(ledger.records(), ["2", "1"]);
    drop(ledger);
    assert_eq!(Ledger::open(address, &place.journal()).records(), ["2", "1"]);
}

#[test]
fn a_journal_that_was_cut_short_is_read_as_far_as_it_was_answered() {
    let place = Place::new();
    let ledger = place.ledger();
    let prepared = written(&sink(&ledger.url()), &[1]).prepare_commit().unwrap();
    let address = ledger.address();
    drop(ledger);
    let whole = std::fs::read(place.journal()).unwrap();
    for tail in [&b"append x"[..], b"append x 100\n1\n2\n"] {
        std::fs::write(place.journal(), [&whole[..], tail].concat()).unwrap();
        let ledger = Ledger::open(address, &place.journal());
        sink(&ledger.url()).commit(&prepared).unwrap();
        assert_eq!(ledger.records(), ["1"]);
    }
}

#[test]
fn a_prepared_transaction_that_expired_is_lost_data_and_an_error() {
    let place = Place::new();
    let ledger = place.ledger();
    let sink = sink(&ledger.url());
    let prepared = written(&sink, &[1, 2]).prepare_commit().unwrap();
    ledger.expire(State::Prepared);
    let error = sink.commit(&prepared).unwrap_err();
    assert!(error.is_output_lost(), "{error}");
    let error = error.to_string();
    assert!(
        error.starts_with("output is lost: the ledger `http://")
            && error.contains("with 2 records, and says `expired`"),
        "{error}"
    );
    let unknown = LedgerCommittable {
        transaction: "never".to_owned(),
        records: 1,
    };
    let error = sink.commit(&[unknown]).unwrap_err().to_string();
    assert!(
        error.starts_with("output is lost") && error.contains("`never`"),
        "{error}"
    );
}

#[test]
fn an_open_transaction_that_expired_fails_the_attempt_before_its_checkpoint() {
    let place = Place::new();
    let ledger = place.ledger();
    let sink = sink(&ledger.url()).transaction_timeout(Duration::from_secs(60));
    let mut writer = written(&sink, &[1]);
    // More than is sent at once: it begins.
    writer.write(&mut (0..100_000).collect()).unwrap();
    ledger.expire(State::Open);
    let error = writer.prepare_commit().unwrap_err().to_string();
    assert!(error.contains("answered 410 `expired` to the "), "{error}");
    let error = writer.prepare_commit().unwrap_err().to_string();
    assert!(error.contains("has failed before"), "{error}");
}

#[test]
fn a_transaction_that_nobody_touches_expires() {
    let place = Place::new();
    let ledger = place.ledger();
    let sink = sink(&ledger.url()).transaction_timeout(Duration::ZERO);
    let mut writer = written(&sink, &[1]);
    let error = writer.prepare_commit().unwrap_err().to_string();
    assert!(error.contains("answered 410 `expired`"), "{error}");
}

#[test]
fn a_large_interval_is_one_transaction_of_several_requests() {
    let place = Place::new();
    let ledger = place.ledger();
    let sink = sink(&ledger.url());
    let mut writer = sink.writer(&context(0, "a")).unwrap();
    for start in 0..100 {
        writer.write(&mut (start * 1000..(start + 1) * 1000).collect()).unwrap();
    }
    sink.commit(&writer.prepare_commit().unwrap()).unwrap();
    let expected: Vec<String> = (0..100_000).map(|number: u64| number.to_string()).collect();
    assert_eq!(ledger.records(), expected);
    let transactions = ledger.transactions();
    assert!(transactions.len() == 1 && transactions.values().all(|one| one.batches > 1));
}

#[test]
fn a_writer_that_ends_gives_up_what_it_has_not_prepared_and_nothing_else() {
    let place = Place::new();
    let ledger = place.ledger();
    let sink = sink(&ledger.url());
    let mut writer = written(&sink, &[1]);
    writer.prepare_commit().unwrap();
    writer.write(&mut (0..100_000).collect()).unwrap();
    drop(writer);
    let states: Vec<State> = ledger.transactions().values().map(|one| one.state).collect();
    assert_eq!(states, [State::Prepared, State::Aborted]);
}

#[test]
fn the_ids_of_two_operators_of_two_subtasks_or_of_two_attempts_differ() {
    let sink = sink("http://127.0.0.1:1");
    let mut ids = std::collections::BTreeSet::new();
    let mut contexts = vec![context(0, "a"), context(1, "a"), context(0, "b")];
    for uid in ["a.b", "a~b", "a/b", "a b", "ä"] {
        let mut other = context(0, "a");
        other.operator = uid.to_owned();
        contexts.push(other);
    }
    for context in &contexts {
        let mut writer = sink.writer(context).unwrap();
        writer.write(&mut vec![1]).unwrap();
        let id = writer.open.take().unwrap().id;
        assert!(
            id.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte)),
            "{id}"
        );
        ids.insert(id);
    }
    assert_eq!(ids.len(), contexts.len());
}

#[test]
fn a_ledger_that_is_away_or_none_is_told_to_whoever_submits() {
    let place = Place::new();
    let ledger = place.ledger();
    sink(&ledger.url()).check().unwrap();
    let error = chain(
        &sink(&ledger.url())
            .transaction_timeout(Duration::from_secs(1_000_000))
            .check()
            .unwrap_err(),
    );
    assert!(error.contains("keeps transactions for 86400000 ms at most"), "{error}");
    let error = chain(&sink(&format!("{}/elsewhere", ledger.url())).check().unwrap_err());
    assert!(error.contains("is no ledger: it says 404"), "{error}");
    let url = ledger.url();
    drop(ledger);
    let error = chain(&hasty(&url).check().unwrap_err());
    assert!(
        error.contains("did not take `GET /` within 1s") && error.contains("refused"),
        "{error}"
    );
    let error = chain(&hasty("ftp://ledger").check().unwrap_err());
    assert!(error.contains("does not begin with `http://`"), "{error}");
}

#[test]
fn a_record_with_a_line_end_is_an_error() {
    let sink = LedgerSink::<String>::text("http://127.0.0.1:1");
    let mut writer = sink.writer(&context(0, "a")).unwrap();
    let error = chain(&writer.write(&mut vec!["two\nlines".to_owned()]).unwrap_err());
    assert!(error.contains("holds a line end"), "{error}");
}
