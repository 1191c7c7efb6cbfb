//! Calls that the parser of arguments refuses, told as every other error is.

use std::ffi::OsString;

use crate::arguments::OutputFormat;
use crate::failure::Failure;
use crate::spelling::own;

/// How the parser begins the line after which it says how a command is called.
const USAGE: &str = "Usage: ";

/// How the parser begins what it proposes.
const TIP: &str = "tip: ";

/// What the parser counts to a call because the environment sets it, as `bin/streamctl` does: nobody has to write it.
const FROM_ENVIRONMENT: [&str; 2] = [" --conf <DIR>", " --jobmanager <HOST:PORT>"];

/// What the parser says, as one line and a hint. Its first paragraph is what is wrong; tips and the usage follow.
pub fn failure(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut paragraphs = text.trim().split("\n\n");
    let message = paragraphs.next().unwrap_or_default();
    let message = on_one_line(message.strip_prefix("error: ").unwrap_or(message));
    let rest: Vec<String> = paragraphs.map(on_one_line).collect();
    let after = |prefix| rest.iter().find_map(|paragraph| paragraph.strip_prefix(prefix));
    let hint = match (after(TIP), after(USAGE)) {
        (Some(tip), _) => format!("{tip}; `--help` says more"),
        (None, Some(usage)) => {
            let usage = FROM_ENVIRONMENT
                .iter()
                .fold(usage.to_owned(), |usage, set| usage.replace(set, ""));
            format!("write `{usage}`; `--help` says more")
        }
        (None, None) => "`--help` says more".to_owned(),
    };
    Failure::usage(message, hint)
}

fn on_one_line(paragraph: &str) -> String {
    let lines = paragraph.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join(" ")
}

/// How the user wants to be told, as far as it can be made out of a call that is malformed.
pub fn format(words: &[OsString]) -> OutputFormat {
    let words: Vec<&str> = own(words).iter().filter_map(|word| word.to_str()).collect();
    let is_json = words.windows(2).any(|pair| pair == ["--output", "json"]) || words.contains(&"--output=json");
    if is_json {
        OutputFormat::Json
    } else {
        OutputFormat::Text
    }
}
