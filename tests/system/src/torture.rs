//! The application `torture` of these tests: how it is called, and what its output must be.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::files::{binary, committed, number, text};
use crate::gate::Gate;
use crate::wait::until;

/// A call of the application.
#[derive(Default)]
pub struct Torture {
    output: Option<PathBuf>,
    keys: u64,
    arguments: Vec<String>,
}

impl Torture {
    /// Records without end, as fast as can be, over 10 keys, written nowhere.
    pub fn new() -> Self {
        Self {
            keys: 10,
            ..Self::default()
        }
    }

    /// So many records at this rate into the cluster's folder `output`, of which the last thousand wait at a gate; and that gate.
    pub fn held(cluster: &Cluster, records: u64, rate: u64) -> (Self, Gate) {
        let gate = Gate::closed(cluster.path("gate"));
        let torture = Self::new().records(records).rate(rate).held_at(records - 1_000, &gate);
        (torture.output(cluster.path("output")), gate)
    }

    /// Writes to this folder.
    pub fn output(mut self, folder: PathBuf) -> Self {
        self = self.argument("--output", &text(&folder));
        self.output = Some(folder);
        self
    }

    /// Ends after this many records.
    pub fn records(self, count: u64) -> Self {
        self.argument("--records", &count.to_string())
    }

    /// At most this many records per second and subtask.
    pub fn rate(self, records_per_second: u64) -> Self {
        self.argument("--rate", &records_per_second.to_string())
    }

    /// Emits no record from this number on for as long as the gate is closed.
    pub fn held_at(mut self, number: u64, gate: &Gate) -> Self {
        self.arguments.extend(gate.arguments(number));
        self
    }

    /// An argument with a value.
    pub fn argument(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// An argument without a value.
    pub fn flag(mut self, name: &str) -> Self {
        self.arguments.push(name.to_owned());
        self
    }

    /// The application and its arguments.
    pub fn command(&self) -> Vec<String> {
        let mut command = vec![text(&binary("unruly"))];
        command.extend(self.arguments.iter().cloned());
        command
    }

    /// How many records are committed.
    pub fn committed(&self) -> u64 {
        committed(self.output_folder()).len() as u64
    }

    /// Waits until more records than these are committed. How many they are then.
    pub fn wait_for_commits(&self, more_than: u64) -> u64 {
        until("more records are committed", || {
            Some(self.committed()).filter(|committed| *committed > more_than)
        })
    }

    /// Each of the records must be in these lines exactly once, numbered within its key without a gap.
    pub fn assert_are_complete(&self, lines: &[Value], records: u64) {
        let numbers = self.numbers_of(lines);
        assert_eq!(numbers.len() as u64, records, "not every record is there");
        let in_order = numbers.iter().copied().eq(0..records);
        assert!(in_order, "the records are not 0 to {records}");
    }

    /// Every record must be in the output exactly once, numbered within its key without a gap.
    pub fn assert_complete(&self, records: u64) {
        self.assert_are_complete(&committed(self.output_folder()), records);
    }

    /// Every record must be in the output at least once. Returns how many are there more often.
    pub fn assert_nothing_lost(&self, records: u64) -> u64 {
        let mut numbers: Vec<u64> = committed(self.output_folder())
            .iter()
            .map(|line| number(line, "number"))
            .collect();
        let all = numbers.len() as u64;
        numbers.sort_unstable();
        numbers.dedup();
        assert!(
            numbers.iter().copied().eq(0..records),
            "records are lost: {} are there",
            numbers.len()
        );
        all - records
    }

    /// No record may be in the output twice, nor a key's numbers have a gap. Returns the records, sorted.
    pub fn numbers(&self) -> Vec<u64> {
        self.numbers_of(&committed(self.output_folder()))
    }

    fn numbers_of(&self, lines: &[Value]) -> Vec<u64> {
        let mut numbers = Vec::new();
        let mut ordinals: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for line in lines {
            let (key, number_of_record) = (number(line, "key"), number(line, "number"));
            assert_eq!(key, number_of_record % self.keys, "{line} has the wrong key");
            ordinals.entry(key).or_default().push(number(line, "ordinal"));
            numbers.push(number_of_record);
        }
        for (key, mut ordinals) in ordinals {
            ordinals.sort_unstable();
            let each_once = ordinals.iter().copied().eq(1..=ordinals.len() as u64);
            assert!(each_once, "the records of key {key} are not each there exactly once");
        }
        numbers.sort_unstable();
        let repeated = numbers.windows(2).find(|pair| pair[0] == pair[1]);
        assert_eq!(repeated, None, "a record is there twice");
        numbers
    }

    fn output_folder(&self) -> &PathBuf {
        self.output.as_ref().expect("this call writes nowhere")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &str) -> std::thread::Result<()> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("part-0.jsonl"), lines).unwrap();
        std::fs::write(folder.path().join(".part-1.jsonl.inprogress"), "garbage").unwrap();
        let torture = Torture::new().output(folder.path().to_owned());
        std::panic::catch_unwind(move || torture.assert_complete(2))
    }

    fn line(key: u64, ordinal: u64, number: u64) -> String {
        format!("{{\"key\":{key},\"ordinal\":{ordinal},\"number\":{number}}}\n")
    }

    #[test]
    fn a_record_that_is_lost_repeated_or_miscounted_is_noticed() {
        let (first, second) = (line(0, 1, 0), line(1, 1, 1));
        assert!(check(&format!("{second}{first}")).is_ok());
        assert!(check(&first).is_err());
        assert!(check(&format!("{first}{second}{second}")).is_err());
        assert!(check(&format!("{first}{}", line(1, 2, 1))).is_err());
        assert!(check(&format!("{first}{}", line(2, 1, 1))).is_err());
        assert!(check(&format!("{first}{}", second.trim_end())).is_err());
    }
}
