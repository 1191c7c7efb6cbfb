//! Compression of the payload of a block: bounded both ways.

use streamd_core::barrier::Compression;

/// The level of Zstandard. Higher ones cost a multiple of the time and save a few per cent of state (measured).
const ZSTD_LEVEL: i32 = 1;

/// Payloads below this are stored as they are: there is nothing to gain.
const LEAST_BYTES: usize = 128;

/// How the payload of a stored block is packed, as its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Lz4,
    Zstd,
}

impl Packing {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Plain => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    pub(super) fn of_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Plain),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _unknown => None,
        }
    }
}

/// Packs payloads, in memory that the next one uses again.
pub(super) struct Packer {
    method: Method,
    packed: Vec<u8>,
}

enum Method {
    Plain,
    Lz4,
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Packer {
    pub(super) fn new(compression: Compression) -> Self {
        let method = match compression {
            Compression::None => Method::Plain,
            Compression::Lz4 => Method::Lz4,
            // The compressor fails to be made only where there is no memory for it: then blocks are stored as they are.
            Compression::Zstd => match zstd::bulk::Compressor::new(ZSTD_LEVEL) {
                Ok(compressor) => Method::Zstd(Box::new(compressor)),
                Err(_) => Method::Plain,
            },
        };
        Self {
            method,
            packed: Vec::new(),
        }
    }

    /// The payload packed, if that makes it smaller.
    pub(super) fn pack(&mut self, payload: &[u8]) -> Option<(Packing, &[u8])> {
        if payload.len() < LEAST_BYTES {
            return None;
        }
        let (packing, length) = match &mut self.method {
            Method::Plain => return None,
            Method::Lz4 => {
                self.packed
                    .resize(lz4_flex::block::get_maximum_output_size(payload.len()), 0);
                let length = lz4_flex::block::compress_into(payload, &mut self.packed).ok()?;
                (Packing::Lz4, length)
            }
            Method::Zstd(compressor) => {
                self.packed.resize(zstd::zstd_safe::compress_bound(payload.len()), 0);
                let length = compressor
                    .compress_to_buffer(payload, self.packed.as_mut_slice())
                    .ok()?;
                (Packing::Zstd, length)
            }
        };
        (length < payload.len()).then(|| (packing, &self.packed[..length]))
    }
}

/// Unpacks a payload of exactly `length` bytes, which the caller has checked to be no more than a block may have. The memory is
/// not touched before there is something to put into it.
pub(super) fn unpack(packing: Packing, packed: &[u8], length: usize) -> Result<Vec<u8>, String> {
    let unpacked = match packing {
        Packing::Plain => packed.to_vec(),
        Packing::Lz4 => {
            let mut unpacked = vec![0; length];
            let written = lz4_flex::block::decompress_into(packed, &mut unpacked)
                .map_err(|error| format!("its payload cannot be unpacked: {error}"))?;
            unpacked.truncate(written);
            unpacked
        }
        Packing::Zstd => zstd::bulk::decompress(packed, length)
            .map_err(|error| format!("its payload cannot be unpacked: {error}"))?,
    };
    if unpacked.len() != length {
        return Err(format!(
            "its payload unpacks to {} bytes instead of {length}",
            unpacked.len()
        ));
    }
    Ok(unpacked)
}
