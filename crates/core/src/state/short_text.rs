//! The hash of a short text, which most keys that are texts are: XXH3-64 of its row, without a row.
//!
//! ```text
//!   row:   length, 4 bytes │ text          read in 4 words:  length │ first │ middle │ last, which may overlap
//! ```
//!
//! To write the row and to read it at once again makes the processor wait: it cannot hand bytes that were stored one way to a load that
//! asks for them in another way. Here the words are read where the text lies.
//!
//! The algorithm and its numbers are those of the [specification](https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md#xxh3-algorithm-description-for-small-inputs);
//! the tests hold it against the library for every length.

/// The longest text that is hashed here, in bytes: with its length, the longest input for which XXH3 takes two words.
pub(super) const LONGEST: usize = 12;

const PRIME_MX1: u64 = 0x1656_6791_9e37_79f9;
const PRIME_MX2: u64 = 0x9fb2_1c65_1e98_df25;

/// Of the secret, the words that inputs of 4 to 8 bytes, and the two halves of those of 9 to 16 bytes, are combined with.
const SECRET_4_TO_8: u64 = 0x1cad_21f7_2c81_017c ^ 0xdb97_9083_e96d_d4de;
const SECRET_LOW: u64 = 0x1f67_b3b7_a4a4_4072 ^ 0x78e5_c0cc_4ee6_79cb;
const SECRET_HIGH: u64 = 0x2172_ffcc_7dd0_5a82 ^ 0x8e24_43f7_7446_08b8;

/// XXH3-64 of the row of this text, of at most [`LONGEST`] bytes.
#[inline]
pub(super) fn hash(text: &[u8]) -> u64 {
    let length = text.len() as u64;
    if text.len() > 4 {
        // The last eight bytes of the row may begin within the length, of which they have zeros. Without a branch: how long the texts of a
        // stream are cannot be predicted.
        let zeros = 8_usize.saturating_sub(text.len());
        let middle = word(text, text.len().saturating_sub(8)) << (8 * zeros);
        let last = word(text, text.len() - 4);
        hash_of_9_to_16(length, length | word(text, 0) << 32, middle & 0xffff_ffff | last << 32)
    } else {
        let last = text.len().checked_sub(1).map_or(0, |last| {
            // Each of up to four bytes is among these, some more than once.
            let byte = |at: usize| u64::from(text[at]) << (8 * (at + 4 - text.len()));
            byte(0) | byte(last.min(1)) | byte(text.len() / 2) | byte(last)
        });
        hash_of_4_to_8(length, last | length << 32)
    }
}

#[inline]
fn word(text: &[u8], at: usize) -> u64 {
    let bytes = text[at..]
        .first_chunk()
        .expect("a word is read where there are four bytes");
    u64::from(u32::from_le_bytes(*bytes))
}

#[inline]
fn hash_of_4_to_8(length: u64, input: u64) -> u64 {
    let mut hash = input ^ SECRET_4_TO_8;
    hash ^= hash.rotate_left(49) ^ hash.rotate_left(24);
    hash = hash.wrapping_mul(PRIME_MX2);
    hash ^= (hash >> 35) + (4 + length);
    hash = hash.wrapping_mul(PRIME_MX2);
    hash ^ hash >> 28
}

#[inline]
fn hash_of_9_to_16(length: u64, low: u64, high: u64) -> u64 {
    let (low, high) = (low ^ SECRET_LOW, high ^ SECRET_HIGH);
    let product = u128::from(low) * u128::from(high);
    let folded = product as u64 ^ (product >> 64) as u64;
    let mut hash = (4 + length)
        .wrapping_add(low.swap_bytes())
        .wrapping_add(high)
        .wrapping_add(folded);
    hash ^= hash >> 37;
    hash = hash.wrapping_mul(PRIME_MX1);
    hash ^ hash >> 32
}
