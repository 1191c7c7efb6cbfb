//! How a command that did not succeed ends: `error:` and `hint:` on stderr, and the exit code.

use std::io::Write;
use std::process::ExitCode;

use serde::Serialize;
use streamd_core::error::{CodedError, ErrorCode};

use crate::arguments::OutputFormat;
use crate::text::printable;

/// The exit code of a command that the user interrupted, as shells have it: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// Why a command did not succeed.
#[derive(Debug)]
pub enum Failure {
    /// Something is wrong.
    Error(CodedError),
    /// The user pressed Ctrl-C; the reason has been told.
    Interrupted,
    /// Whoever read the output has gone away: nobody is left to tell.
    ReaderGone,
}

impl From<CodedError> for Failure {
    fn from(error: CodedError) -> Self {
        Self::Error(error)
    }
}

impl From<std::io::Error> for Failure {
    /// An error of writing the output; other I/O is mapped where it happens.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _other => Self::Error(
                CodedError::caused(ErrorCode::OutputFailed, "the output cannot be written", &error)
                    .with_hint("what the command was to do may be done: look before you repeat it"),
            ),
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    error: &'a CodedError,
}

impl Failure {
    /// A usage error that the parser of arguments cannot see.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Error(CodedError::new(ErrorCode::InvalidArgument, message).with_hint(hint))
    }

    /// Tells the user, and returns the exit code.
    pub fn report(self, format: OutputFormat) -> ExitCode {
        match self {
            Self::ReaderGone => ExitCode::SUCCESS,
            Self::Interrupted => ExitCode::from(INTERRUPTED),
            Self::Error(error) => {
                let text = match format {
                    OutputFormat::Text => lines(&error),
                    OutputFormat::Json => {
                        let json = serde_json::to_string(&Report { error: &error });
                        format!("{}\n", json.expect("an error is a flat object of texts"))
                    }
                };
                // Where stderr is closed the exit code is all that is left to say.
                drop(std::io::stderr().lock().write_all(text.as_bytes()));
                ExitCode::from(error.code.remedy().exit_code())
            }
        }
    }
}

fn lines(error: &CodedError) -> String {
    let mut lines = format!("error: {} [{}]\n", printable(&error.message), error.code);
    if let Some(hint) = &error.hint {
        lines.push_str(&format!("hint: {}\n", printable(hint)));
    }
    lines
}
