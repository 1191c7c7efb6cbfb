//! The store of a simulation: in memory, slow, and not always honest.
//!
//! Operations of job managers take simulated time; each may be refused, or carried out and answered with an error. Those of
//! slots and writers take no time; a writer can be cut off at its n-th operation. Whoever does an operation can die of it.

mod client;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError, Weak};
use std::time::Duration;

use object_store::memory::InMemory;
use object_store::path::Path;
use streamd_core::id::WorkerId;
use streamd_core::time::{Clock, ManualClock};

use crate::crash::{CrashKind, CrashPoint, CrashSide};
use crate::dice::Dice;
use crate::sabotage::Sabotage;
use crate::trace::Trace;

/// Where the stores of all simulations of this process are, each below a folder of its own.
const ROOT: &str = "memory:///";

/// What the folders of simulations begin with.
const FOLDER: &str = "simulation-";

/// The longest latency of an operation, in milliseconds.
const LATENCY_MS: u64 = 20;

/// The stores of simulations that run, by folder.
static RUNNING: Mutex<BTreeMap<String, Weak<SimulatedStore>>> = Mutex::new(BTreeMap::new());
static INTERPOSED: Once = Once::new();
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The store of one simulation.
pub(crate) struct SimulatedStore {
    folder: String,
    objects: InMemory,
    clock: Arc<ManualClock>,
    trace: Arc<Trace>,
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    /// In thousandths: how many operations are refused, and how many fail after the fact.
    rates: (u64, u64),
    actor: Actor,
    /// The job manager that was elected last.
    leader: Option<u32>,
    /// After so many operations of a slot or writer the connection is gone.
    cut_after: Option<u32>,
    operations: u64,
    crash: Option<CrashPoint>,
    /// Who has come to the crash point, until it is buried.
    crashed: Option<Actor>,
    sabotage: Option<Sabotage>,
}

/// Who is at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Actor {
    /// Whoever prepares the simulation.
    Nobody,
    /// A job manager, by its number.
    Manager(u32),
    /// A slot or writer of a worker.
    Worker(WorkerId),
}

/// What becomes of an operation.
enum Verdict {
    Well(Duration),
    Before(Duration),
    After(Duration),
    /// It is answered as if it had been done.
    Lost(Duration),
    /// Whoever does it never hears of it, and it is done or not.
    Never {
        is_done: bool,
    },
}

impl SimulatedStore {
    /// A new store, which locations reach by its [`uri`](Self::uri) for as long as it lives.
    pub(crate) fn new(dice: Dice, clock: Arc<ManualClock>, trace: Arc<Trace>) -> Arc<Self> {
        INTERPOSED.call_once(|| {
            let interposed = streamd_snapshot::store::interpose(ROOT, |others| Arc::new(client::Interposed { others }));
            interposed.expect("every program can open a store in memory");
        });
        let folder = format!("{FOLDER}{}", NEXT.fetch_add(1, Ordering::SeqCst));
        let store = Arc::new(Self {
            folder: folder.clone(),
            objects: InMemory::new(),
            clock,
            trace,
            state: Mutex::new(State {
                dice,
                rates: (0, 0),
                actor: Actor::Nobody,
                leader: None,
                cut_after: None,
                operations: 0,
                crash: None,
                crashed: None,
                sabotage: None,
            }),
        });
        running().insert(folder, Arc::downgrade(&store));
        store
    }

    /// Where it is.
    pub(crate) fn uri(&self) -> String {
        format!("{ROOT}{}", self.folder)
    }

    /// From now on so many operations in a thousand are refused, and so many fail after the fact.
    pub(crate) fn trouble(&self, refused: u64, applied_then_failed: u64) {
        self.lock().rates = (refused, applied_then_failed);
    }

    /// Who is at work from now on.
    pub(crate) fn acts(&self, actor: Actor) {
        self.lock().actor = actor;
    }

    /// This job manager was elected.
    pub(crate) fn is_led_by(&self, manager: u32) {
        self.lock().leader = Some(manager);
    }

    /// Whether no other one was elected after this job manager.
    pub(crate) fn is_leader(&self, manager: u32) -> bool {
        self.lock().leader == Some(manager)
    }

    /// Whoever does this operation dies of it.
    pub(crate) fn crash_at(&self, point: Option<CrashPoint>) {
        self.lock().crash = point.filter(|point| point.kind == CrashKind::Store);
    }

    /// Breaks what a store promises.
    pub(crate) fn sabotage(&self, how: Option<Sabotage>) {
        self.lock().sabotage = how;
    }

    /// Whether somebody has come to the crash point who is not buried yet.
    pub(crate) fn has_crashed(&self) -> bool {
        self.lock().crashed.is_some()
    }

