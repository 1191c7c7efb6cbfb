//! What is kept for each airport, and how a flight changes it.

use std::fmt;

use streamd::prelude::*;

/// A row of the input; the fields are columns.
#[derive(Clone, Serialize, Deserialize)]
pub struct Flight {
    /// The departure: `2001-01-14 21:55`.
    date: String,
    /// Minutes late, negative if early.
    delay: i64,
    /// The airport, `ATL`.
    pub origin: String,
}

/// What is kept for each airport. It is in every checkpoint, and moves when the parallelism changes.
#[derive(Clone, Default, Serialize, Deserialize, State)]
struct Statistics {
    flights: u64,
    total_delay: i64,
    mean_delay: f64,
    worst_delay: i64,
    flights_by_hour: [u64; 24],
}

impl Statistics {
    fn add(&mut self, flight: &Flight) -> Result<(), BoxError> {
        let hour = flight.date.get(11..13).and_then(|hour| hour.parse::<usize>().ok());
        let in_hour = hour.and_then(|hour| self.flights_by_hour.get_mut(hour));
        *in_hour.ok_or_else(|| format!("`{}` is no date and time", flight.date))? += 1;
        self.flights += 1;
        self.total_delay += flight.delay;
        self.mean_delay = self.total_delay as f64 / self.flights as f64;
        self.worst_delay = if self.flights == 1 {
            flight.delay
        } else {
            self.worst_delay.max(flight.delay)
        };
        Ok(())
    }
}

/// A line of the output: an update after each flight of an airport, and in the end its result.
#[derive(Clone, Serialize, Deserialize)]
pub struct Report {
    airport: String,
    /// Whether all flights are counted.
    pub is_result: bool,
    statistics: Statistics,
}

impl Report {
    /// How many flights of the airport were counted so far.
    pub fn flights(&self) -> u64 {
        self.statistics.flights
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Statistics {
            flights,
            mean_delay,
            worst_delay,
            ..
        } = &self.statistics;
        write!(
            f,
            "{}: {flights} flights, {mean_delay:.1} min late on average, {worst_delay} at worst",
            self.airport
        )
    }
}

/// Folds each flight into the statistics of its airport.
#[derive(Clone)]
pub struct AirportStatistics {
    state: ValueState<Statistics>,
}

impl AirportStatistics {
    /// A function that has seen no flight yet.
    pub fn new() -> Self {
        let state = ValueState::new("statistics");
        Self { state }
    }
}

impl KeyedProcessFunction<String, Flight, Report> for AirportStatistics {
    fn open(&mut self, store: &mut KeyedStateStore<'_, String>) -> Result<(), BoxError> {
        store.register(&mut self.state)
    }

    fn process_element(
        &mut self,
        flight: Flight,
        context: &mut KeyedContext<'_, String>,
        out: &mut Collector<'_, Report>,
    ) -> Result<(), BoxError> {
        let statistics = self.state.get_or_default(context);
        statistics.add(&flight)?;
        out.collect(Report {
            airport: flight.origin,
            is_result: false,
            statistics: statistics.clone(),
        });
        Ok(())
    }

    fn end_of_input(&mut self, all: &mut AllKeys<'_, String>, out: &mut Collector<'_, Report>) -> Result<(), BoxError> {
        all.for_each(&self.state, |airport, statistics| {
            out.collect(Report {
                airport: airport.clone(),
                is_result: true,
                statistics: statistics.clone(),
            });
        });
        Ok(())
    }
}
