//! Where the records of a batch come from: what a failure of the application tells, so that the bad record can be found.
//!
//! It is kept per batch and never per record: a source names what each of its batches was read from, a [`Noted`] of each result
//! partition remembers the batches that a buffer was filled from since it was sent last, and the buffer takes their union along.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use streamd_core::source::{Stretch, Unit};

/// How many stretches an origin names: it is to be read by a person.
const MAX_PIECES: usize = 4;
/// The most bytes of an origin in a frame: four paths as long as a file system allows.
pub(crate) const MAX_ORIGIN_BYTES: usize = 20 << 10;
/// Batches that a partition remembers apart: as many as a turn between two flushes has at the most. Of more, the oldest become one.
const MAX_NOTED: usize = 256;

/// What source, subtask and stretches of the input the records of a batch come from. A cheap handle.
///
/// True of every record of the batch, and no more exact than the batches that the records travelled in: it names all that they
/// may come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin(Option<Arc<Pieces>>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Pieces {
    named: Vec<Piece>,
    /// Whether there is more than is named.
    elsewhere: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    source: Arc<str>,
    /// From 0.
    subtask: u32,
    stretch: Option<Stretch>,
}

impl Origin {
    /// Nothing is known, as of what a window or a timer emits.
    pub const UNKNOWN: Self = Self(None);

    /// Records that a subtask of a source has read from these stretches. `subtask` counts from 0.
    pub fn read(source: &Arc<str>, subtask: u32, stretches: &[Stretch]) -> Self {
        let piece = |stretch| Piece {
            source: Arc::clone(source),
            subtask,
            stretch,
        };
        let mut pieces = Pieces::default();
        if stretches.is_empty() {
            pieces.add(&piece(None));
        }
        for stretch in stretches {
            pieces.add(&piece(Some(stretch.clone())));
        }
        Self(Some(Arc::new(pieces)))
    }

    /// Whether anything is known.
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it says more than which source it was.
    pub fn is_exact(&self) -> bool {
        let named = self.0.iter().flat_map(|pieces| &pieces.named);
        named.into_iter().any(|piece| piece.stretch.is_some())
    }

    /// All that records of either may come from.
    fn union<'a>(mut origins: impl Iterator<Item = &'a Self>) -> Self {
        let Some(first) = origins.next() else {
            return Self::UNKNOWN;
        };
        let mut union = first.clone();
        for other in origins {
            union.add(other);
        }
        union
    }

    fn add(&mut self, other: &Self) {
        match (&mut self.0, &other.0) {
            (None, None) => {}
            (Some(own), Some(others)) if Arc::ptr_eq(own, others) => {}
            (own, others) => {
                let mut pieces = own.take().map_or_else(Pieces::elsewhere, Arc::unwrap_or_clone);
                match others {
                    Some(others) => {
                        others.named.iter().for_each(|piece| pieces.add(piece));
                        pieces.elsewhere |= others.elsewhere;
                    }
                    None => pieces.elsewhere = true,
                }
                *own = Some(Arc::new(pieces));
            }
        }
    }
}

impl Pieces {
    fn elsewhere() -> Self {
        Self {
            named: Vec::new(),
            elsewhere: true,
        }
    }

    fn add(&mut self, piece: &Piece) {
        if self.named.iter_mut().any(|known| known.widen(piece)) {
            return;
        }
        if self.named.len() < MAX_PIECES {
            self.named.push(piece.clone());
        } else {
            self.elsewhere = true;
        }
    }
}

impl Piece {
    /// Takes the other in, if it is of the same split.
    fn widen(&mut self, other: &Self) -> bool {
        if self.subtask != other.subtask || !is_same(&self.source, &other.source) {
            return false;
        }
        match (&mut self.stretch, &other.stretch) {
            (None, None) => true,
            (Some(own), Some(other)) if own.unit == other.unit && is_same_split(&own.of, &other.of) => {
                own.from = own.from.min(other.from);
                own.to = own.to.max(other.to);
                true
            }
            (Some(_) | None, Some(_) | None) => false,
        }
    }
}

fn is_same(one: &Arc<str>, other: &Arc<str>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

fn is_same_split(one: &Option<Arc<str>>, other: &Option<Arc<str>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => is_same(one, other),
        (one, other) => one.is_none() && other.is_none(),
    }
}

impl fmt::Display for Origin {
    /// ``source `events` (subtask 2), between bytes 1200 and 3400 of `/in/a.csv` ``
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pieces) = &self.0 else {
            return f.write_str("an unknown source");
        };
        for (position, piece) in pieces.named.iter().enumerate() {
            if position > 0 {
                f.write_str(", or of ")?;
            }
            write!(f, "source `{}` (subtask {})", piece.source, piece.subtask + 1)?;
            if let Some(stretch) = &piece.stretch {
                write!(f, ", {stretch}")?;
            }
        }
        match (pieces.elsewhere, pieces.named.is_empty()) {
            (true, true) => f.write_str("an unknown source"),
            (true, false) => f.write_str(", or from elsewhere"),
            (false, _) => Ok(()),
        }
    }
}

// ---- on the wire ----

