//! The known key that an unknown one was probably meant to be.

use super::keys;

/// The nearest spelling of any key, if one is near enough to be worth naming.
pub(super) fn nearest_key(unknown: &str) -> Option<&'static str> {
    let unknown = unknown.to_ascii_lowercase();
    keys::ALL
        .iter()
        .flat_map(|definition| std::iter::once(definition.key).chain(definition.aliases.iter().copied()))
        .map(|known| (distance(&unknown, known), known))
        .filter(|(distance, _)| *distance <= unknown.len().min(96) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// How far apart: 0 if equal but for case, 1 if `unknown` is the end of `known`, else the edit distance.
fn distance(unknown: &str, known: &str) -> usize {
    let known = known.to_ascii_lowercase();
    let is_its_end = known.strip_suffix(unknown).is_some_and(|rest| rest.ends_with('.'));
    if is_its_end { 1 } else { edit_distance(unknown, &known) }
}

/// Levenshtein's. An unknown key is at most a file long, so it is cut before the table of distances is filled.
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().take(128).enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[right.len()] + left.chars().count().saturating_sub(128)
}
