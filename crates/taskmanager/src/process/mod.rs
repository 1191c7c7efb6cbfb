//! What describing programs and workers have in common: how a program is examined, started, listened to and ended.

mod environment;
mod executable;
mod exit;
mod group;
mod launch;
mod output;
mod strays;

pub(crate) use environment::Environment;
pub(crate) use executable::examine;
pub(crate) use exit::{exit_reason, last_words, words_in_log};
pub(crate) use group::ProcessGroup;
pub(crate) use launch::{Launch, NO_LIMIT, Restrictions};
pub(crate) use output::{Tail, while_copying};
pub(crate) use strays::{end_strays_below, sweep};
