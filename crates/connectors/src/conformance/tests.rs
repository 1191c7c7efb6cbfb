//! The suites must be able to fail: each is run against connectors that break one rule.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use streamd_core::graph::Guarantee;
use streamd_core::sink::{Sink, SinkContext, SinkWriter};
use streamd_core::source::{ConnectorError, Source, SourceReader, SourceStatus};

use super::sink::Suite;
use super::source::{Scenario, reads_every_record_once, reads_within};

/// What a source does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slip {
    None,
    /// Its snapshot is one record behind.
    Behind,
    /// Its snapshot is one record ahead.
    Ahead,
    /// It skips a record where a split is taken up in its midst.
    Skips,
    /// It gives two records in the wrong order.
    Swaps,
}

/// 30 numbers in three splits of (next, end).
#[derive(Clone)]
struct Numbers {
    slip: Slip,
    is_endless: bool,
}

impl Source for Numbers {
    type Out = u64;
    type Split = (u64, u64);
    type Reader = NumbersReader;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn enumerate(&self, _parallelism: u32) -> Result<Vec<(u64, u64)>, ConnectorError> {
        Ok(vec![(0, 10), (10, 20), (20, 30)])
    }

    fn reader(&self) -> Result<NumbersReader, ConnectorError> {
        Ok(NumbersReader {
            source: self.clone(),
            splits: Vec::new(),
        })
    }
}

struct NumbersReader {
    source: Numbers,
    splits: Vec<(u64, u64)>,
}

impl SourceReader for NumbersReader {
    type Out = u64;
    type Split = (u64, u64);

    fn add_splits(&mut self, splits: Vec<(u64, u64)>) -> Result<(), ConnectorError> {
        self.splits.extend(splits);
        if self.source.slip == Slip::Skips {
            let begun = |split: &&mut (u64, u64)| !split.0.is_multiple_of(10) && split.0 < split.1;
            self.splits.iter_mut().filter(begun).for_each(|split| split.0 += 1);
        }
        Ok(())
    }

    fn poll(&mut self, out: &mut Vec<u64>, limit: usize) -> Result<SourceStatus, ConnectorError> {
        let Some(split) = self.splits.iter_mut().find(|split| split.0 < split.1) else {
            return Ok(match self.source.is_endless && !self.splits.is_empty() {
                true => SourceStatus::Idle(Duration::from_millis(1)),
                false => SourceStatus::End,
            });
        };
        let (start, end) = (split.0, split.1.min(split.0 + limit as u64));
        split.0 = end;
        out.extend(start..end);
        if self.source.slip == Slip::Swaps && start == 10 && end > 11 {
            let first = out.len() - (end - start) as usize;
            out.swap(first, first + 1);
        }
        Ok(SourceStatus::More)
    }

    fn snapshot(&self) -> Vec<(u64, u64)> {
        let slip = self.source.slip;
        let shown = self.splits.iter().map(|(next, end)| match slip {
            Slip::Behind if next % 10 > 0 => (next - 1, *end),
            Slip::Ahead if next % 10 > 0 && next < end => (next + 1, *end),
            Slip::None | Slip::Behind | Slip::Ahead | Slip::Skips | Slip::Swaps => (*next, *end),
        });
        shown.collect()
    }
}

fn fails(run: impl Fn(u64)) -> bool {
    (0..40).any(|seed| catch_unwind(AssertUnwindSafe(|| run(seed))).is_err())
}

#[test]
fn a_source_that_loses_or_doubles_a_record_is_found_out() {
    let suites = |slip| {
        let (bounded, endless) = (
            Numbers {
                slip,
                is_endless: false,
            },
            Numbers { slip, is_endless: true },
        );
        [
            fails(|seed| reads_every_record_once(&bounded, &Scenario::seeded(seed))),
            fails(|seed| reads_within(Duration::from_millis(20), &endless, 30, &Scenario::seeded(seed))),
        ]
    };
    assert_eq!(suites(Slip::None), [false; 2]);
    for slip in [Slip::Behind, Slip::Ahead, Slip::Skips] {
        assert_eq!(suites(slip), [true; 2], "{slip:?}");
    }
    // The order of a batch is what a source makes it, as long as it is always the same: with other limits it is not.
    assert!(suites(Slip::Swaps)[0]);
}

