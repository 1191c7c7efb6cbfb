//! Values that are one of a few words.

/// The word of `words` that `text` means: in any case, `-` and `_` alike.
pub(super) fn find(words: &'static [&'static str], text: &str) -> Option<&'static str> {
    words.iter().copied().find(|word| folded(word) == folded(text))
}

fn folded(word: &str) -> String {
    word.to_ascii_lowercase().replace('_', "-")
}
