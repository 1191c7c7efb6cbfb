//! Files that are compressed as a whole.

use std::fs::File;
use std::io::{self, Read};

use streamd_core::source::ConnectorError;

/// How a file is compressed: its name says so.
///
/// Only a reader from the start can tell what is where in such a file: it is one split, and a position in it counts the bytes of
/// its content. To go on from a position, the content before it is decompressed again and passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `.bz2`, of one stream or several.
    Bzip2,
    /// `.gz`, of one member or several.
    Gzip,
    /// `.zst`, of one frame or several.
    Zstd,
    /// `.lz4`, in the frame format.
    Lz4,
}

/// Ends of names of files that would be read as garbage.
const UNKNOWN: &[&str] = &["7z", "br", "lzma", "rar", "snappy", "xz", "z", "zip"];

impl Compression {
    /// What the name of a file says; `None` if it is not compressed.
    ///
    /// Errors if it is compressed in a way that cannot be read.
    pub fn of(path: &str) -> Result<Option<Self>, ConnectorError> {
        let name = path.rsplit('/').next().unwrap_or(path);
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        let extension = extension.to_ascii_lowercase();
        match &*extension {
            "bz2" | "bzip2" => Ok(Some(Self::Bzip2)),
            "gz" | "gzip" => Ok(Some(Self::Gzip)),
            "zst" | "zstd" => Ok(Some(Self::Zstd)),
            "lz4" => Ok(Some(Self::Lz4)),
            unknown if UNKNOWN.contains(&unknown) => Err(ConnectorError::new(format!(
                "the file `{path}` is compressed as `.{extension}`, which cannot be read: `.gz`, `.zst`, `.lz4` and `.bz2` can"
            ))),
            _ => Ok(None),
        }
    }

    /// The content of a file.
    pub(super) fn reader(self, file: Packed) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self {
            Self::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(file)),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(file)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::new(file)?),
            Self::Lz4 => Box::new(Lz4Frames::new(file)),
        })
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Zstd => "Zstandard",
            Self::Lz4 => "LZ4",
        }
    }
}

/// The bytes of a compressed file as they were when it was listed.
pub(super) struct Packed {
    file: File,
    /// How many are left.
    left: u64,
}

impl Packed {
    pub(super) fn new(file: File, length: u64) -> Self {
        Self { file, left: length }
    }
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.file.read(&mut buffer[..wanted])?;
        if count == 0 {
            let message = format!("the file now ends {} bytes earlier than when it was listed", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        }
        self.left -= count as u64;
        Ok(count)
    }
}

/// Frames of LZ4, one after the other. The library ends quietly where a file was cut in a frame: this does not.
struct Lz4Frames {
    frames: lz4_flex::frame::FrameDecoder<Counted>,
}

/// Remembers what the last bytes were.
struct Counted {
    packed: Packed,
    tail: [u8; 8],
}

impl Lz4Frames {
    fn new(packed: Packed) -> Self {
        let counted = Counted { packed, tail: [0; 8] };
        Self {
            frames: lz4_flex::frame::FrameDecoder::new(counted),
        }
    }

    /// A frame ends with a block of no bytes, and perhaps a checksum of four.
    fn ends_with_an_end_mark(&self) -> bool {
        let tail = self.frames.get_ref().tail;
        tail[4..] == [0; 4] || tail[..4] == [0; 4]
    }
}

impl Read for Lz4Frames {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let before = self.frames.get_ref().packed.left;
            let count = self.frames.read(buffer)?;
            let left = self.frames.get_ref().packed.left;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            if left == 0 && self.ends_with_an_end_mark() {
                return Ok(0);
            }
            // The end of a frame, and another one may follow.
            if left == 0 || left == before {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the last frame has no end",
                ));
            }
        }
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.packed.read(buffer)?;
        for byte in &buffer[count.saturating_sub(8)..count] {
            self.tail.rotate_left(1);
            self.tail[7] = *byte;
        }
        Ok(count)
    }
}
