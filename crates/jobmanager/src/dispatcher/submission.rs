//! Submitting an application: from its bytes to a job that runs, or to a refusal that leaves nothing behind.

use std::panic::resume_unwind;
use std::sync::Arc;

use bytes::Bytes;
use streamd_coordinator::checkpoint::Objects;
use streamd_coordinator::event::{JobOptions, RestorePoint};
use streamd_coordinator::job::{JobMachine, RestoredFrom};
use streamd_coordinator::lifecycle::JobState;
use streamd_coordinator::restore::Dropping;
use streamd_coordinator::validate::validate;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::graph::{ClaimMode, JobGraph};
use streamd_core::id::{JobId, WorkerId};
use streamd_core::plan::PlanDescriptor;
use streamd_core::time::{Clock, WallTime};
use streamd_rpc::proto::{self, Application, SubmitJobRequest};
use streamd_snapshot::{
    ArtifactStore, JobStore, Location, OperationCatalogue, Sharing, StoreError, dispose_unused, layout,
};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::artifact::artifact_error;
use super::built::check_built;
use super::checkpoint_folder::CheckpointFolders;
use super::registry::{Claim, Outcome, RegistryHandle};
use crate::fence::Fence;
use crate::job_master::{self, Effects, JobEnvironment, JobMasterHandle, JobStatus, Onlookers, Past, WorkerTimeouts};
use crate::journal::Journal;
use crate::options::{JobDefaults, ResolveJobOptions, job_options};
use crate::pins::{Pin, Pins};
use crate::resource_manager::{ClusterLauncher, Program, ResourceManagerHandle};
use crate::spec::{JobRequest, job_spec, read_restore_point};

/// The key by which a submission's `-D` settings name its parallelism.
const PARALLELISM_KEY: &str = "parallelism.default";

/// The settings of the dispatcher.
#[derive(Clone)]
pub(crate) struct DispatcherOptions {
    pub(crate) default_parallelism: u32,
    pub(crate) leader_epoch: u64,
    /// How long workers of another job manager are waited for, in milliseconds.
    pub(crate) reconcile_ms: u64,
    pub(crate) worker_timeouts: WorkerTimeouts,
    pub(crate) job_defaults: JobDefaults,
    pub(crate) resolve: ResolveJobOptions,
    pub(crate) onlookers: Option<Onlookers>,
}

/// A submission that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Submitted {
    pub(crate) job_id: JobId,
    pub(crate) job_name: String,
    pub(crate) warnings: Vec<String>,
    /// What it starts from.
    pub(crate) restored_from: Option<RestoredFrom>,
}

/// Describes applications and starts jobs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Dispatcher {
    pub(crate) options: Arc<DispatcherOptions>,
    pub(crate) clock: Arc<dyn Clock>,
    /// When this job manager started: operations that were begun before are an earlier one's.
    pub(crate) started_at: WallTime,
    pub(crate) artifacts: ArtifactStore,
    pub(crate) catalogue: OperationCatalogue,
    pub(crate) registry: RegistryHandle,
    /// What is recorded of jobs.
    pub(crate) jobs: JobStore,
    pub(crate) fence: Fence,
    pub(crate) resource_manager: ResourceManagerHandle,
    pub(crate) effects: Effects,
    pub(crate) pins: Pins,
    pub(crate) folders: CheckpointFolders,
    pub(crate) tasks: TaskTracker,
}

impl Dispatcher {
    /// Has a task manager describe an application, checks its plan, and returns it as JSON, with what the user should know.
    pub(crate) async fn describe(&self, application: Application) -> Result<(Bytes, Vec<String>), CodedError> {
        let program = self.program(application).await?;
        let plan = self.resource_manager.describe(program.clone()).await?;
        let warnings = validate(&parse_plan(&program, &plan)?.graph)?;
        Ok((plan, warnings))
    }

    /// Submits an application, and returns once its job has left INITIALIZING and CREATED. The submission goes on if the caller
    /// goes away; the very same submission, repeated, gets the outcome of the first.
    pub(crate) async fn submit(&self, request: SubmitJobRequest) -> Result<Submitted, CodedError> {
        let job_id: JobId = request
            .job_id
            .parse()
            .map_err(|error: streamd_core::id::ParseIdError| {
                CodedError::new(ErrorCode::InvalidArgument, error.to_string())
            })?;
        let outcome = match self.registry.claim(job_id, request.clone()).await? {
            Claim::Repeated(outcome) => outcome,
            Claim::Granted { outcome, first_worker } => {
                let receiver = outcome.subscribe();
                let submission = self.clone().carry_out(job_id, request, first_worker, outcome);
                self.tasks.spawn(submission);
                receiver
            }
        };
        settled(outcome).await
    }

