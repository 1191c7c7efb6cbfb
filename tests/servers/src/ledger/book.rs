//! What a ledger knows.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// What a transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Takes records.
    Open,
    /// Takes no more, and waits for its end.
    Prepared,
    /// Its records are to be seen.
    Committed,
    /// Given up by its client.
    Aborted,
    /// Given up because nobody touched it for too long.
    Expired,
}

impl State {
    /// Its name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Prepared => "prepared",
            Self::Committed => "committed",
            Self::Aborted => "aborted",
            Self::Expired => "expired",
        }
    }
}

/// A transaction.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// What it is.
    pub state: State,
    /// How many batches of records came.
    pub batches: u64,
    /// Its records, one a line.
    pub records: Vec<u8>,
    timeout: Duration,
    touched: Instant,
}

/// What is answered: a status and a text.
pub type Answer = (u16, String);

/// All transactions, and the journal that they are in.
pub struct Book {
    transactions: BTreeMap<String, Transaction>,
    /// In the order in which they were committed.
    committed: Vec<String>,
    journal: File,
    most_timeout: Duration,
}

#[expect(
    clippy::disallowed_methods,
    reason = "a server of its own, which has no clock handed in"
)]
fn now() -> Instant {
    Instant::now()
}

impl Book {
    /// Reads the journal, or begins one. Time-outs begin anew.
    pub fn open(journal: &Path, most_timeout: Duration) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(journal)?;
        let mut book = Self {
            transactions: BTreeMap::new(),
            committed: Vec::new(),
            journal: file.try_clone()?,
            most_timeout,
        };
        let whole = book.replay(&mut BufReader::new(&file))?;
        // A write that was cut short was never answered.
        file.set_len(whole)?;
        Ok(book)
    }

    /// Does again what is in the journal. Returns how much of it is whole.
    fn replay(&mut self, journal: &mut impl BufRead) -> io::Result<u64> {
        let mut whole = 0;
        loop {
            let mut line = String::new();
            let length = journal.read_line(&mut line)? as u64;
            if !line.ends_with('\n') {
                return Ok(whole);
            }
            let words: Vec<&str> = line.trim_end().split(' ').collect();
            let [verb, id, number] = words[..] else {
                return Err(io::Error::other(format!("`{line}` is no line of a journal")));
            };
            let number: u64 = number.parse().map_err(io::Error::other)?;
            let mut body = Vec::new();
            if verb == "append" {
                journal.by_ref().take(number).read_to_end(&mut body)?;
                if (body.len() as u64) < number {
                    return Ok(whole);
                }
            }
            self.apply(verb, id, number, &body);
            whole += length + body.len() as u64;
        }
    }

    fn write(&mut self, verb: &str, id: &str, number: u64, body: &[u8]) -> io::Result<()> {
        let mut entry = format!("{verb} {id} {number}\n").into_bytes();
        entry.extend(body);
        self.journal.write_all(&entry)?;
        self.journal.sync_data()?;
        self.apply(verb, id, number, body);
        Ok(())
    }

    fn apply(&mut self, verb: &str, id: &str, number: u64, body: &[u8]) {
        if verb == "begin" {
            let transaction = Transaction {
                state: State::Open,
                batches: 0,
                records: Vec::new(),
                timeout: Duration::from_millis(number),
                touched: now(),
            };
            self.transactions.insert(id.to_owned(), transaction);
            return;
        }
        let Some(transaction) = self.transactions.get_mut(id) else {
            return;
        };
        transaction.touched = now();
        match verb {
            "append" => {
                transaction.batches += 1;
                transaction.records.extend(body);
            }
            "prepare" => transaction.state = State::Prepared,
            "commit" => {
                transaction.state = State::Committed;
                self.committed.push(id.to_owned());
            }
            "abort" => transaction.state = State::Aborted,
            "expire" => transaction.state = State::Expired,
            other => panic!("`{other}` is in no journal"),
        }
        if matches!(transaction.state, State::Aborted | State::Expired) {
            transaction.records = Vec::new();
        }
    }

    /// Expires a transaction that was left alone for too long.
    fn look_at(&mut self, id: &str) -> io::Result<Option<&Transaction>> {
        let is_over = self.transactions.get(id).is_some_and(|transaction| {
            let is_undecided = matches!(transaction.state, State::Open | State::Prepared);
            is_undecided && now().duration_since(transaction.touched) > transaction.timeout
        });
        if is_over {
            self.write("expire", id, 0, b"")?;
        }
        Ok(self.transactions.get(id))
    }

    /// `PUT /transactions/ID?timeout-ms=N`
    pub fn begin(&mut self, id: &str, timeout_ms: u64) -> io::Result<Answer> {
        if Duration::from_millis(timeout_ms) > self.most_timeout {
            let most = self.most_timeout.as_millis();
            return Ok((400, format!("a transaction may take {most} ms at most")));
        }
        match self
            .look_at(id)?
            .map(|transaction| (transaction.state, transaction.batches))
        {
            None => {
                self.write("begin", id, timeout_ms, b"")?;
                Ok((201, "open".to_owned()))
            }
            Some((State::Open, 0)) => Ok((200, "open".to_owned())),
            Some((state, _)) => Ok((409, state.name().to_owned())),
        }
    }

    /// `POST /transactions/ID/records?batch=N`
    pub fn append(&mut self, id: &str, batch: u64, records: &[u8]) -> io::Result<Answer> {
        match self
            .look_at(id)?
            .map(|transaction| (transaction.state, transaction.batches))
        {
            None => Ok((404, "unknown".to_owned())),
            Some((State::Expired, _)) => Ok((410, "expired".to_owned())),
            // It was here before, and its answer was lost.
            Some((State::Open, batches)) if batch < batches => Ok((200, "open".to_owned())),
            Some((State::Open, batches)) if batch == batches => {
                if !records.is_empty() && !records.ends_with(b"\n") {
                    return Ok((400, "the last record has no line end".to_owned()));
                }
                self.write("append", id, records.len() as u64, records)?;
                Ok((200, "open".to_owned()))
            }
            Some((state, batches)) => Ok((409, format!("{}, with {batches} batches", state.name()))),
        }
    }

    /// `POST /transactions/ID/prepare?batches=N`
    pub fn prepare(&mut self, id: &str, batches: u64) -> io::Result<Answer> {
        match self
            .look_at(id)?
            .map(|transaction| (transaction.state, transaction.batches))
        {
            None => Ok((404, "unknown".to_owned())),
            Some((State::Expired, _)) => Ok((410, "expired".to_owned())),
            Some((State::Prepared, had)) if had == batches => Ok((200, "prepared".to_owned())),
            Some((State::Open, had)) if had == batches => {
                self.write("prepare", id, 0, b"")?;
                Ok((200, "prepared".to_owned()))
            }
            Some((state, had)) => Ok((409, format!("{}, with {had} batches", state.name()))),
        }
    }

    /// `POST /transactions/ID/commit`
    pub fn commit(&mut self, id: &str) -> io::Result<Answer> {
        match self.look_at(id)?.map(|transaction| transaction.state) {
            None => Ok((404, "unknown".to_owned())),
            Some(State::Committed) => Ok((200, "committed".to_owned())),
            Some(State::Prepared) => {
                self.write("commit", id, 0, b"")?;
                Ok((200, "committed".to_owned()))
            }
            Some(State::Open) => Ok((409, "open".to_owned())),
            Some(state @ (State::Aborted | State::Expired)) => Ok((410, state.name().to_owned())),
        }
    }

    /// `POST /transactions/ID/abort`
    pub fn abort(&mut self, id: &str) -> io::Result<Answer> {
        match self.look_at(id)?.map(|transaction| transaction.state) {
            None => Ok((404, "unknown".to_owned())),
            Some(State::Committed) => Ok((409, "committed".to_owned())),
            Some(State::Aborted | State::Expired) => Ok((200, "aborted".to_owned())),
            Some(State::Open | State::Prepared) => {
                self.write("abort", id, 0, b"")?;
                Ok((200, "aborted".to_owned()))
            }
        }
    }

    /// Has all transactions of a state expire, as if they had been left alone for too long.
    pub fn expire(&mut self, state: State) -> io::Result<()> {
        let of_state = |(id, transaction): (&String, &Transaction)| (transaction.state == state).then(|| id.clone());
        let expired: Vec<String> = self.transactions.iter().filter_map(of_state).collect();
        expired.iter().try_for_each(|id| self.write("expire", id, 0, b""))
    }

    /// `GET /`
    pub fn describe(&self) -> Answer {
        (
            200,
            format!("streamd-ledger 1\nmax-timeout-ms {}\n", self.most_timeout.as_millis()),
        )
    }

    /// `GET /transactions`: id, state, batches and bytes of each.
    pub fn list(&self) -> Answer {
        let line = |(id, transaction): (&String, &Transaction)| {
            let (batches, bytes) = (transaction.batches, transaction.records.len());
            format!("{id} {} {batches} {bytes}\n", transaction.state.name())
        };
        (200, self.transactions.iter().map(line).collect())
    }

    /// `GET /records`: what is committed, in the order of the commits.
    pub fn records(&self) -> Vec<u8> {
        let committed = self.committed.iter().filter_map(|id| self.transactions.get(id));
        committed.flat_map(|transaction| transaction.records.clone()).collect()
    }

    /// Every transaction.
    pub fn transactions(&self) -> &BTreeMap<String, Transaction> {
        &self.transactions
    }
}
