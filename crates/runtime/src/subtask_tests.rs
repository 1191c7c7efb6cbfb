use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Mutex;

use streamd_core::barrier::{Compression, Increment, SnapshotKind, SnapshotOptions};
use streamd_core::id::{Attempt, JobId};
use streamd_core::key_group::KeyGroupRange;
use streamd_core::time::{ManualClock, WallTime};
use streamd_exchange::{Batch, ChannelSender, Element, InputGate, Origin, Payload, Waker, local_channel};

use super::*;
use crate::head::{InputTask, SourceTask, SourceTurn};

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

/// The same as the head of a chain that is fed by channels; tells which record it was given.
impl InputTask for Listening {
    fn receive(&mut self, payload: Payload) -> Result<Option<Box<dyn Any + Send>>, TaskError> {
        let Payload::Local(batch) = payload else {
            panic!("nothing is encoded within a process");
        };
        let batch = batch.downcast::<Batch<&'static str>>().unwrap();
        self.told.lock().unwrap().extend(batch.records());
        Ok(Some(batch))
    }

    fn control(&mut self, event: &mut ControlEvent<'_>) -> Result<(), TaskError> {
        SourceTask::control(self, event)
    }

    fn resume(&mut self) -> Result<bool, TaskError> {
        Ok(false)
    }

    fn has_room(&self) -> bool {
        true
    }

    fn calls(&self) -> Calls {
        Calls::None
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
    world_of(|listening| Head::Source(Box::new(listening)))
}

fn world_of(head: impl FnOnce(Listening) -> Head) -> World {
    let (told, calls) = (Told::default(), Arc::new(Mutex::new(Calls::None)));
    let head = head(Listening {
        told: Arc::clone(&told),
        calls: Arc::clone(&calls),
    });
    let id = SubtaskId { vertex: 0, index: 0 };
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

/// A batch that counts as more than a channel may be ahead by.
fn many(name: &'static str) -> Element {
    Element::Records {
        payload: Payload::Local(Box::new(Batch::from(vec![name]))),
        count: u32::MAX,
        origin: Origin::UNKNOWN,
    }
}

fn time(millis: i64) -> Element {
    Element::Watermark(Watermark::Time(EventTime(millis)))
}

/// A subtask with two channels, of which the first is a batch ahead of the time that the second has come to.
fn world_ahead() -> (World, [ChannelSender; 2]) {
    let (waker, _) = Waker::new();
    let channel = || local_channel(4, waker.clone(), waker.clone());
    let ((first, first_in), (second, second_in)) = (channel(), channel());
    let gate = InputGate::new(vec![first_in, second_in]);
    let mut world = world_of(|listening| Head::Input(gate, Box::new(listening)));
    for (sender, element) in [(&second, time(10)), (&first, time(20)), (&first, many("ahead"))] {
        let _ = sender.send(element);
    }
    assert_eq!(world.turn(), ["ahead"]);
    (world, [first, second])
}

#[test]
fn a_channel_that_is_ahead_is_passed_over_until_the_others_have_come_as_far() {
    let (mut world, [first, second]) = world_ahead();
    let _ = first.send(many("further ahead"));
    let _ = second.send(many("behind"));
    assert_eq!(world.turn(), ["behind"]);
    assert!(world.turn().is_empty());
    let _ = second.send(time(20));
    assert_eq!(world.turn(), ["further ahead"]);
}

/// The others may be waiting for something that comes of what it brings, or may never say again what time it is.
#[test]
fn a_channel_that_is_ahead_is_read_after_some_turns_all_the_same() {
    let (mut world, [first, _second]) = world_ahead();
    let _ = first.send(many("further ahead"));
    let turns = (1..100).find(|_| {
        assert_eq!(
            world.subtask.turn().unwrap(),
            Turn::Worked,
            "it must not sleep over what it has"
        );
        world.told.lock().unwrap().contains(&"further ahead")
    });
    assert_eq!(turns, Some(17));
}

#[test]
fn a_channel_that_is_ahead_is_read_up_to_a_barrier_that_the_others_wait_for() {
    let (mut world, [first, second]) = world_ahead();
    let barrier = barrier(AfterBarrier::Continue);
    let _ = first.send(many("further ahead"));
    let _ = first.send(Element::Barrier(barrier.clone()));
    let _ = second.send(Element::Barrier(barrier));
    assert_eq!(world.turn(), [""; 0]);
    assert_eq!(world.turn(), ["further ahead", "cut"]);
}
