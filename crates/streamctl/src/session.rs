//! What a command works with: the job manager, and how long to wait for it.

use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_core::options::{Configuration, Directories, StorageSettings, keys};
use streamd_rpc::client::DispatcherClient;
use streamd_snapshot::{LeaderRecords, Location};

use crate::arguments::GlobalArguments;
use crate::configuration::{job_manager_address, load};
use crate::failure::Failure;

/// The surroundings of one command.
#[derive(Clone)]
pub struct Session {
    configuration: Configuration,
    job_manager: Option<String>,
    timeout: Option<Duration>,
}

impl Session {
    /// Reads the configuration. Connects to nothing.
    pub fn open(global: GlobalArguments) -> Result<Self, Failure> {
        let configuration = load(global.configuration_directory.as_deref())?;
        Ok(Self {
            configuration,
            job_manager: global.job_manager,
            timeout: global.timeout,
        })
    }

    /// The configuration of the client.
    pub fn configuration(&self) -> &Configuration {
        &self.configuration
    }

    /// The `host:port` at which the job manager is tried first.
    fn address(&self) -> Result<String, CodedError> {
        match &self.job_manager {
            Some(address) => Ok(address.clone()),
            None => job_manager_address(&self.configuration),
        }
    }

    /// A connection to the job manager.
    pub async fn connect(&self) -> Result<DispatcherClient, Failure> {
        let address = self.address();
        let what = match &address {
            Ok(address) => format!("the job manager at `{address}` is not reached"),
            Err(_unknown) => "the job manager that leads is not reached".to_owned(),
        };
        self.within(&what, async {
            let tried = match address {
                Ok(address) => DispatcherClient::connect(&address).await,
                Err(unknown) => Err(unknown),
            };
            match tried {
                Err(error) if error.code == ErrorCode::JobManagerUnreachable => self.connect_to_elected(error).await,
                other => Ok(other?),
            }
        })
        .await
    }

    /// A connection to the job manager that was elected, where there are several and the one that was tried is not there or not known.
    async fn connect_to_elected(&self, error: CodedError) -> Result<DispatcherClient, Failure> {
        // Whatever elects it, its address is in the storage.
        let is_elected = self.configuration.get(keys::HA_TYPE) != "none";
        if self.job_manager.is_some() || !is_elected {
            return Err(error.into());
        }
        let variables = std::env::vars_os();
        let variables =
            variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        streamd_snapshot::store::configure(StorageSettings::of(&self.configuration, variables));
        let storage = Directories::of(&self.configuration, |name| std::env::var(name).ok())?.ha_storage;
        let latest = async || LeaderRecords::new(Location::open(&storage)?).latest().await;
        match latest().await {
            Ok(Some(leader)) => Ok(DispatcherClient::connect(&leader.address).await?),
            Ok(None) => Err(error.into()),
            Err(unreadable) => Err(unreadable.to_coded().into()),
        }
    }

    /// The time that the user gave the command.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Waits for `work` no longer than the user wants; `what` is what did not happen in time, for the message.
    pub async fn within<T>(&self, what: &str, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let Some(timeout) = self.timeout else {
            return work.await;
        };
        match tokio::time::timeout(timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(
                CodedError::new(ErrorCode::DeadlineExceeded, format!("{what} within {}", shown(timeout)))
                    .with_hint("give more time with --timeout, or leave it out")
                    .into(),
            ),
        }
    }
}

/// A duration as the user would write it.
pub fn shown(duration: Duration) -> String {
    streamd_core::options::format_duration(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
