//! Credit as the consumer issues it: how many frames of records the other side may send.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::inbox::{Overrun, lock};

/// What a connection has to tell the producing side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The channel may send so many more frames of records.
    Credit { channel: u32, frames: u32 },
    /// The channel's consumer is gone.
    Stop { channel: u32 },
}

/// The notices of one connection, on their way from the slot threads to its task.
///
/// Bounded by the channels: each can have two grants of half its credit under way, and one stop.
#[derive(Default)]
pub(crate) struct NoticeBoard {
    state: Mutex<BoardState>,
    changed: Notify,
}

#[derive(Default)]
struct BoardState {
    notices: Vec<Notice>,
    end: Option<End>,
}

/// The connection ends, for a reason that the producing side is told if there is one.
pub(crate) type End = Option<String>;

impl NoticeBoard {
    fn post(&self, notice: Notice) {
        let mut state = lock(&self.state);
        if state.end.is_some() {
            return;
        }
        state.notices.push(notice);
        let first = state.notices.len() == 1;
        drop(state);
        if first {
            self.changed.notify_one();
        }
    }

    /// No notice follows.
    pub(crate) fn end(&self, end: End) {
        lock(&self.state).end.get_or_insert(end);
        self.changed.notify_one();
    }

    /// Takes all notices, and the end if it has come; `into` is empty before.
    pub(crate) fn drain(&self, into: &mut Vec<Notice>) -> Option<End> {
        let mut state = lock(&self.state);
        std::mem::swap(&mut state.notices, into);
        state.end.clone()
    }

    /// Waits until there may be notices.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }
}

/// The way back from a channel's consumer to the connection that feeds it.
pub(crate) struct CreditLine {
    pub(crate) board: Arc<NoticeBoard>,
    pub(crate) channel: u32,
}

impl CreditLine {
    fn credit(&self, frames: u32) {
        self.board.post(Notice::Credit {
            channel: self.channel,
            frames,
        });
    }

    fn stop(&self) {
        self.board.post(Notice::Stop { channel: self.channel });
    }
}

/// The credit of one channel. The first of it is issued when both the consumer and the connection are there.
///
/// Invariant: frames in the queue + `outstanding` + `owed` = the initial credit, once issued.
pub(crate) struct CreditAccount {
    initial: u32,
    /// Frames that the producer may still send, as far as this side knows.
    outstanding: u32,
    /// Frames that were taken and not yet granted anew.
    owed: u32,
    consumer: ConsumerEnd,
    line: Option<CreditLine>,
}

#[derive(PartialEq)]
enum ConsumerEnd {
    NotYet,
    There,
    Gone,
}

impl CreditAccount {
    pub(crate) fn new(initial: u32) -> Self {
        Self {
            initial: initial.max(1),
            outstanding: 0,
            owed: 0,
            consumer: ConsumerEnd::NotYet,
            line: None,
        }
    }

    /// The consumer is there.
    pub(crate) fn bind(&mut self) {
        self.consumer = ConsumerEnd::There;
        self.owed = self.initial;
        self.grant();
    }

    /// The connection is there. `false` if one was already.
    pub(crate) fn connect(&mut self, line: CreditLine) -> bool {
        if self.line.is_some() {
            return false;
        }
        if self.consumer == ConsumerEnd::Gone {
            line.stop();
        }
        self.line = Some(line);
        self.grant();
        true
    }

    /// A frame of records arrived.
    pub(crate) fn spend(&mut self) -> Result<(), Overrun> {
        self.outstanding = self.outstanding.checked_sub(1).ok_or(Overrun::Credit)?;
        Ok(())
    }

    /// The consumer took a frame of records. Credit goes back in halves: one small frame per several large ones.
    pub(crate) fn on_taken(&mut self) {
        self.owed += 1;
        if self.owed >= (self.initial / 2).max(1) {
            self.grant();
        }
    }

    /// The consumer is gone.
    pub(crate) fn stop(&mut self) {
        self.consumer = ConsumerEnd::Gone;
        if let Some(line) = &self.line {
            line.stop();
        }
    }

    fn grant(&mut self) {
        if let Some(line) = &self.line
            && self.owed > 0
            && self.consumer == ConsumerEnd::There
        {
            line.credit(self.owed);
            self.outstanding += self.owed;
            self.owed = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(board: &Arc<NoticeBoard>) -> CreditLine {
        CreditLine {
            board: Arc::clone(board),
            channel: 3,
        }
    }

    fn posted(board: &NoticeBoard) -> Vec<Notice> {
        let mut notices = Vec::new();
        board.drain(&mut notices);
        notices
    }

    #[test]
    fn credit_is_issued_when_both_ends_are_there_and_again_in_halves() {
        let board = Arc::new(NoticeBoard::default());
        let mut account = CreditAccount::new(8);
        assert!(account.connect(line(&board)));
        assert_eq!(posted(&board), [], "nobody is there to read");
        account.bind();
        assert_eq!(posted(&board), [Notice::Credit { channel: 3, frames: 8 }]);
        for _ in 0..8 {
            account.spend().unwrap();
        }
        assert_eq!(account.spend(), Err(Overrun::Credit));
        for _ in 0..7 {
            account.on_taken();
        }
        assert_eq!(posted(&board), [Notice::Credit { channel: 3, frames: 4 }]);
        account.on_taken();
        assert_eq!(posted(&board), [Notice::Credit { channel: 3, frames: 4 }]);
        assert!(!account.connect(line(&board)), "a channel has one connection");
    }

    #[test]
    fn a_consumer_that_left_before_the_connection_came_stops_it() {
        let board = Arc::new(NoticeBoard::default());
        let mut account = CreditAccount::new(8);
        account.bind();
        account.stop();
        account.connect(line(&board));
        assert_eq!(posted(&board), [Notice::Stop { channel: 3 }]);
    }
}
