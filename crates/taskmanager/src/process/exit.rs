//! How a process ended, in words: its exit status, and the last that it said.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use streamd_rpc::status::one_line;

/// The exit code of a Rust program that panicked.
const PANIC_EXIT_CODE: i32 = 101;

/// Signals with which somebody else ends a process: what it printed before is not why.
const FROM_OUTSIDE: [i32; 4] = [1, 2, 9, 15];

/// How loggers mark an error in a line.
const LOGGED_ERROR: &str = " ERROR ";

/// Lines before the end among which the last that reads like an error goes before those that do not.
const RECENT_LINES: usize = 20;

/// Bytes of last words that go into a message.
const LAST_WORDS_BYTES: usize = 2048;

/// Like `exited with code 101` or `was killed by signal 9 (SIGKILL)`.
pub(crate) fn exit_reason(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with code {code}"),
        (None, Some(signal)) => match signal_name(signal) {
            Some(name) => format!("was killed by signal {signal} ({name})"),
            None => format!("was killed by signal {signal}"),
        },
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// The signals of Linux that end processes.
fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _other => return None,
    })
}

/// What a failed program said last, on one line: the panic if it was one, else its last lines, at most `lines`; empty if
/// it said nothing.
pub(crate) fn last_words(status: ExitStatus, output: &str, lines: usize) -> String {
    let output = without_escapes(output);
    let panicked = status.code() == Some(PANIC_EXIT_CODE) || status.code().is_none();
    let words = match panic_of(&output) {
        Some(panic) if panicked => panic,
        _ => last_lines(&output, lines),
    };
    one_line(&words, LAST_WORDS_BYTES)
}

/// What the log of a worker tells about its end: the panic if it was one, else the last line that reads like an error, else
/// the last line. Nothing of a worker that ended as if all were well, or that somebody killed.
pub(crate) fn words_in_log(status: ExitStatus, log: &str) -> String {
    let killed = status.signal().is_some_and(|signal| FROM_OUTSIDE.contains(&signal));
    if killed || status.success() {
        return String::new();
    }
    let recent = log
        .lines()
        .rev()
        .filter(|line| !line.trim().is_empty())
        .take(RECENT_LINES);
    let complaint = recent.clone().find(|line| reads_like_an_error(line));
    match complaint.filter(|_| panic_of(log).is_none()) {
        Some(line) => last_words(status, said_in(line), 1),
        None => last_words(status, log, 1),
    }
}

/// What a line says, without the time, level and module that a logger puts before it.
fn said_in(line: &str) -> &str {
    let Some((_time, logged)) = line.split_once(LOGGED_ERROR) else {
        return line;
    };
    logged.split_once(": ").map_or(logged, |(_module, said)| said)
}

/// Whether a line is a complaint rather than a result: sinks print to the same log.
fn reads_like_an_error(line: &str) -> bool {
    let lower = line.trim_start().to_ascii_lowercase();
    line.contains(LOGGED_ERROR)
        || lower.contains("error: ")
        || ["error", "fatal", "panic", "terminate called"]
            .iter()
            .any(|word| lower.starts_with(word))
}

/// The last panic in the output, as `panicked at src/main.rs:3:5: message`.
fn panic_of(output: &str) -> Option<String> {
    let start = output.rfind(" panicked at ")? + 1;
    let mut lines = output[start..].lines();
    let mut panic = lines.next()?.trim_end().to_owned();
    let message = lines.take_while(|line| {
        !line.is_empty() && !line.starts_with("note: run with") && !line.starts_with("stack backtrace:")
    });
    for line in message {
        panic.push(' ');
        panic.push_str(line.trim());
    }
    Some(panic)
}

fn last_lines(output: &str, count: usize) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(count)..];
    // A line that ends with a colon announces the next one.
    last.join("; ").replace(":; ", ": ")
}

/// The text without the escape sequences of colours: control characters are blanked later, their tails would stay.
fn without_escapes(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut pieces = text.split("\u{1b}[");
    clean.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        let parameters = piece.find(|c: char| c.is_ascii_alphabetic());
        clean.push_str(parameters.map_or(piece, |end| &piece[end + 1..]));
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn an_exit_is_told_by_code_or_signal() {
        assert_eq!(exit_reason(code(101)), "exited with code 101");
        assert_eq!(exit_reason(ExitStatus::from_raw(9)), "was killed by signal 9 (SIGKILL)");
        assert_eq!(exit_reason(ExitStatus::from_raw(40)), "was killed by signal 40");
    }

    #[test]
    fn of_a_panic_the_place_and_the_message_are_told_and_not_the_backtrace() {
        let output = "reading\n\nthread 'main' (7) panicked at src/main.rs:3:5:\nboom\n  at line two\n\
                      stack backtrace:\n   0: rust_begin_unwind\n";
        assert_eq!(
            last_words(code(101), output, 8),
            "panicked at src/main.rs:3:5: boom at line two"
        );
    }

    #[test]
    fn of_any_other_failure_the_last_lines_are_told() {
        let output = "error: the following required arguments were not provided:\n  --input <INPUT>\n\nUsage: app --input <INPUT>\n";
        assert_eq!(
            last_words(code(2), output, 8),
            "error: the following required arguments were not provided: --input <INPUT>; Usage: app --input <INPUT>"
        );
        let caught = "thread 'x' panicked at a:1:1:\nold\nnote: run with `RUST_BACKTRACE=1`\nno such file\n";
        assert!(last_words(code(1), caught, 1) == "no such file");
        assert_eq!(last_words(code(1), "", 8), "");
    }

    #[test]
    fn a_worker_that_somebody_killed_had_no_last_words() {
        let log = "error: disk full\nLAS: 100 flights\n";
        for signal in [1, 2, 9, 15] {
            assert_eq!(words_in_log(ExitStatus::from_raw(signal), log), "", "{signal}");
        }
        assert_eq!(words_in_log(code(0), log), "");
    }

    #[test]
    fn of_a_workers_log_the_complaint_is_told_before_the_results() {
        for status in [code(3), ExitStatus::from_raw(6), ExitStatus::from_raw(11)] {
            let words = |log: &str| words_in_log(status, log);
            assert_eq!(words("error: disk full\nLAS: 100 flights\n"), "error: disk full");
            assert_eq!(
                words("T  ERROR streamd::execute: the worker ends\nLAS: 1\n"),
                "the worker ends"
            );
            assert_eq!(words("LAS: 100 flights\ngoing away\n\n"), "going away");
            assert_eq!(words(""), "");
            let old = format!("error: forgiven\n{}", "fine\n".repeat(RECENT_LINES));
            assert_eq!(words(&old), "fine");
        }
        let panic = "thread 'a' panicked at x.rs:1:1:\nboom\n\nerror: later\n";
        assert_eq!(words_in_log(code(101), panic), "panicked at x.rs:1:1: boom");
    }

    #[test]
    fn colours_do_not_reach_the_message() {
        assert_eq!(
            last_words(code(1), "\u{1b}[1;31merror\u{1b}[0m: bad\u{1b}", 8),
            "error: bad"
        );
    }
}