    async fn carry_out(
        self,
        job_id: JobId,
        request: SubmitJobRequest,
        first_worker: WorkerId,
        outcome: watch::Sender<Outcome>,
    ) {
        let result = self.start(job_id, request, first_worker).await;
        match &result {
            Ok(submitted) => info!(%job_id, name = submitted.job_name, "job accepted"),
            Err(error) => {
                info!(%job_id, %error, "submission refused");
                self.registry.give_back(job_id).await;
            }
        }
        outcome.send_replace(Some(result));
    }

    async fn start(
        &self,
        job_id: JobId,
        submission: SubmitJobRequest,
        first_worker: WorkerId,
    ) -> Result<Submitted, CodedError> {
        let application = submission.application.clone().unwrap_or_default();
        let program = self.program(application).await?;
        let parallelism = program.parallelism;
        let plan = self.resource_manager.describe(program.clone()).await?;
        let PlanDescriptor { graph, built_with } = parse_plan(&program, &plan)?;
        let mut inputs = (self.options.resolve)(&program.configuration, &graph)?;
        let named = named_claim_mode(&submission);
        inputs.claim_mode = named.or(inputs.claim_mode);
        let defaults = &self.options.job_defaults;
        let options = job_options(&graph, &inputs, defaults, self.options.leader_epoch)?;
        let (restore, pin) = match self.restore_path(&submission, &options).await? {
            None => (None, None),
            Some(path) => {
                let (point, pin) = self.hold(job_id, &path).await?;
                (Some(point), Some(pin))
            }
        };
        match (&restore, options.claim_mode) {
            (Some(point), ClaimMode::Claim) => self.check_claim(point, pin.as_ref()).await?,
            (None, ClaimMode::Claim) if named.is_some() => return Err(nothing_to_claim()),
            (Some(_) | None, ClaimMode::NoClaim | ClaimMode::Claim) => {}
        }
        let mut warnings = check_built(&program.file_name, built_with.as_ref(), &options, restore.as_ref())?;
        if let Some(folder) = options
            .checkpoint_directory
            .as_deref()
            .filter(|_| options.checkpointing.interval_ms.is_some())
        {
            self.folders.claim(folder).await?;
            self.folders.check_new(folder, job_id).await?;
        }
        if let Some(point) = &restore {
            warnings.extend(self.folders.warning(&point.uri).await);
        }
        let restored_from = restore.as_ref().map(restored_from);
        let (spec, more_warnings) = job_spec(JobRequest {
            job_id,
            max_parallelism: inputs.max_parallelism.or(defaults.max_parallelism),
            graph,
            restore,
            dropping: dropping(submission.allow_non_restored_state, &submission.drop_states),
            options,
            first_worker,
        })?;
        warnings.extend(more_warnings);
        warnings.extend(self.slot_warning(&spec.graph).await?);
        let job_name = spec.graph.name.clone();
        let submitted_at = self.record(&spec, &submission, parallelism, &warnings).await?;
        let past = Past {
            status: JobStatus::new(&spec, submitted_at),
            onlooker: self.options.onlookers.as_ref().map(|all| all.of(&spec)),
            machine: JobMachine::new(spec),
            reconcile_ms: None,
            is_cancelled: false,
        };
        let job = job_master::spawn_with(past, self.environment(job_id, program), pin);
        if let Err(refusal) = self.registry.start(job.clone()).await {
            self.unrecord(job_id).await;
            return Err(refusal);
        }
        job.begin();
        begun(&job).await;
        Ok(Submitted {
            job_id,
            job_name,
            warnings,
            restored_from,
        })
    }

    /// The snapshot that the job is to start from, as it was named.
    async fn restore_path(
        &self,
        submission: &SubmitJobRequest,
        options: &JobOptions,
    ) -> Result<Option<String>, CodedError> {
        match (submission.savepoint_path.as_str(), submission.resume_job.as_str()) {
            ("", "") => Ok(None),
            (path, "") => Ok(Some(path.to_owned())),
            ("", job) => {
                let folders = [
                    &options.checkpoint_directory,
                    &self.options.job_defaults.checkpoint_directory,
                ];
                let folders = folders.into_iter().flatten().cloned().collect();
                self.latest_snapshot(job, folders).await.map(Some)
            }
            (_path, _job) => Err(CodedError::new(
                ErrorCode::InvalidArgument,
                "the submission names both a snapshot and a job to resume",
            )
            .with_hint("give either -s PATH or --resume NAME")),
        }
    }

