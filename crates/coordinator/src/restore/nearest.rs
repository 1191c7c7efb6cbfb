//! A name that somebody may have meant.

use streamd_core::graph::JobGraph;

/// The label in the graph that differs least from `wanted`, if it is close enough to be the same name misspelt.
pub(super) fn nearest_label(wanted: &str, graph: &JobGraph) -> Option<String> {
    let (distance, label) = graph
        .operators()
        .map(|(_, operator)| (edit_distance(wanted, operator.label()), operator.label()))
        .min()?;
    (distance <= wanted.chars().count().max(3) / 3).then(|| label.to_owned())
}

/// Levenshtein's distance, in characters. Labels are at most 1 KiB, so the quadratic cost is bounded.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
