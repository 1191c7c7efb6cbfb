//! Log lines, on stderr.

use streamd_core::error::{CodedError, ErrorCode};
use tracing_subscriber::EnvFilter;

use crate::arguments::LogFormat;

/// The variables that say what is logged; the first that is set counts.
const VARIABLES: [&str; 2] = ["STREAMD_LOG", "RUST_LOG"];

/// What is logged where no variable says otherwise. The client of object stores tells of every request that it repeats: what comes of them is
/// told by whoever asked for it.
const DEFAULT_FILTER: &str = "info,object_store=warn";

/// Begins to log.
pub fn start(format: LogFormat) -> Result<(), CodedError> {
    let logging = tracing_subscriber::fmt()
        .with_env_filter(filter()?)
        // A full disk costs the log. The library would tell it on stderr, which is the log, and panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => logging.with_ansi(false).init(),
        LogFormat::Json => logging.json().flatten_event(true).init(),
    }
    Ok(())
}

fn filter() -> Result<EnvFilter, CodedError> {
    let set = VARIABLES
        .iter()
        .find_map(|name| Some((*name, std::env::var(name).ok().filter(|text| !text.is_empty())?)));
    let Some((name, text)) = set else {
        return Ok(EnvFilter::new(DEFAULT_FILTER));
    };
    EnvFilter::builder().parse(&text).map_err(|error| {
        CodedError::caused(
            ErrorCode::InvalidArgument,
            format!("environment variable `{name}`"),
            &error,
        )
        .with_hint("for example `info`, or `warn,streamd_jobmanager=debug`")
    })
}
