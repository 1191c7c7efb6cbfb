//! A cluster in which nothing has happened.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use streamd_coordinator::lifecycle::JobState;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::id::JobId;
use streamd_core::plan::PlanDescriptor;
use streamd_core::time::{Clock, ManualClock};
use streamd_jobmanager::unlinked::Onlookers;
use streamd_jobmanager::unlinked::proto::{Application as NamedApplication, SubmitJobRequest};
use streamd_snapshot::{ArtifactStore, Location};
use tokio::runtime::Runtime;

use super::Cluster;
use super::settings::{CHECKPOINT_TIMEOUT_MS, Settings};
use crate::channels::Network;
use crate::dice::Dice;
use crate::job_manager;
use crate::outside::Outside;
use crate::simulation::{Application, Arrangement, SimulationError};
use crate::store::SimulatedStore;
use crate::trace::Trace;
use crate::watch::SnapshotWatch;

/// What is uploaded: nobody runs it.
const PROGRAM: &[u8] = b"simulated";
/// Its digest.
const PROGRAM_SHA256: &str = "daeb30e06dcf80565ac935eca8ec3e87a2cd7194440c14842b470d3cb7fed353";

impl<'a> Cluster<'a> {
    /// A cluster, and how many task managers it begins with: one more than the job needs.
    pub(crate) fn new(
        arrangement: Arrangement,
        trace: Option<Box<dyn Write + Send>>,
        clock: Arc<ManualClock>,
        outside: Outside,
        application: Application<'a>,
    ) -> Result<(Self, u32), SimulationError> {
        let Arrangement {
            seed,
            profile,
            crash,
            sabotage,
            cancels,
        } = arrangement;
        let mut dice = Dice::new(seed);
        let trace = Arc::new(Trace::new(trace));
        let store = SimulatedStore::new(dice.fork(), Arc::clone(&clock), Arc::clone(&trace));
        let graph = application(&outside).and_then(|mut pipeline| pipeline.describe());
        let graph = graph.map_err(SimulationError::Application)?;
        let (told, told_at) = (Arc::clone(&trace), Arc::clone(&clock));
        let onlookers = Onlookers::new(move |violation| told.violated(told_at.monotonic().0, violation));
        let settings = Settings::thrown(&mut dice, &store.uri(), onlookers);
        let rates = profile.rates();
        store.trouble(rates.refused, rates.applied_then_failed);
        store.crash_at(crash);
        store.sabotage(sabotage);
        outside.trouble((rates.commits > 0).then(|| (dice.fork(), rates.commits)));
        let io = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("simulated-io")
            .enable_time()
            .build()?;
        upload(&io, &settings.managers.data_directory).map_err(SimulationError::Application)?;
        let slots = streamd_coordinator::placement::slots_needed(&graph);
        let task_managers = slots.div_ceil(settings.slots) + 1;
        let job_id = JobId::from_bytes(dice.id());
        let built_with = None;
        let plan = serde_json::to_vec(&PlanDescriptor { graph, built_with });
        let cluster = Self {
            watch: SnapshotWatch::new(CHECKPOINT_TIMEOUT_MS, Arc::clone(&trace)),
            dice,
            profile,
            seed,
            crash,
            sabotage,
            clock,
            trace,
            store,
            outside,
            network: Network::new(sabotage),
            application,
            settings,
            job_id,
            request: request(job_id),
            accepted: false,
            cancels,
            cancelled: false,
            plan: plan.expect("a plan is plain data").into(),
            machines: job_manager::still_runtime()?,
            io,
            managers: BTreeMap::new(),
            next_manager: 0,
            last_epoch: 0,
            task_managers: BTreeMap::new(),
            born: 0,
            processes: BTreeMap::new(),
            stillborn: BTreeSet::new(),
            parted: BTreeSet::new(),
            farewells: Vec::new(),
            agenda: BTreeMap::new(),
            appointments: 0,
            messages: 0,
            healed: false,
            cut_next_writer: false,
            state: JobState::Initializing,
            ended: None,
            savepoints: 0,
        };
        Ok((cluster, task_managers))
    }
}

fn upload(io: &Runtime, data: &str) -> Result<(), CodedError> {
    let data = Location::open(data).map_err(|error| error.to_coded())?;
    let pieces = futures::stream::iter([Ok::<_, Infallible>(Bytes::from_static(PROGRAM))]);
    let uploaded = io.block_on(ArtifactStore::new(data).put(PROGRAM_SHA256, pieces));
    uploaded
        .map(drop)
        .map_err(|error| CodedError::caused(ErrorCode::Internal, "nothing can be uploaded", &error))
}

fn request(job: JobId) -> SubmitJobRequest {
    SubmitJobRequest {
        application: Some(NamedApplication {
            sha256: PROGRAM_SHA256.to_owned(),
            file_name: "simulated".to_owned(),
            ..NamedApplication::default()
        }),
        job_id: job.to_string(),
        ..SubmitJobRequest::default()
    }
}
