//! The example `flights`: how it is called, and what its output must be, computed here from its input alone.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::files::{binary, committed, files_below, flights_data, number, string, text};

/// A call of the application.
pub struct Flights {
    /// The folder that its output goes to.
    pub output: PathBuf,
    /// Flights per second and subtask; 0 is without limit.
    pub rate: u64,
}

/// What is known of an airport in the end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Airport {
    flights: u64,
    total_delay: i64,
    worst_delay: i64,
    flights_by_hour: [u64; 24],
}

/// An airport by its code.
pub type Airports = BTreeMap<String, Airport>;

impl Flights {
    /// The application and its arguments.
    pub fn command(&self) -> Vec<String> {
        vec![
            text(&binary("flights")),
            "--input".to_owned(),
            text(&flights_data()),
            "--output".to_owned(),
            text(&self.output),
            "--rate".to_owned(),
            self.rate.to_string(),
        ]
    }

    /// How many updates are committed.
    pub fn committed_updates(&self) -> usize {
        committed(&self.output.join("updates")).len()
    }

    /// Every flight of the input must be in the output exactly once: as one update of its airport, and in its airport's
    /// result.
    pub fn assert_complete(&self) {
        let airports = expected();
        assert_eq!(self.updates_by_airport(), flights_by_airport(&airports));
        assert_eq!(self.results(), airports);
    }

    /// The updates of an airport must be its 1st, 2nd, … up to some flight, each exactly once. Returns how many flights
    /// that is, for each airport.
    pub fn updates_by_airport(&self) -> BTreeMap<String, u64> {
        let mut ordinals: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for update in committed(&self.output.join("updates")) {
            let airport = string(&update, "airport").to_owned();
            let ordinal = number(&update["statistics"], "flights");
            ordinals.entry(airport).or_default().push(ordinal);
        }
        let counted = ordinals.into_iter().map(|(airport, mut ordinals)| {
            ordinals.sort_unstable();
            let count = ordinals.len() as u64;
            let each_once: Vec<u64> = (1..=count).collect();
            assert_eq!(
                ordinals, each_once,
                "the updates of {airport} are not each there exactly once"
            );
            (airport, count)
        });
        counted.collect()
    }

    /// The results, of which there may be one for each airport.
    pub fn results(&self) -> Airports {
        let mut results = Airports::new();
        for result in committed(&self.output.join("results")) {
            let airport = string(&result, "airport").to_owned();
            let known = results.insert(airport.clone(), statistics(&result["statistics"]));
            assert_eq!(known, None, "{airport} has two results");
        }
        results
    }
}

fn statistics(value: &Value) -> Airport {
    let hours = value["flights_by_hour"].as_array().expect("the hours are a list");
    let mut flights_by_hour = [0; 24];
    for (hour, count) in flights_by_hour.iter_mut().zip(hours) {
        *hour = count.as_u64().expect("a count is a number");
    }
    let flights = number(value, "flights");
    let total_delay = value["total_delay"].as_i64().expect("a delay is a number");
    let mean_delay = value["mean_delay"].as_f64().expect("a mean is a number");
    // Not equal: the parser of JSON may err in the last digit.
    let difference = mean_delay - total_delay as f64 / flights as f64;
    assert!(difference.abs() < 1e-9, "the mean is wrong: {value}");
    Airport {
        flights,
        total_delay,
        worst_delay: value["worst_delay"].as_i64().expect("a delay is a number"),
        flights_by_hour,
    }
}

/// What the whole input comes to.
pub fn expected() -> Airports {
    let mut airports = Airports::new();
    for file in files_below(&flights_data()) {
        let content = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        content.lines().skip(1).for_each(|line| add(&mut airports, line));
    }
    airports
}

fn add(airports: &mut Airports, line: &str) {
    let columns: Vec<&str> = line.split(',').collect();
    let [date, delay, _distance, origin, _destination] = columns[..] else {
        panic!("`{line}` has not five columns");
    };
    let delay: i64 = delay.parse().expect("a delay is a number");
    let hour: usize = date[11..13].parse().expect("an hour is a number");
    let airport = airports.entry(origin.to_owned()).or_insert_with(|| Airport {
        worst_delay: i64::MIN,
        ..Airport::default()
    });
    airport.flights += 1;
    airport.total_delay += delay;
    airport.worst_delay = airport.worst_delay.max(delay);
    airport.flights_by_hour[hour] += 1;
}

/// The number of flights of each airport.
pub fn flights_by_airport(airports: &Airports) -> BTreeMap<String, u64> {
    let counts = airports.iter();
    counts.map(|(name, airport)| (name.clone(), airport.flights)).collect()
}

/// The total of the input: of all lines but the first of each file.
pub fn total() -> u64 {
    expected().values().map(|airport| airport.flights).sum()
}

/// How many records of an input file begin in the bytes `start..end`.
pub fn records_between(file: &Path, start: u64, end: u64) -> u64 {
    let content = fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let newlines = content.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
    // The header is no record, and nothing begins behind the last line.
    let begins = newlines
        .map(|(at, _)| at as u64 + 1)
        .filter(|at| *at < content.len() as u64);
    begins.filter(|at| (start..end).contains(at)).count() as u64
}