/// What a sink does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// It shows records at once.
    Hasty,
    /// It shows again what is committed again.
    Doubles,
    /// Its writer takes away what it has prepared when it ends.
    Takes,
    /// Two of its writers use the same names.
    Collides,
    /// It shows nothing if a commit names what was committed already.
    Balks,
    /// It leaves the last records of an interval out.
    Unflushed,
}

#[derive(Default)]
struct Store {
    prepared: BTreeMap<String, Vec<u64>>,
    visible: Vec<(String, Vec<u64>)>,
}

#[derive(Clone)]
struct Shelf {
    fault: Fault,
    store: Arc<Mutex<Store>>,
}

impl Sink for Shelf {
    type In = u64;
    type Committable = String;
    type Writer = ShelfWriter;

    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    fn writer(&self, context: &SinkContext) -> Result<ShelfWriter, ConnectorError> {
        let stem = match self.fault {
            Fault::Collides => format!("{}", context.subtask.index),
            _any_other => format!("{}-{}", context.subtask.index, context.nonce),
        };
        Ok(ShelfWriter {
            sink: self.clone(),
            stem,
            names: Vec::new(),
            records: Vec::new(),
        })
    }

    fn commit(&self, names: &[String]) -> Result<(), ConnectorError> {
        let mut store = self.store.lock().unwrap();
        for name in names {
            let is_visible = store.visible.iter().any(|(visible, _)| visible == name);
            if is_visible && self.fault == Fault::Balks {
                break;
            }
            if is_visible && self.fault != Fault::Doubles {
                continue;
            }
            let records = store.prepared.get(name).cloned();
            let records = records.ok_or_else(|| ConnectorError::output_lost(format_args!("`{name}` is not there")))?;
            store.visible.push((name.clone(), records));
        }
        Ok(())
    }
}

struct ShelfWriter {
    sink: Shelf,
    stem: String,
    names: Vec<String>,
    records: Vec<u64>,
}

impl SinkWriter for ShelfWriter {
    type In = u64;
    type Committable = String;

    fn write(&mut self, batch: &mut Vec<u64>) -> Result<(), ConnectorError> {
        if self.sink.fault == Fault::Hasty {
            let shown = (String::new(), batch.clone());
            self.sink.store.lock().unwrap().visible.push(shown);
        }
        self.records.append(batch);
        Ok(())
    }

    fn prepare_commit(&mut self) -> Result<Vec<String>, ConnectorError> {
        if self.records.is_empty() {
            return Ok(Vec::new());
        }
        let name = format!("{}-{}", self.stem, self.names.len());
        let mut records = std::mem::take(&mut self.records);
        if self.sink.fault == Fault::Unflushed {
            records.truncate(4);
        }
        self.sink.store.lock().unwrap().prepared.insert(name.clone(), records);
        self.names.push(name.clone());
        Ok(vec![name])
    }
}

impl Drop for ShelfWriter {
    fn drop(&mut self) {
        if self.sink.fault == Fault::Takes {
            let mut store = self.sink.store.lock().unwrap();
            self.names.iter().for_each(|name| drop(store.prepared.remove(name)));
        }
    }
}

#[test]
fn a_sink_that_shows_too_much_or_too_little_is_found_out() {
    let found_out = |fault| {
        fails(|seed| {
            let shelf = Shelf {
                fault,
                store: Arc::default(),
            };
            let suite = Suite {
                sink: &shelf,
                record: &|number| number,
                view: &|number| number,
                visible: &|| {
                    let store = shelf.store.lock().unwrap();
                    store.visible.iter().flat_map(|(_, records)| records.clone()).collect()
                },
            };
            suite.survives(seed);
        })
    };
    assert!(!found_out(Fault::None));
    for fault in [
        Fault::Hasty,
        Fault::Doubles,
        Fault::Takes,
        Fault::Collides,
        Fault::Balks,
        Fault::Unflushed,
    ] {
        assert!(found_out(fault), "{fault:?}");
    }
}
