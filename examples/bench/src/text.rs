//! The text of *wordcount*: lines of ten words, short words often and long lists of them seldom.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use crate::events::{mix, sm};

const SEED: u64 = 11;
const WORDS_IN_A_LINE: u64 = 10;

/// Writes whole lines until there are at least so many bytes.
pub fn write(file: &str, bytes: u64) {
    if let Err(error) = try_write(file, bytes) {
        crate::usage(&format!("cannot write `{file}`: {error}"))
    }
}

fn try_write(file: &str, bytes: u64) -> io::Result<()> {
    let mut out = BufWriter::new(File::create(file)?);
    let mut line = Vec::new();
    let (mut number, mut written) = (0, 0);
    while written < bytes {
        line.clear();
        for _ in 0..WORDS_IN_A_LINE {
            push_word(number, &mut line);
            number += 1;
            line.push(b' ');
        }
        line.pop();
        line.push(b'\n');
        out.write_all(&line)?;
        written += line.len() as u64;
    }
    out.flush()
}

/// Word number `number` of the text.
fn push_word(number: u64, line: &mut Vec<u8>) {
    let hash = sm(SEED, number);
    let class = (hash & 15) + 1;
    let id = (1 << class) + ((hash >> 8) & ((1 << class) - 1));
    let mut letters = mix(id);
    for _ in 0..2 + (letters & 7) {
        letters = letters.rotate_right(8);
        line.push(b'a' + ((letters & 0xFF) % 26) as u8);
    }
}