    /// Reads the snapshot that a job is to start from. Nobody deletes it, or what it refers to, until the pin is dropped.
    pub(super) async fn hold(&self, job: JobId, path: &str) -> Result<(RestorePoint, Pin), CodedError> {
        let opened = Location::open(path).map_err(|error| error.to_coded())?;
        let pin = self.pins.hold(job, &layout::snapshot_folder(&opened)).await;
        let point = read_restore_point(path).await?;
        let mut folders = Objects::of(&point.metadata, &point.uri).folders_elsewhere();
        folders.insert(point.uri.clone());
        let folders: Result<Vec<Location>, StoreError> = folders.iter().map(|folder| Location::open(folder)).collect();
        pin.narrow(&folders.map_err(|error| error.to_coded())?).await;
        Ok((point, pin))
    }

    /// Errors if the snapshot cannot become a job's own, because another job needs it too.
    async fn check_claim(&self, point: &RestorePoint, pin: Option<&Pin>) -> Result<(), CodedError> {
        let folder = Location::open(&point.uri).map_err(|error| error.to_coded())?;
        if let Some(pin) = pin
            && let Some(holder) = self.pins.holder_before(pin, &folder).await
        {
            return Err(in_use(&point.uri, holder));
        }
        self.check_disowned(&folder).await
    }

    /// Deletes a snapshot because its owner says so. Errors if a job that is not over needs it. It goes on if the caller goes away: of what
    /// is half deleted, the rest could not be found again by its name.
    pub(crate) async fn dispose(&self, path: String) -> Result<(), CodedError> {
        let dispatcher = self.clone();
        self.to_its_end(async move { dispatcher.delete_snapshot(&path).await })
            .await
    }

    /// Works on whether or not the caller waits for it.
    pub(super) async fn to_its_end<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        let done = self.tasks.spawn(work).await;
        done.unwrap_or_else(|panic| resume_unwind(panic.into_panic()))
    }

    async fn delete_snapshot(&self, path: &str) -> Result<(), CodedError> {
        let folder = layout::snapshot_folder(&Location::open(path).map_err(|error| error.to_coded())?);
        self.check_disowned(&folder).await?;
        let uri = folder.uri();
        let _begun = self
            .pins
            .begin_disposal(&folder)
            .await
            .map_err(|holder| in_use(&uri, holder))?;
        dispose_unused(&uri, Sharing::Refuse)
            .await
            .map(drop)
            .map_err(|error| error.to_coded())
    }

    /// Errors if the snapshot is a checkpoint of a job that is not over: that job deletes it, and builds upon it.
    async fn check_disowned(&self, folder: &Location) -> Result<(), CodedError> {
        let Some(beside) = folder.parent() else {
            return Ok(());
        };
        let beside = beside.resolved_uri().await;
        for job in self.registry.list().await? {
            if job.status().borrow().is_over() {
                continue;
            }
            if let Some(checkpoints) = job.details().await?.spec.options.checkpoint_directory {
                let checkpoints = Location::open(&checkpoints).map_err(|error| error.to_coded())?;
                if checkpoints.resolved_uri().await == beside {
                    return Err(in_use(&folder.uri(), job.job_id()));
                }
            }
        }
        Ok(())
    }

    pub(super) fn environment(&self, job: JobId, program: Program) -> JobEnvironment {
        let epoch = self.options.leader_epoch;
        JobEnvironment {
            journal: Some(Journal::new(self.jobs.clone(), job, epoch, self.fence.clone())),
            fence: self.fence.clone(),
            clock: self.clock.clone(),
            launcher: Arc::new(ClusterLauncher::new(self.resource_manager.clone(), program)),
            effects: self.effects.clone(),
            tasks: self.tasks.clone(),
            worker_timeouts: Some(self.options.worker_timeouts),
        }
    }

    /// How an application is started. Errors if its bytes are not here.
    pub(super) async fn program(&self, application: Application) -> Result<Program, CodedError> {
        let program = self.named_program(application)?;
        let stored = self.artifacts.has(&program.sha256).await;
        if !stored.map_err(|error| artifact_error(&error))? {
            let message = format!("application `{}` has not been uploaded", program.file_name);
            return Err(CodedError::new(ErrorCode::ApplicationNotFound, message).with_hint("upload it, then try again"));
        }
        Ok(program)
    }

    /// How an application is started. Whether its bytes are here is not looked at.
    pub(super) fn named_program(&self, application: Application) -> Result<Program, CodedError> {
        let parallelism = match application.parallelism {
            0 => match application.configuration.get(PARALLELISM_KEY) {
                Some(text) => parse_parallelism(text)?,
                None => self.options.default_parallelism,
            },
            named => named,
        };
        Ok(Program {
            sha256: application.sha256,
            file_name: application.file_name,
            arguments: application.arguments,
            parallelism,
            configuration: application.configuration,
        })
    }

    /// A job that needs more slots than there are waits for them, which the user should know.
    async fn slot_warning(&self, graph: &JobGraph) -> Result<Option<String>, CodedError> {
        let needed: u32 = graph.slots_by_group().iter().map(|(_, slots)| slots).sum();
        let total = self.resource_manager.view().await?.slots_total;
        Ok((needed > total).then(|| {
            format!("the job needs {needed} slots, the cluster has {total}: it waits until task managers bring more")
        }))
    }
}

