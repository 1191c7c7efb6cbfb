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
    let Some(run) = arguments.iter().position(|argument| argument == "run") else {
        return arguments;
    };
    let with_value = options_with_value();
    let mut index = run + 1;
    while let Some(text) = arguments.get(index).and_then(|argument| argument.to_str()) {
        if !text.starts_with('-') {
            break;
        }
        let known = SPELLINGS.iter().find(|(flinks, _)| *flinks == text);
        let takes_value = known.is_some() || with_value.iter().any(|option| option == text);
        if let Some((_, ours)) = known {
            arguments[index] = OsString::from(ours);
        }
        index += if takes_value { 2 } else { 1 };
    }
    arguments
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
