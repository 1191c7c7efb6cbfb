//! JSON as it was written: numbers keep their digits and objects their fields, repeated ones included.
//!
//! The general parser rounds some decimals to a neighbour of the nearest float, and lets the last of two equal fields win. Neither may
//! happen to a value that somebody writes into state.

use std::fmt;

/// Levels that arrays and objects may nest: three times what a type may.
const MAX_DEPTH: usize = 96;

/// A JSON value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, by its text.
    Number(String),
    /// A string.
    String(String),
    /// An array.
    Array(Vec<Document>),
    /// An object: its fields in order, each name once.
    Object(Vec<(String, Document)>),
}

impl Document {
    /// Reads one value that fills the text. The error says what is wrong and at which byte.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value(MAX_DEPTH)?;
        parser.skip_space();
        match parser.at == text.len() {
            true => Ok(value),
            false => Err(parser.wrong("something follows the value")),
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }

    /// The digits of a number.
    pub(super) fn digits(&self) -> Option<&str> {
        match self {
            Self::Number(digits) => Some(digits),
            Self::Null | Self::Bool(_) | Self::String(_) | Self::Array(_) | Self::Object(_) => None,
        }
    }

    /// The elements of an array.
    pub(super) fn elements(&self) -> Option<&[Document]> {
        match self {
            Self::Array(elements) => Some(elements),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) | Self::Object(_) => None,
        }
    }

    /// The fields of an object.
    pub fn fields(&self) -> Option<&[(String, Document)]> {
        match self {
            Self::Object(fields) => Some(fields),
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) | Self::Array(_) => None,
        }
    }

    /// A field of an object.
    pub fn field(&self, name: &str) -> Option<&Document> {
        let fields = self.fields()?;
        fields
            .iter()
            .find(|(known, _value)| known == name)
            .map(|(_name, value)| value)
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |text: &str| serde_json::to_string(text).expect("a text is JSON");
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(truth) => write!(f, "{truth}"),
            Self::Number(digits) => f.write_str(digits),
            Self::String(text) => f.write_str(&quoted(text)),
            Self::Array(elements) => {
                f.write_str("[")?;
                for (index, element) in elements.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{element}")?;
                }
                f.write_str("]")
            }
            Self::Object(fields) => {
                f.write_str("{")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{}:{value}", quoted(name))?;
                }
                f.write_str("}")
            }
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn value(&mut self, depth: usize) -> Result<Document, String> {
        self.skip_space();
        if depth == 0 {
            return Err(self.wrong("it nests too deep"));
        }
        match self.peek() {
            Some(b'n') => self.word("null", Document::Null),
            Some(b't') => self.word("true", Document::Bool(true)),
            Some(b'f') => self.word("false", Document::Bool(false)),
            Some(b'"') => self.string().map(Document::String),
            Some(b'[') => self.array(depth),
            Some(b'{') => self.object(depth),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.wrong("no value begins like this")),
            None => Err(self.wrong("a value is expected")),
        }
    }

    fn word(&mut self, word: &str, value: Document) -> Result<Document, String> {
        match self.rest().starts_with(word) {
            true => {
                self.at += word.len();
                Ok(value)
            }
            false => Err(self.wrong("no value begins like this")),
        }
    }

    fn array(&mut self, depth: usize) -> Result<Document, String> {
        self.at += 1;
        let mut elements = Vec::new();
        if self.takes(b']') {
            return Ok(Document::Array(elements));
        }
        loop {
            elements.push(self.value(depth - 1)?);
            if self.takes(b']') {
                return Ok(Document::Array(elements));
            }
            if !self.takes(b',') {
                return Err(self.wrong("`,` or `]` is expected"));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Document, String> {
        self.at += 1;
        let mut fields: Vec<(String, Document)> = Vec::new();
        let mut names = std::collections::BTreeSet::new();
        if self.takes(b'}') {
            return Ok(Document::Object(fields));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.wrong("the name of a field is expected"));
            }
            let name = self.string()?;
            if !names.insert(name.clone()) {
                return Err(self.wrong(&format!("the field `{name}` is there twice")));
            }
            if !self.takes(b':') {
                return Err(self.wrong("`:` is expected"));
            }
            fields.push((name, self.value(depth - 1)?));
            if self.takes(b'}') {
                return Ok(Document::Object(fields));
            }
            if !self.takes(b',') {
                return Err(self.wrong("`,` or `}` is expected"));
            }
        }
    }

    /// A string, whose escapes the general parser knows.
    fn string(&mut self) -> Result<String, String> {
        let bytes = self.rest().as_bytes();
        let mut end = 1;
        while end < bytes.len() && bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        let text = self
            .rest()
            .get(..end + 1)
            .ok_or_else(|| self.wrong("a string does not end"))?;
        let value = serde_json::from_str(text).map_err(|_error| self.wrong("a string has an impossible character"))?;
        self.at += text.len();
        Ok(value)
    }

    /// A number as JSON has them: no leading zeros, no bare point.
    fn number(&mut self) -> Result<Document, String> {
        let is_part = |c: char| matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E');
        let rest = self.rest();
        let digits = &rest[..rest.find(|c| !is_part(c)).unwrap_or(rest.len())];
        if serde_json::from_str::<serde_json::Number>(digits).is_err() && !is_large(digits) {
            return Err(self.wrong("this is no number"));
        }
        self.at += digits.len();
        Ok(Document::Number(digits.to_owned()))
    }

    /// Whether this byte comes next, after any space; then it is read.
    fn takes(&mut self, byte: u8) -> bool {
        self.skip_space();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn wrong(&self, what: &str) -> String {
        format!("{what} (byte {})", self.at + 1)
    }
}

/// Whether the general parser refuses a number only for its size: whoever wants a number of that size is told so later.
fn is_large(digits: &str) -> bool {
    digits.parse::<f64>().is_ok_and(f64::is_infinite) && !digits.starts_with(['+', '.'])
}
