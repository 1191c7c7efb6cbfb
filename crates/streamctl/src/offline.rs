//! What a command works with that reads snapshots itself: a runtime for the store, and the ways to tell what was found.

use std::io::{BufRead, IsTerminal, Write};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::Directories;
use streamd_core::time::WallTime;
use streamd_snapshot::fsck::SweepError;
use streamd_snapshot::inspect::InspectError;
use streamd_snapshot::{Location, SnapshotError, StoreError};
use tokio::runtime::{Handle, Runtime};

use crate::failure::Failure;
use crate::session::Session;

/// The surroundings of a command that needs no cluster. It runs on the main thread, which is none of the runtime's: reading state blocks.
pub struct Offline {
    session: Session,
    runtime: Runtime,
}

impl Offline {
    /// `runtime` carries the traffic with the store.
    pub fn new(session: Session, runtime: Runtime) -> Self {
        Self { session, runtime }
    }

    /// The configuration, and the job manager for those that ask it after all.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// For reading state.
    pub fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Waits for something that does not block the store.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    /// The folder that checkpoints go to, by the configuration.
    pub fn checkpoints(&self) -> Result<Location, Failure> {
        let directories = Directories::of(self.session.configuration(), |name| std::env::var(name).ok())?;
        Ok(Location::open(&directories.checkpoints)?)
    }
}

impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        Self::Error(error.to_coded())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Error(error.to_coded())
    }
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        Self::Error(error.to_coded())
    }
}

impl From<SweepError> for Failure {
    fn from(error: SweepError) -> Self {
        Self::Error(error.to_coded())
    }
}

/// Asks before something is lost. Without a terminal there is nobody to ask: then only `--yes` will do.
pub fn confirm(question: &str, is_agreed: bool) -> Result<(), Failure> {
    if is_agreed {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage("this deletes data and needs a confirmation", "give --yes"));
    }
    let mut stderr = std::io::stderr().lock();
    // Where stderr is closed the question is not seen, and the answer is not `yes`.
    drop(write!(stderr, "{} [y/N] ", crate::text::printable(question)).and_then(|()| stderr.flush()));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match (read, answer.trim().to_ascii_lowercase().as_str()) {
        (Ok(_), "y" | "yes") => Ok(()),
        _another_answer => Err(CodedError::new(ErrorCode::InvalidArgument, "nothing was deleted: it was not confirmed")
            .with_hint("answer `y`, or give --yes")
            .into()),
    }
}

/// `dd.MM.yyyy HH:mm:ss` in the time zone of this machine.
pub fn local_time(moment: WallTime) -> String {
    match Timestamp::from_millisecond(moment.0) {
        Ok(moment) => moment
            .to_zoned(TimeZone::system())
            .strftime("%d.%m.%Y %H:%M:%S")
            .to_string(),
        Err(_out_of_range) => format!("{} ms", moment.0),
    }
}

/// A number with the right word.
pub fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
