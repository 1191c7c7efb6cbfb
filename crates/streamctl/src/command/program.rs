//! The application of `run` and `info`: file, arguments, parallelism and settings.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use streamd_core::graph::RestartStrategy;
use streamd_core::options::{Configuration, Definition, keys};
use streamd_rpc::client::{ApplicationFile, DispatcherClient};
use streamd_rpc::proto::Application;

use crate::application;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

/// What `run` and `info` say of an application.
#[derive(Debug, Args)]
pub struct ProgramArguments {
    /// The parallelism of the job [default: the configuration's parallelism.default]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=32768))]
    pub(super) parallelism: Option<u32>,
    /// A setting of the job; may be given more than once
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub(super) settings: Vec<String>,
    /// The application binary, and its arguments: everything after it is handed to it
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, num_args = 1.., value_names = ["APP", "ARGS"])]
    pub(super) program: Vec<OsString>,
}

/// An application that was found fit to be sent.
pub struct Program {
    file: ApplicationFile,
    application: Application,
    settings: Configuration,
}

impl Program {
    /// The settings of the command line, by their present keys.
    pub fn settings(&self) -> &Configuration {
        &self.settings
    }

    /// The restart strategy that the command line asks for; what it leaves out is the cluster's, as far as it is known here.
    pub fn restart_strategy(&self, cluster: &Configuration) -> Result<Option<RestartStrategy>, Failure> {
        let strategy = cluster.restart_strategy_of_job(&self.application.configuration);
        Ok(strategy.map_err(|error| error.coded())?)
    }

    /// Makes sure that the job manager has the application, and returns how to call it.
    pub async fn upload(self, client: &DispatcherClient) -> Result<Application, Failure> {
        client.upload(&self.file).await?;
        Ok(self.application)
    }
}

impl ProgramArguments {
    /// Checks the settings and the file, and tells of keys that have another name now; talks to nobody.
    pub async fn check(self, session: &Session, output: &mut Output) -> Result<Program, Failure> {
        let mut words = self.program.into_iter();
        let path = words.next().expect("the parser demands one");
        if path.as_encoded_bytes().starts_with(b"-") {
            return Err(Failure::usage(
                format!("unexpected option `{}` before the application", path.display()),
                "`streamctl run --help` lists the options; those of the application come after it",
            ));
        }
        let arguments = words
            .map(|word| {
                word.into_string().map_err(|word| {
                    Failure::usage(
                        format!("argument `{}` of the application is not UTF-8", word.display()),
                        "rename what it names, or put it into a file that the application reads",
                    )
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let configuration = settings(&self.settings)?;
        let settings = job_configuration(&configuration)?;
        let parallelism = self
            .parallelism
            .or_else(|| settings.explicit(keys::PARALLELISM))
            .unwrap_or(0);
        for notice in settings.notices() {
            output.note(&format!("note: {notice}"));
        }
        let file = application::open(&PathBuf::from(path), session.configuration()).await?;
        let application = Application {
            sha256: file.sha256.clone(),
            file_name: file.file_name.clone(),
            arguments,
            parallelism,
            configuration,
        };
        Ok(Program {
            file,
            application,
            settings,
        })
    }
}

/// The settings as the job manager gets them: the last of a key counts.
fn settings(arguments: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    // Reading them once here says what is wrong with an argument as the user wrote it.
    Configuration::default()
        .with_arguments(arguments)
        .map_err(|error| error.coded())?;
    let mut settings = BTreeMap::new();
    for (key, value) in arguments.iter().filter_map(|argument| argument.split_once('=')) {
        let key = key.trim();
        // The order is lost in the map: an earlier value under another name of the key would count as much.
        settings.retain(|earlier: &String, _| !mean_the_same(earlier, key));
        settings.insert(key.to_owned(), value.to_owned());
    }
    Ok(settings)
}

/// Whether two words are names of one key.
fn mean_the_same(one: &str, other: &str) -> bool {
    let has = |definition: &Definition, key: &str| definition.spellings().any(|known| known == key);
    keys::ALL
        .iter()
        .any(|definition| has(definition, one) && has(definition, other))
}

fn job_configuration(settings: &BTreeMap<String, String>) -> Result<Configuration, Failure> {
    let configuration = Configuration::default().with_job_settings(settings);
    Ok(configuration.map_err(|error| error.coded())?)
}