pub(super) fn restored_from(point: &RestorePoint) -> RestoredFrom {
    RestoredFrom {
        id: point.metadata.checkpoint_id,
        uri: point.uri.clone(),
        kind: point.metadata.kind,
    }
}

fn named_claim_mode(submission: &SubmitJobRequest) -> Option<ClaimMode> {
    match submission.claim_mode() {
        proto::ClaimMode::Unspecified => None,
        proto::ClaimMode::NoClaim => Some(ClaimMode::NoClaim),
        proto::ClaimMode::Claim => Some(ClaimMode::Claim),
    }
}

fn in_use(folder: &str, job: JobId) -> CodedError {
    let message = format!("snapshot `{folder}` is in use by job `{job}`");
    CodedError::new(ErrorCode::SnapshotInUse, message).with_hint(
        "wait until the job has a checkpoint of its own, or has ended; a job deletes its own checkpoints by itself",
    )
}

fn nothing_to_claim() -> CodedError {
    CodedError::new(
        ErrorCode::ClaimRefused,
        "there is no snapshot to claim: the job starts afresh",
    )
    .with_hint("name the snapshot with -s PATH, or leave the claim mode out")
}

/// What a request allows to be dropped.
pub(super) fn dropping(everything: bool, named: &[String]) -> Dropping {
    match (everything, named) {
        (true, _) => Dropping::Everything,
        (false, []) => Dropping::Nothing,
        (false, named) => Dropping::Only(named.iter().cloned().collect()),
    }
}

/// Waits until the job has left CREATED.
async fn begun(job: &JobMasterHandle) {
    let mut status = job.status();
    let begun = status
        .wait_for(|status| status.suspended || !matches!(status.state, JobState::Initializing | JobState::Created));
    // The sender is gone only while the runtime shuts down.
    let _gone = begun.await.map(drop);
}

async fn settled(mut outcome: watch::Receiver<Outcome>) -> Result<Submitted, CodedError> {
    let settled = outcome
        .wait_for(Option::is_some)
        .await
        .ok()
        .and_then(|outcome| outcome.clone());
    settled.unwrap_or_else(|| {
        Err(CodedError::new(
            ErrorCode::Internal,
            "the submission ended without an outcome",
        ))
    })
}

fn parse_parallelism(text: &str) -> Result<u32, CodedError> {
    match text.parse() {
        Ok(parallelism) if parallelism > 0 => Ok(parallelism),
        Ok(_) | Err(_) => {
            let message = format!("`{PARALLELISM_KEY}` is `{text}`, which is no positive number");
            Err(CodedError::new(ErrorCode::InvalidConfiguration, message))
        }
    }
}

pub(super) fn parse_plan(program: &Program, plan: &[u8]) -> Result<PlanDescriptor, CodedError> {
    serde_json::from_slice(plan).map_err(|error| {
        let context = format!("cannot parse the plan of application `{}`", program.file_name);
        CodedError::caused(ErrorCode::NotAnApplication, context, &error)
            .with_hint("build it with the version of the streamd SDK that the cluster runs")
    })
}
