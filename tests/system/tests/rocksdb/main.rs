//! The state backend `rocksdb` in whole clusters: tests of the system that have to do with state, with every job on RocksDB, and
//! what only RocksDB does. A binary of its own, since no program has RocksDB unless it is asked for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "../cluster/event_time.rs"]
mod event_time;
#[path = "../cluster/evolution.rs"]
mod evolution;
mod local;
mod native;
#[path = "../cluster/retained.rs"]
mod retained;

/// Has a job take a checkpoint five times a second.
const CHECKPOINTS: &str = "execution.checkpointing.interval=200 ms";

/// The binary of the example `nexmark`, built with RocksDB.
const NEXMARK: &str = "nexmark-on-disk";
