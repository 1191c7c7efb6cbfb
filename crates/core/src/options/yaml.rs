//! The configuration file: YAML, nested or with dotted keys, or both. The only file of the workspace that knows a YAML library.
//!
//! Keys are judged as they are met, and the first that is refused ends the reading. So nothing that a file can hold (aliases
//! that multiply, nesting without end) is followed further than to its first value; and the library knows the line.

use std::cell::RefCell;

use serde::Deserializer as _;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use super::error::Problem;

/// Brackets inside one another. The parser takes a time that grows with the square of it; a configuration needs one or two.
const MAX_BRACKETS: usize = 32;

/// What the reader of a file is told, key by key.
pub(super) trait Listener {
    /// Whether keys begin with this one and a dot.
    fn is_block(&self, key: &str) -> bool;

    /// A key with its value.
    fn on_setting(&mut self, key: &str, value: &str) -> Result<(), Problem>;
}

/// A file that was refused: the line (0 if none is to blame), the key if one is, and why.
#[derive(Debug)]
pub(super) struct YamlError {
    pub line: usize,
    pub key: Option<String>,
    pub problem: Problem,
}

/// Reads a file and tells `listener` every key with its value, nested keys joined with dots.
pub(super) fn read(text: &str, listener: &mut dyn Listener) -> Result<(), YamlError> {
    check_brackets(text)?;
    let reading = Reading {
        listener: RefCell::new(listener),
        refused: RefCell::new(None),
    };
    let outcome = serde_yaml::Deserializer::from_str(text).deserialize_any(Node {
        reading: &reading,
        key: String::new(),
    });
    outcome.map_err(|error| {
        let line = error.location().map_or(0, |location| location.line());
        match reading.refused.take() {
            Some((key, problem)) => YamlError { line, key, problem },
            None => YamlError {
                line,
                key: None,
                problem: Problem::Syntax(error.to_string()),
            },
        }
    })
}

fn check_brackets(text: &str) -> Result<(), YamlError> {
    let mut depth = 0usize;
    for (index, line) in text.lines().enumerate() {
        for byte in line.bytes() {
            match byte {
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > MAX_BRACKETS {
                let problem = Problem::Syntax(format!("more than {MAX_BRACKETS} brackets inside one another"));
                return Err(YamlError {
                    line: index + 1,
                    key: None,
                    problem,
                });
            }
        }
    }
    Ok(())
}

struct Reading<'a> {
    listener: RefCell<&'a mut dyn Listener>,
    /// The library's errors are texts: what exactly was refused is kept beside.
    refused: RefCell<Option<(Option<String>, Problem)>>,
}

impl Reading<'_> {
    fn refuse<E: de::Error>(&self, key: &str, problem: Problem) -> E {
        let message = problem.to_string();
        *self.refused.borrow_mut() = Some(((!key.is_empty()).then(|| key.to_owned()), problem));
        E::custom(message)
    }
}

/// The value of `key`: a scalar, or a block of further keys. The whole document is the value of the empty key.
struct Node<'r, 'a> {
    reading: &'r Reading<'a>,
    key: String,
}

impl Node<'_, '_> {
    fn scalar<E: de::Error>(self, value: &str) -> Result<(), E> {
        if self.key.is_empty() {
            return Err(self.reading.refuse("", Problem::NotABlock));
        }
        let told = self.reading.listener.borrow_mut().on_setting(&self.key, value);
        told.map_err(|problem| self.reading.refuse(&self.key, problem))
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("`key: value`")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.scalar(if value { "true" } else { "false" })
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.scalar(&value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.scalar(&value.to_string())
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<(), E> {
        self.scalar(&value.to_string())
    }

    fn visit_u128<E: de::Error>(self, value: u128) -> Result<(), E> {
        self.scalar(&value.to_string())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        // With its point: a whole number that was written as a fraction is no whole number.
        self.scalar(&format!("{value:?}"))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.scalar(value)
    }

    fn visit_none<E: de::Error>(self) -> Result<(), E> {
        self.visit_unit()
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        // A block whose lines are all commented out, or an empty file.
        if self.key.is_empty() || self.reading.listener.borrow().is_block(&self.key) {
            return Ok(());
        }
        self.scalar("")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.reading.refuse(&self.key, Problem::NotScalar("a list")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let reading = self.reading;
        let mut is_empty = true;
        while let Some(key) = map.next_key_seed(KeyName { block: &self.key })? {
            map.next_value_seed(Node { reading, key })?;
            is_empty = false;
        }
        if is_empty { self.visit_unit() } else { Ok(()) }
    }
}

/// The name of a key in a block.
struct KeyName<'r> {
    block: &'r str,
}

impl<'de> DeserializeSeed<'de> for KeyName<'_> {
    type Value = String;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeyName<'_> {
    type Value = String;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the name of a key")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<String, E> {
        Ok(if self.block.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.block)
        })
    }
}
