use std::collections::BTreeMap;
use std::sync::Mutex;

use streamd_core::barrier::{Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, JobId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::time::{ManualClock, WallTime};

use super::*;
use crate::head::{SourceTask, SourceTurn};

/// What the operators were told.
type Told = Arc<Mutex<Vec<&'static str>>>;

/// A source that has nothing, before operators that only listen.
struct Listening {
    told: Told,
    calls: Arc<Mutex<Calls>>,
}

impl SourceTask for Listening {
    fn poll(&mut self) -> Result<SourceTurn, TaskError> {
        Ok(SourceTurn {
            records: 0,
            wait: Duration::MAX,
            ended: false,
        })
    }

    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        let what = match event {
            ControlEvent::ProcessingTime(_) => "time",
            ControlEvent::Completed => "completed",
            ControlEvent::EndOfData => "end",
            ControlEvent::Flush => "flush",
            ControlEvent::Open(_)
            | ControlEvent::Restore(_)
            | ControlEvent::Barrier(..)
            | ControlEvent::Watermark(..)
            | ControlEvent::CheckpointComplete(_)
            | ControlEvent::Finish => return Ok(()),
        };
        self.told.lock().unwrap().push(what);
        Ok(())
    }

    fn resume(&mut self) -> Result<bool, TaskError> {
        Ok(false)
    }

    fn has_room(&self) -> bool {
        true
    }

    fn calls(&self) -> Calls {
        *self.calls.lock().unwrap()
    }

    fn is_held(&self) -> bool {
        false
    }

    fn position(&self) -> Option<String> {
        None
    }
}

struct Reports(Told);

impl SubtaskReporter for Reports {
    fn on_cut(&self, _: SubtaskId, _: &Barrier, _: Vec<OperatorSnapshot>) {
        self.0.lock().unwrap().push("cut");
    }

    fn on_end_of_data(&self, _: SubtaskId) {
        self.0.lock().unwrap().push("ended");
    }
}

struct World {
    subtask: Subtask,
    context: OpenContext,
    told: Told,
    calls: Arc<Mutex<Calls>>,
    clock: Arc<ManualClock>,
    _io: tokio::runtime::Runtime,
}

fn world() -> World {
    let (told, calls) = (Told::default(), Arc::new(Mutex::new(Calls::None)));
    let listening = Listening {
        told: Arc::clone(&told),
        calls: Arc::clone(&calls),
    };
    let id = SubtaskId { vertex: 0, index: 0 };
    let head = Head::Source(Box::new(listening));
    let mut subtask = Subtask::new(id, Arc::from("listening"), head, Box::new(Reports(Arc::clone(&told))));
    let io = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let clock = Arc::new(ManualClock::default());
    let mut context = OpenContext {
        job_id: JobId::from_bytes([0; 16]),
        attempt: Attempt(1),
        subtask: id,
        parallelism: 1,
        key_groups: KeyGroupRange::all(1),
        max_parallelism: 1,
        nonce: String::new(),
        state: BTreeMap::new(),
        backend: streamd_state::SlotBackend::default(),
        restored_at_once: streamd_state::AT_ONCE_BYTES,
        io: io.handle().clone(),
        clock: Arc::<ManualClock>::clone(&clock),
        at_hand: AtHand::default(),
        alarm: Alarm::default(),
        completions: Completions::default(),
        late_dropped: crate::late::LateCounter::default(),
        source: None,
        alignment: crate::watermark::AlignmentGroups::default(),
    };
    subtask.open(&mut context).unwrap();
    World {
        subtask,
        context,
        told,
        calls,
        clock,
        _io: io,
    }
}

impl World {
    fn turn(&mut self) -> Vec<&'static str> {
        self.subtask.turn().unwrap();
        std::mem::take(&mut *self.told.lock().unwrap())
    }
}

fn barrier(sources: AfterBarrier) -> Barrier {
    let options = SnapshotOptions {
        kind: SnapshotKind::Savepoint,
        location: "memory:///s".to_owned(),
        sources,
        aligned: true,
        increment: Increment::Off,
        compression: Compression::None,
    };
    Barrier {
        checkpoint: CheckpointId(1),
        options: Arc::new(options),
    }
}

/// A flush tells the consumers how far the time has come, and so fires timers.
#[test]
fn behind_the_barrier_of_stop_nothing_is_said_of_the_time_until_it_is_given_up() {
    let mut world = world();
    world.context.completions.notify();
    // Woken once, it has something to flush; the barrier comes before it does.
    assert!(world.subtask.complete_calls().unwrap());
    world.subtask.trigger(&barrier(AfterBarrier::Halt)).unwrap();
    assert_eq!(world.turn(), ["completed", "cut"]);
    assert!(world.turn().is_empty());
    world.subtask.checkpoint_aborted(CheckpointId(1));
    assert_eq!(world.turn(), ["flush"]);
}

/// What is emitted behind the barrier of `stop` would be committed with it, and again by whoever starts from the savepoint.
#[test]
fn behind_the_barrier_of_stop_no_timer_fires_and_no_call_comes_back_until_it_is_given_up() {
    let mut world = world();
    world.context.alarm.set(WallTime(100));
    world.context.completions.notify();
    assert_eq!(world.turn(), ["completed"]);
    world.subtask.trigger(&barrier(AfterBarrier::Halt)).unwrap();
    assert_eq!(world.turn(), ["cut"]);
    world.clock.advance(100);
    world.context.completions.notify();
    assert!(world.turn().is_empty());
    world.subtask.checkpoint_aborted(CheckpointId(1));
    assert_eq!(world.turn(), ["completed", "time"]);
}

#[test]
fn a_savepoint_that_the_job_goes_on_after_halts_nothing() {
    let mut world = world();
    world.subtask.trigger(&barrier(AfterBarrier::Continue)).unwrap();
    world.context.alarm.set(WallTime(0));
    assert_eq!(world.turn(), ["cut", "time"]);
}

#[test]
fn the_end_is_reported_when_every_call_has_come_back() {
    let mut world = world();
    *world.calls.lock().unwrap() = Calls::Some;
    world.subtask.drain().unwrap();
    assert_eq!(world.turn(), ["end"]);
    assert!(world.turn().is_empty());
    *world.calls.lock().unwrap() = Calls::None;
    world.context.completions.notify();
    assert_eq!(world.turn(), ["completed", "ended"]);
}
