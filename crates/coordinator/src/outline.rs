//! How two graphs differ, line by line, on one line.

use std::collections::BTreeSet;

use streamd_core::graph::{JobGraph, graph_outline};

/// How many differing lines of each side are shown.
const LINES_SHOWN: usize = 4;

/// How many characters of a line are shown: the other side's come from outside.
const CHARACTERS_SHOWN: usize = 300;

/// What the job master's graph and a worker's outline do not share.
pub fn difference(graph: &JobGraph, theirs: &str) -> String {
    let ours = graph_outline(graph);
    let ours: BTreeSet<&str> = ours.lines().collect();
    let theirs: BTreeSet<&str> = theirs.lines().collect();
    let expected = side("expected", ours.difference(&theirs));
    let built = side("but built", theirs.difference(&ours));
    match (expected, built) {
        (None, None) => "the operators are the same; a setting made in code differs".to_owned(),
        (expected, built) => {
            let sides: Vec<String> = expected.into_iter().chain(built).collect();
            sides.join("; ")
        }
    }
}

fn side<'a>(title: &str, lines: impl Iterator<Item = &'a &'a str>) -> Option<String> {
    let lines: Vec<&str> = lines.copied().collect();
    if lines.is_empty() {
        return None;
    }
    let shown: Vec<String> = lines
        .iter()
        .take(LINES_SHOWN)
        .map(|line| {
            line.chars()
                .take(CHARACTERS_SHOWN)
                .filter(|c| !c.is_control())
                .collect()
        })
        .collect();
    let more = match lines.len().checked_sub(LINES_SHOWN) {
        None | Some(0) => String::new(),
        Some(more) => format!(" and {more} more"),
    };
    Some(format!("{title} ({}){more}", shown.join("), (")))
}
