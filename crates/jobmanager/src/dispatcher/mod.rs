//! What clients ask of the job manager: applications, submissions, and the jobs that run or have ended.
//!
//! ```text
//!   submit ─▶ claim the id ─▶ describe ─▶ validate ─▶ read the snapshot ─▶ job master ─▶ accepted
//!                 │                             (each refusal gives the id back)
//!   list, find ◀──┴── registry of jobs (one task owns it)
//! ```

mod artifact;
mod built;
mod checkpoint_folder;
mod compatibility;
mod left_behind;
mod logs;
mod operation;
mod profile;
mod record;
mod recovery;
mod registry;
mod resume;
mod submission;

pub(crate) use artifact::{CHANGED, artifact_error};
pub(crate) use checkpoint_folder::CheckpointFolders;
pub(crate) use logs::stream_logs;
pub(crate) use operation::{KnownOperation, OPERATIONS_KEPT, parse_operation_id};
pub(crate) use profile::{profile_orders, stream_profiles};
pub(crate) use registry::{RegistryHandle, RegistryOptions};
pub(crate) use submission::{Dispatcher, DispatcherOptions};
