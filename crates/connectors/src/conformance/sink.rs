//! The suite for sinks that commit.

use std::fmt::Debug;

use streamd_core::id::{JobId, SubtaskId};
use streamd_core::sink::{Sink, SinkContext, SinkWriter};
use streamd_core::state::{from_row, to_row};

/// The context of a writer in a test.
pub fn context(subtask: u32, nonce: &str) -> SinkContext {
    SinkContext {
        job_id: JobId::from_bytes([7; 16]),
        operator: "results".to_owned(),
        subtask: SubtaskId {
            vertex: 1,
            index: subtask,
        },
        nonce: nonce.to_owned(),
    }
}

/// A sink under test: an empty one, and a way to see what its users see.
pub struct Suite<'a, S: Sink, V> {
    /// The sink. Nothing is visible in it yet.
    pub sink: &'a S,
    /// The record with this number.
    pub record: &'a dyn Fn(u64) -> S::In,
    /// How users see a record.
    pub view: &'a dyn Fn(u64) -> V,
    /// Everything that users see now.
    pub visible: &'a dyn Fn() -> Vec<V>,
}

impl<S: Sink, V: Ord + Debug> Suite<'_, S, V> {
    /// Runs the whole life of a job with two failures. Panics unless exactly what is committed is visible, whenever one looks.
    pub fn shows_exactly_what_is_committed(&self) {
        let mut writers = self.writers("first");
        self.assert_visible(0..0, "an idle sink shows nothing");

        let nothing = self.prepare(&mut writers);
        assert!(nothing.is_empty(), "an interval without records has nothing to commit");
        self.commit(&nothing);

        self.write(&mut writers, 0..10);
        self.assert_visible(0..0, "records are hidden until they are committed");
        let first = self.prepare(&mut writers);
        self.assert_visible(0..0, "prepared records are hidden until they are committed");
        // Written after the barrier: belongs to the next checkpoint.
        self.write(&mut writers, 10..20);
        self.commit(&first);
        self.assert_visible(
            0..10,
            "a commit shows what was prepared, and nothing that was written later",
        );
        self.commit(&first);
        self.assert_visible(0..10, "a second commit changes nothing");

        self.fails_between_prepare_and_commit(writers, &first);
    }

    /// The checkpoint with 10..20 completes, but the job fails before it hears of it.
    fn fails_between_prepare_and_commit(&self, mut superseded: Vec<S::Writer>, first: &[S::Committable]) {
        let second = self.prepare(&mut superseded);
        // These reach a checkpoint that is never completed, and these not even that.
        self.write(&mut superseded, 900..905);
        self.prepare(&mut superseded);
        self.write(&mut superseded, 905..910);

        let mut writers = self.writers("second");
        self.assert_visible(0..10, "a new writer shows nothing that was not committed");
        self.write(&mut writers, 20..30);
        self.write(&mut superseded, 910..920);
        self.commit(&second);
        self.assert_visible(0..20, "the restored checkpoint is committed by its committables alone");
        self.commit(&[first.to_vec(), second.clone()].concat());
        self.assert_visible(0..20, "committables of different checkpoints may come again, together");

        let third = self.prepare(&mut writers);
        drop(writers);
        drop(superseded);
        let mut reversed = third.clone();
        reversed.reverse();
        self.commit(&reversed);
        self.assert_visible(0..30, "the end of its writer takes nothing away from a checkpoint");
        third.iter().for_each(|one| self.commit(std::slice::from_ref(one)));
        self.commit(&second);
        self.assert_visible(0..30, "commits may come again in any order");
    }

    fn writers(&self, nonce: &str) -> Vec<S::Writer> {
        (0..2)
            .map(|subtask| {
                self.sink
                    .writer(&context(subtask, nonce))
                    .expect("the sink makes a writer")
            })
            .collect()
    }

    /// Writes the records in turn to the writers, in batches of up to three.
    fn write(&self, writers: &mut [S::Writer], numbers: std::ops::Range<u64>) {
        let numbers: Vec<u64> = numbers.collect();
        let count = writers.len();
        for (index, chunk) in numbers.chunks(3).enumerate() {
            let mut batch = chunk.iter().map(|number| (self.record)(*number)).collect();
            let writer = &mut writers[index % count];
            writer.write(&mut batch).expect("the sink can be written");
            assert!(batch.is_empty(), "a writer takes all records out of the batch");
            writer.flush().expect("the sink can be flushed");
        }
    }

    /// Prepares all writers; the committables have been through their encoding, as if restored.
    fn prepare(&self, writers: &mut [S::Writer]) -> Vec<S::Committable> {
        writers
            .iter_mut()
            .flat_map(|writer| writer.prepare_commit().expect("the sink prepares"))
            .map(|committable| from_row(&to_row(&committable)).expect("a committable survives its encoding"))
            .collect()
    }

    fn commit(&self, committables: &[S::Committable]) {
        self.sink.commit(committables).expect("the sink commits");
    }

    fn assert_visible(&self, numbers: std::ops::Range<u64>, law: &str) {
        let mut visible = (self.visible)();
        visible.sort_unstable();
        let mut expected: Vec<V> = numbers.map(self.view).collect();
        expected.sort_unstable();
        assert_eq!(visible, expected, "{law}");
    }
}
