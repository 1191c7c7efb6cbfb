//! Logs that are being read from task managers.

use std::collections::BTreeMap;

use bytes::Bytes;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::{TaskManagerId, WorkerId};
use streamd_rpc::proto;
use tokio::sync::mpsc;

/// A piece of a worker's log, or why there is no more.
pub(crate) type LogPart = Result<(WorkerId, Bytes), CodedError>;

/// The requests under way, by number.
#[derive(Default)]
pub(super) struct LogRequests {
    by_number: BTreeMap<u64, LogRequest>,
}

struct LogRequest {
    task_manager: TaskManagerId,
    reader: mpsc::Sender<LogPart>,
    /// A place in the reader's queue that is kept for an error.
    last_place: mpsc::OwnedPermit<LogPart>,
}

impl LogRequests {
    /// Notes that a task manager was asked. `false` if the reader's queue has no place.
    pub(super) fn begin(&mut self, number: u64, task_manager: TaskManagerId, reader: &mpsc::Sender<LogPart>) -> bool {
        let Ok(last_place) = reader.clone().try_reserve_owned() else {
            return false;
        };
        let request = LogRequest {
            task_manager,
            reader: reader.clone(),
            last_place,
        };
        self.by_number.insert(number, request);
        true
    }

    /// Hands a piece to its reader. A reader that is gone or too slow ends the request.
    pub(super) fn on_chunk(&mut self, task_manager: &TaskManagerId, chunk: proto::LogChunk) {
        let number = chunk.request_id;
        let Some(request) = self
            .by_number
            .get(&number)
            .filter(|request| request.task_manager == *task_manager)
        else {
            return;
        };
        let delivered = chunk.chunk.is_empty() || {
            let part = Ok((WorkerId(chunk.worker_id), chunk.chunk));
            request.reader.try_send(part).is_ok()
        };
        if delivered && !chunk.last {
            return;
        }
        if let Some(request) = self.by_number.remove(&number).filter(|_| !delivered) {
            request.last_place.send(Err(CodedError::new(
                ErrorCode::DeadlineExceeded,
                "the log comes faster than it is read",
            )
            .with_hint("read it again, into a file")));
        }
    }

    /// A task manager is gone: what it has not said will not be said.
    pub(super) fn on_lost(&mut self, task_manager: &TaskManagerId) {
        self.by_number
            .retain(|_, request| request.task_manager != *task_manager);
    }
}
