//! Flink's options of several letters after a single dash, which no parser of ours takes: `run -claim CLAIM`.

use std::ffi::OsString;

use clap::CommandFactory;

use crate::arguments::Arguments;

/// What Flink writes after `run`, and what it is here.
const SPELLINGS: [(&str, &str); 3] = [
    ("-claim", "--claimMode"),
    ("-claimMode", "--claimMode"),
    ("-restoreMode", "--claimMode"),
];

/// The arguments with Flink's spellings replaced. What comes after the application is the application's, and stays.
pub fn normalized(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = arguments.into_iter().collect();
    for index in options_of(&arguments, "run") {
        if let Some((_, ours)) = SPELLINGS.iter().find(|(flinks, _)| arguments[index] == *flinks) {
            arguments[index] = OsString::from(ours);
        }
    }
    arguments
}

/// The arguments that are streamctl's: all of them, but what `run` and `info` hand to the application.
pub fn own(arguments: &[OsString]) -> &[OsString] {
    let verb = ["run", "info"]
        .into_iter()
        .find(|verb| arguments.iter().any(|argument| argument == verb));
    let Some(verb) = verb else { return arguments };
    let end = match options_of(arguments, verb).last() {
        // The option, and the value of it that there may be.
        Some(last) => last + 2,
        None => position_of(arguments, verb) + 1,
    };
    &arguments[..end.min(arguments.len())]
}

fn position_of(arguments: &[OsString], verb: &str) -> usize {
    let position = arguments.iter().position(|argument| argument == verb);
    position.unwrap_or(arguments.len())
}

/// Where the options between a verb and the application are.
fn options_of(arguments: &[OsString], verb: &str) -> Vec<usize> {
    let with_value = options_with_value();
    let mut options = Vec::new();
    let mut index = position_of(arguments, verb) + 1;
    while let Some(text) = arguments.get(index).and_then(|argument| argument.to_str()) {
        if !text.starts_with('-') {
            break;
        }
        options.push(index);
        let takes_value =
            SPELLINGS.iter().any(|(flinks, _)| *flinks == text) || with_value.iter().any(|option| option == text);
        index += if takes_value { 2 } else { 1 };
    }
    options
}

/// The options of `run` that are followed by a value, in every spelling.
fn options_with_value() -> Vec<String> {
    let command = Arguments::command();
    let run = command.find_subcommand("run").into_iter();
    let options = command
        .get_arguments()
        .chain(run.flat_map(clap::Command::get_arguments));
    options
        .filter(|option| option.get_action().takes_values() && !option.is_positional())
        .flat_map(|option| {
            let long = option
                .get_long()
                .into_iter()
                .chain(option.get_all_aliases().unwrap_or_default());
            let long = long.map(|name| format!("--{name}"));
            let short = option.get_short().map(|letter| format!("-{letter}"));
            long.chain(short).collect::<Vec<_>>()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelt(line: &str) -> String {
        let words = normalized(line.split(' ').map(OsString::from));
        let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
        words.join(" ")
    }

    #[test]
    fn flinks_options_are_understood_before_the_application_and_left_alone_after_it() {
        assert_eq!(
            spelt("streamctl run -d -s /sp -claim CLAIM -p 2 app -claim x"),
            "streamctl run -d -s /sp --claimMode CLAIM -p 2 app -claim x"
        );
        assert_eq!(
            spelt("streamctl -m h:1 run -D a=b -restoreMode NO_CLAIM app"),
            "streamctl -m h:1 run -D a=b --claimMode NO_CLAIM app"
        );
        for same in [
            "streamctl list -claim",
            "streamctl run app -claim",
            "streamctl run -s -claim app",
        ] {
            assert_eq!(spelt(same), same);
        }
    }
}