    /// Who has come to the crash point, once.
    pub(crate) fn take_crashed(&self) -> Option<Actor> {
        self.lock().crashed.take()
    }

    /// How many operations there were.
    pub(crate) fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// The connection of the slot or writer that is at work now is gone after so many operations; `None`: it stays.
    pub(crate) fn cut_after(&self, operations: Option<u32>) {
        self.lock().cut_after = operations;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judge(&self, what: &str, path: &Path) -> Verdict {
        let mut state = self.lock();
        if let Some(verdict) = state.crash(what) {
            return verdict;
        }
        let Actor::Manager(manager) = state.actor else {
            return state.judge_worker();
        };
        let (refused, applied) = state.rates;
        let latency = Duration::from_millis(state.dice.between(1, LATENCY_MS));
        let thrown = state.dice.below(1_000);
        let is_of_the_past = state.leader.is_some_and(|leader| leader != manager) && what == "put";
        let is_lost = state.sabotage == Some(Sabotage::LosesWrites) && what == "put" && state.dice.happens(100);
        drop(state);
        if is_of_the_past {
            self.trace.saw("a job manager that does not lead wrote");
        }
        let (verdict, told) = if thrown < refused {
            (Verdict::Before(latency), "refused")
        } else if thrown < refused + applied {
            self.trace.saw("a store operation failed after the fact");
            if what == "put" {
                self.trace.saw("a create was ambiguous");
            }
            (Verdict::After(latency), "applied, answered with an error")
        } else if is_lost {
            (Verdict::Lost(latency), "lost, answered as if it were not")
        } else {
            (Verdict::Well(latency), "well")
        };
        let name = without_nonces(path.as_ref(), &self.folder);
        self.trace.line(
            self.clock.monotonic().0,
            format_args!("store {what} {name} of {manager}: {told}"),
        );
        verdict
    }
}

impl State {
    /// Counts an operation, and has whoever does it die if this is the one.
    fn crash(&mut self, what: &str) -> Option<Verdict> {
        if self.actor == Actor::Nobody {
            return None;
        }
        // The dead do nothing more.
        if self.crashed == Some(self.actor) {
            return Some(self.never(false));
        }
        let number = self.operations;
        self.operations += 1;
        let side = self.crash.filter(|point| point.index == number)?.side;
        self.crashed = Some(self.actor);
        tracing::debug!(what, number, "crash point");
        Some(self.never(side == CrashSide::After))
    }

    /// A slot cannot wait for ever: its process is gone as soon as its turn is over.
    fn never(&self, is_done: bool) -> Verdict {
        match (self.actor, is_done) {
            (Actor::Worker(_), true) => Verdict::After(Duration::ZERO),
            (Actor::Worker(_), false) => Verdict::Before(Duration::ZERO),
            (Actor::Manager(_) | Actor::Nobody, is_done) => Verdict::Never { is_done },
        }
    }

    fn judge_worker(&mut self) -> Verdict {
        match &mut self.cut_after {
            Some(0) => Verdict::Before(Duration::ZERO),
            Some(left) => {
                *left -= 1;
                Verdict::Well(Duration::ZERO)
            }
            None => Verdict::Well(Duration::ZERO),
        }
    }
}

impl Drop for SimulatedStore {
    fn drop(&mut self) {
        running().remove(&self.folder);
    }
}

/// The store of the simulation that the path belongs to, if any.
fn simulated(path: &Path) -> Option<Arc<SimulatedStore>> {
    let folder = path.as_ref().split('/').next()?;
    running().get(folder)?.upgrade()
}

fn running() -> MutexGuard<'static, BTreeMap<String, Weak<SimulatedStore>>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The path without the folder of the simulation, and with a star for each random name.
fn without_nonces(path: &str, folder: &str) -> String {
    let path = path.strip_prefix(folder).unwrap_or(path);
    let is_random = |part: &&str| part.len() == 32 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let segments = path.split('/').map(|segment| {
        let (stem, end) = segment.split_once('.').map_or((segment, ""), |(stem, end)| (stem, end));
        let parts: Vec<&str> = stem
            .split('-')
            .map(|part| if is_random(&part) { "*" } else { part })
            .collect();
        match end {
            "" => parts.join("-"),
            end => format!("{}.{end}", parts.join("-")),
        }
    });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_names_are_left_out_of_the_trace() {
        let path =
            "simulation-3/c/00112233445566778899aabbccddeeff/chk-4/0-1-a2-00112233445566778899aabbccddeeff.state";
        assert_eq!(without_nonces(path, "simulation-3"), "/c/*/chk-4/0-1-a2-*.state");
        assert_eq!(
            without_nonces("simulation-3/completed/00000000000000000007.json", "simulation-3"),
            "/completed/00000000000000000007.json"
        );
    }
}
