//! What happened, line by line: the same seed gives the same lines, byte for byte.

use std::fmt::Display;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use crate::outcome::Sightings;

/// FNV-1a: what two runs compare.
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;

/// Where lines go, and what was seen at all. Shared by all parts of a simulation.
pub(crate) struct Trace(Mutex<Lines>);

struct Lines {
    to: Option<Box<dyn Write + Send>>,
    digest: u64,
    sightings: Sightings,
    violation: Option<String>,
}

impl Trace {
    pub(crate) fn new(to: Option<Box<dyn Write + Send>>) -> Self {
        Self(Mutex::new(Lines {
            to,
            digest: OFFSET,
            sightings: Sightings::new(),
            violation: None,
        }))
    }

    /// A line. It must hold nothing that differs between two runs of a seed: no random name, no address, no real time.
    pub(crate) fn line(&self, now: u64, text: impl Display) {
        let line = format!("{now:>8} {text}\n");
        let mut lines = self.lock();
        for byte in line.bytes() {
            lines.digest = (lines.digest ^ u64::from(byte)).wrapping_mul(PRIME);
        }
        if let Some(to) = &mut lines.to
            && let Err(error) = to.write_all(line.as_bytes())
        {
            tracing::warn!(%error, "the trace cannot be written");
            lines.to = None;
        }
    }

    /// Something happened that a run in which it never does has not tested.
    pub(crate) fn saw(&self, what: &'static str) {
        *self.lock().sightings.entry(what).or_default() += 1;
    }

    /// An invariant does not hold. The first one counts.
    pub(crate) fn violated(&self, now: u64, what: impl Display) {
        let what = what.to_string();
        self.line(now, format_args!("VIOLATION {what}"));
        self.lock().violation.get_or_insert(what);
    }

    pub(crate) fn violation(&self) -> Option<String> {
        self.lock().violation.clone()
    }

    pub(crate) fn digest(&self) -> u64 {
        self.lock().digest
    }

    pub(crate) fn sightings(&self) -> Sightings {
        self.lock().sightings.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
