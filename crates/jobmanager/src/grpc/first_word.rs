//! The first message on a new link, which says who opens it.

use std::time::Duration;

use tonic::{Status, Streaming};

/// How long a new link may take to say who it is: whoever opens one has its registration ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// The first message of a stream; `None` if it ended without one. Errors if none came in time.
pub(super) async fn first_word<T>(events: &mut Streaming<T>) -> Result<Option<T>, Status> {
    let first = tokio::time::timeout(PATIENCE, events.message()).await;
    first.map_err(|_late| Status::deadline_exceeded("no registration came"))?
}