/// ```text
///   elsewhere u8 │ count u8 │ count × ( subtask u32 │ source │ unit u8 │ of │ from u64 │ to u64 )        (little endian)
///   source, of: length u16 │ UTF-8        unit: 0 no stretch, and nothing follows; 1 bytes, 2 rows, 3 records, 4 lines
/// ```
impl Origin {
    /// As it goes over the wire: nothing where nothing is known.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let Some(pieces) = &self.0 else {
            return Bytes::new();
        };
        let mut named = BytesMut::new();
        let (mut count, mut elsewhere) = (0, pieces.elsewhere);
        for piece in &pieces.named {
            let mut bytes = BytesMut::new();
            piece.put(&mut bytes);
            if 2 + named.len() + bytes.len() > MAX_ORIGIN_BYTES {
                elsewhere = true;
                continue;
            }
            count += 1;
            named.unsplit(bytes);
        }
        let mut all = BytesMut::with_capacity(2 + named.len());
        all.put_u8(u8::from(elsewhere));
        all.put_u8(count);
        all.unsplit(named);
        all.freeze()
    }

    /// What [`to_bytes`](Self::to_bytes) has made, if it has.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::UNKNOWN);
        }
        let elsewhere = match bytes.try_get_u8().ok()? {
            0 => false,
            1 => true,
            _other => return None,
        };
        let count = bytes.try_get_u8().ok()?;
        if usize::from(count) > MAX_PIECES {
            return None;
        }
        let named = (0..count).map(|_| Piece::take(&mut bytes)).collect::<Option<_>>()?;
        bytes
            .is_empty()
            .then(|| Self(Some(Arc::new(Pieces { named, elsewhere }))))
    }
}

impl Piece {
    fn put(&self, bytes: &mut BytesMut) {
        bytes.put_u32_le(self.subtask);
        put_text(bytes, &self.source);
        let Some(Stretch { of, unit, from, to }) = &self.stretch else {
            bytes.put_u8(0);
            return;
        };
        bytes.put_u8(match unit {
            Unit::Bytes => 1,
            Unit::Rows => 2,
            Unit::Records => 3,
            Unit::Lines => 4,
        });
        put_text(bytes, of.as_deref().unwrap_or_default());
        bytes.put_u64_le(*from);
        bytes.put_u64_le(*to);
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let subtask = bytes.try_get_u32_le().ok()?;
        let source = Arc::from(take_text(bytes)?);
        let unit = match bytes.try_get_u8().ok()? {
            0 => {
                return Some(Self {
                    source,
                    subtask,
                    stretch: None,
                });
            }
            1 => Unit::Bytes,
            2 => Unit::Rows,
            3 => Unit::Records,
            4 => Unit::Lines,
            _other => return None,
        };
        let stretch = Some(Stretch {
            of: Some(take_text(bytes)?).filter(|of| !of.is_empty()).map(Arc::from),
            unit,
            from: bytes.try_get_u64_le().ok()?,
            to: bytes.try_get_u64_le().ok()?,
        });
        Some(Self {
            source,
            subtask,
            stretch,
        })
    }
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    // A name that is longer than any path is of use to nobody: the piece is left out where it does not fit.
    let text = &text.as_bytes()[..text.len().min(usize::from(u16::MAX))];
    bytes.put_u16_le(u16::try_from(text.len()).expect("it was cut to this length"));
    bytes.put_slice(text);
}

fn take_text<'a>(bytes: &mut &'a [u8]) -> Option<&'a str> {
    let length = usize::from(bytes.try_get_u16_le().ok()?);
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok()
}

// ---- in a result partition ----

/// The origins of the batches that were emitted into a partition since it was flushed last, by number.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    origins: VecDeque<Origin>,
    /// The number of the first of them.
    first: u64,
}

impl Noted {
    /// Notes the origin of a batch that is about to be dealt out. Returns its number.
    pub(crate) fn note(&mut self, origin: &Origin) -> u64 {
        if self.origins.len() == MAX_NOTED
            && let Some(oldest) = self.origins.pop_front()
        {
            self.first += 1;
            if let Some(next) = self.origins.front_mut() {
                next.add(&oldest);
            }
        }
        self.origins.push_back(origin.clone());
        self.last()
    }

    /// What records may come from that were emitted with the batch of this number, or after it.
    pub(crate) fn since(&self, number: u64) -> Origin {
        self.between(number, u64::MAX)
    }

    /// As [`since`](Self::since), but before the batch of the second number.
    pub(crate) fn between(&self, number: u64, end: u64) -> Origin {
        let index = |number: u64| usize::try_from(number.saturating_sub(self.first)).unwrap_or(usize::MAX);
        // Where the oldest were put together there may be nothing between: then it is among them.
        let (start, end) = (index(number), index(end).max(1));
        Origin::union(self.origins.iter().take(end).skip(start.min(end - 1)))
    }

    /// The number of the batch that was noted last.
    pub(crate) fn last(&self) -> u64 {
        (self.first + self.origins.len() as u64).saturating_sub(1)
    }

    /// Nothing waits any more.
    pub(crate) fn clear(&mut self) {
        self.first += self.origins.len() as u64;
        self.origins.clear();
    }
}

#[cfg(test)]
#[path = "origin_tests.rs"]
mod tests;
