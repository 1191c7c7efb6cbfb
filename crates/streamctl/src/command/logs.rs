//! `streamctl logs`: what the workers of a job wrote.

use std::collections::BTreeMap;

use clap::Args;
use serde::Serialize;
use streamd_core::id::JobId;
use streamd_rpc::proto::GetLogsRequest;

use crate::arguments::{OutputFormat, job_id};
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

/// The longest line that is kept together; a longer one is printed in pieces.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Show what the workers of a job wrote
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  streamctl logs -f fd72014d4c864993a2e5a9287b4a9c5d")]
pub struct LogsCommand {
    /// Go on with new lines until the job ends
    #[arg(short, long)]
    follow: bool,
    /// The job
    #[arg(value_name = "JOBID", value_parser = job_id)]
    job_id: JobId,
}

#[derive(Serialize)]
struct LogLine<'a> {
    worker: &'a str,
    line: &'a str,
}

impl LogsCommand {
    /// Prints the log.
    pub async fn execute(self, session: &Session, output: &mut Output) -> Result<(), Failure> {
        let client = session.connect().await?;
        let request = GetLogsRequest {
            job_id: self.job_id.to_string(),
            follow: self.follow,
        };
        let printing = async {
            let mut chunks = client.get_logs(request).await?;
            let mut log = Log::default();
            while let Some(chunk) = chunks.next().await? {
                log.add(&chunk.worker, &chunk.chunk, output)?;
            }
            log.finish(output)
        };
        session.within("the log does not end", printing).await
    }
}

/// Lines of several workers, put together from chunks that are cut anywhere.
#[derive(Default)]
struct Log {
    unfinished: BTreeMap<String, Vec<u8>>,
    /// Whose lines come now.
    current: String,
}

impl Log {
    fn add(&mut self, worker: &str, chunk: &[u8], output: &mut Output) -> Result<(), Failure> {
        let mut pending = self.unfinished.remove(worker).unwrap_or_default();
        pending.extend_from_slice(chunk);
        let mut rest = pending.as_slice();
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            self.print(worker, &rest[..end], output)?;
            rest = &rest[end + 1..];
        }
        while rest.len() > MAX_LINE_BYTES {
            self.print(worker, &rest[..MAX_LINE_BYTES], output)?;
            rest = &rest[MAX_LINE_BYTES..];
        }
        if !rest.is_empty() {
            self.unfinished.insert(worker.to_owned(), rest.to_vec());
        }
        Ok(())
    }

    fn finish(mut self, output: &mut Output) -> Result<(), Failure> {
        std::mem::take(&mut self.unfinished)
            .into_iter()
            .try_for_each(|(worker, line)| self.print(&worker, &line, output))
    }

    fn print(&mut self, worker: &str, line: &[u8], output: &mut Output) -> Result<(), Failure> {
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        if self.current != worker && output.format() == OutputFormat::Text {
            // On stderr: what is on stdout is the log and nothing else.
            output.note(&format!("==> {worker} <=="));
            worker.clone_into(&mut self.current);
        }
        output.line(&line)?;
        output.object(&LogLine { worker, line: &line })
    }
}
