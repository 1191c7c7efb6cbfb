//! Every operator, cut anywhere: what a job commits that is stopped with savepoints, fails, and goes on with other parallelisms
//! equals what a slow and obviously right function of the whole stream says.
//!
//! Each trial is a random stream, read in random interleavings, by a job that lives in several legs: each has its own parallelism,
//! keeps its state in a random backend, reads up to a random place, perhaps fails and recovers, and leaves a savepoint or a checkpoint,
//! whole or incremental, from which the next one goes on.
//!
//! `every_kind` has state of every kind in one job, and goes through all of that in turn: each backend with each form of snapshot that
//! it has, restored by each backend at the same parallelism and at others. Right after the restore the state is the one that was left,
//! row by row; in a savepoint it has typed columns.
//!
//! | operator | trial | also held against a reference by hand, step by step |
//! |---|---|---|
//! | map, filter, flat map, union, fork | `stateless::records_are_turned_into_others` | |
//! | side output | `stateless::records_leave_by_the_side` | |
//! | forward, rebalance, rescale, shuffle, global, broadcast, custom partitioner | `stateless::records_are_dealt_out_in_every_way` | `embedded.rs` |
//! | reduce | `keyed::reductions_count_each_record_once` | |
//! | keyed process: value, list, map, reducing, aggregating state; timers | `keyed::state_of_every_kind_and_timers_come_through` | `runtime/tests/windows/timers.rs` |
//! | time to live | (its time is the clock's: only that it comes through, in `keyed`) | `runtime/tests/state/time_to_live.rs` |
//! | process: list state, union list state, end of input | `unkeyed::lists_are_dealt_out_and_given_to_all` | `runtime/tests/state/operator_state.rs` |
//! | broadcast process, keyed broadcast process | `unkeyed::what_is_broadcast_is_known_everywhere` | `runtime/tests/state/broadcast.rs` |
//! | asynchronous calls, ordered and unordered | `unkeyed::calls_in_flight_are_made_again` | `runtime/tests/state/async_wait.rs` |
//! | connect: co-map, co-flat-map, co-process, keyed co-process | `joins::two_streams_are_processed_together` | |
//! | window join, co-group | `joins::pairs_and_groups_share_a_window` | |
//! | interval join | `joins::pairs_lie_within_an_interval` | |
//! | tumbling, sliding, session windows; reduce, aggregate, process | `windows::every_window_gives_what_lies_in_it` | `runtime/tests/windows/reference.rs` |
//! | evictors, count windows, windows over all keys | `windows::windows_of_other_kinds_do_too` | `runtime/tests/windows/semantics.rs` |
//! | windows of processing time | `every_kind` (only that they come through) | `runtime/tests/windows/processing_time.rs` |
//! | late records, allowed lateness, triggers | (what is late depends on the interleaving) | `runtime/tests/windows/reference.rs` |
//! | watermarks per split, idleness, alignment | every trial with event time | `watermarks.rs`, `runtime/src/watermark/tests.rs` |
//! | sources, sinks | every trial: three splits, files | `streamd::testing::conformance` |

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../committed/mod.rs"]
mod committed;
mod events;
mod life;
mod trial;

mod every_kind;
mod joins;
mod keyed;
mod stateless;
mod unkeyed;
mod windows;
