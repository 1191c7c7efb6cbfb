//! Text of others on a terminal: job names, log lines and messages must not command it.

use std::borrow::Cow;

/// The text with control characters, and those that reorder what is shown, escaped.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if is_dangerous(c) {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

/// Controls but the tab; direction marks, embeddings, overrides and isolates; line and paragraph separators.
fn is_dangerous(c: char) -> bool {
    (c.is_control() && c != '\t')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_commands_a_terminal_gets_through() {
        assert_eq!(printable("a\u{1b}[2Jb\r\nc\u{9b}"), "a\\u{1b}[2Jb\\r\\nc\\u{9b}");
        assert_eq!(printable("abc\u{202e}def"), "abc\\u{202e}def");
        assert_eq!(printable("Zürich\t東京"), "Zürich\t東京");
    }
}
