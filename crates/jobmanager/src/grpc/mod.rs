//! The gRPC services: messages in, calls of the components, messages out. No decision is taken here.

mod answer;
mod artifact;
mod dispatcher;
mod first_word;
mod standby;
mod task_manager_link;
mod worker_link;

pub(crate) use dispatcher::DispatcherService;
pub(crate) use standby::StandbyService;
pub(crate) use task_manager_link::{TaskManagerLinkService, report};
pub(crate) use worker_link::{Arrival, WorkerLinkService, attach};
