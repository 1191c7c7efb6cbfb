//! Column chunks of a Parquet file: pages with their headers, packed where that makes them smaller.

use bytes::Bytes;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, RowGroupMetaData};
use parquet::file::statistics::Statistics;
use parquet::schema::types::{ColumnDescPtr, SchemaDescPtr};

use super::file::Packing;
use super::leaf::RawPage;

/// Of the first page of a chunk, packing must save one byte in so many: else the chunk is stored as it is, and read without work.
const LEAST_SAVING: usize = 16;

/// A row group whose values are there, to be packed.
pub(super) struct RawRowGroup {
    /// Key group and rows of each run of the first column.
    pub groups: Vec<(u32, usize)>,
    /// The pages of the other leaves.
    pub leaves: Vec<Vec<RawPage>>,
    pub packing: Packing,
}

/// A row group as it stands in the file, wherever it begins.
pub(super) struct PackedRowGroup {
    chunks: Vec<Chunk>,
    rows: i64,
}

/// One column chunk.
struct Chunk {
    pieces: Vec<Bytes>,
    codec: Compression,
    encodings: Vec<Encoding>,
    values: i64,
    packed: usize,
    unpacked: usize,
    /// Bytes of its dictionary, which comes first.
    dictionary: Option<usize>,
    statistics: Option<Statistics>,
}

impl RawRowGroup {
    /// Packs the pages.
    pub(super) fn pack(self) -> Result<PackedRowGroup, ParquetError> {
        let rows = self.groups.iter().map(|(_, rows)| *rows).sum::<usize>();
        let mut packer = Packer::new(self.packing)?;
        let leaves = self.leaves.into_iter().map(|pages| packer.chunk(pages));
        let chunks = std::iter::once(Ok(chunk_of_groups(&self.groups))).chain(leaves);
        Ok(PackedRowGroup {
            chunks: chunks.collect::<Result<_, _>>()?,
            rows: rows as i64,
        })
    }
}

impl PackedRowGroup {
    /// What the footer says of the row group, which begins at this byte of the file; and its bytes, in order.
    pub(super) fn place(
        self,
        schema: &SchemaDescPtr,
        (ordinal, begin): (usize, u64),
    ) -> Result<(RowGroupMetaData, Vec<Bytes>), ParquetError> {
        let (mut at, mut unpacked) = (begin as i64, 0);
        let mut columns = Vec::with_capacity(self.chunks.len());
        let mut pieces = Vec::new();
        for (chunk, column) in self.chunks.into_iter().zip(schema.columns()) {
            unpacked += chunk.unpacked as i64;
            let length = chunk.packed as i64;
            let (described, bytes) = chunk.place(column.clone(), at)?;
            columns.push(described);
            pieces.extend(bytes);
            at += length;
        }
        let described = RowGroupMetaData::builder(schema.clone())
            .set_num_rows(self.rows)
            .set_total_byte_size(unpacked)
            .set_column_metadata(columns)
            .set_file_offset(begin as i64);
        // What does not fit is optional.
        let described = match i16::try_from(ordinal) {
            Ok(ordinal) => described.set_ordinal(ordinal.into()),
            Err(_) => described,
        };
        Ok((described.build()?, pieces))
    }
}

impl Chunk {
    fn new(codec: Compression, encoding: Encoding) -> Self {
        Self {
            pieces: Vec::new(),
            codec,
            encodings: vec![encoding],
            values: 0,
            packed: 0,
            unpacked: 0,
            dictionary: None,
            statistics: None,
        }
    }

    fn push(&mut self, header: PageHeader, bytes: Bytes) {
        let header_bytes = header.to_bytes(bytes.len());
        self.packed += header_bytes.len() + bytes.len();
        self.unpacked += header_bytes.len() + header.unpacked;
        match header.kind {
            PageKind::Data => self.values += i64::from(header.values),
            PageKind::Dictionary => self.dictionary = Some(self.packed),
        }
        self.pieces.extend([Bytes::from(header_bytes), bytes]);
    }

    fn place(self, column: ColumnDescPtr, at: i64) -> Result<(ColumnChunkMetaData, Vec<Bytes>), ParquetError> {
        let described = ColumnChunkMetaData::builder(column)
            .set_compression(self.codec)
            .set_encodings(self.encodings)
            .set_num_values(self.values)
            .set_total_compressed_size(self.packed as i64)
            .set_total_uncompressed_size(self.unpacked as i64)
            .set_dictionary_page_offset(self.dictionary.map(|_| at))
            .set_data_page_offset(at + self.dictionary.unwrap_or(0) as i64);
        let described = match self.statistics {
            Some(statistics) => described.set_statistics(statistics),
            None => described,
        };
        Ok((described.build()?, self.pieces))
    }
}

/// Packs pages, in memory that the next one uses again.
struct Packer {
    codec: Compression,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    packed: Vec<u8>,
}

impl Packer {
    fn new(packing: Packing) -> Result<Self, ParquetError> {
        let (codec, zstd) = match packing {
            Packing::Lz4 => (Compression::LZ4_RAW, None),
            Packing::Zstd => {
                let level = ZstdLevel::default();
                let compressor = zstd::bulk::Compressor::new(level.compression_level()).map_err(failed)?;
                (Compression::ZSTD(level), Some(compressor))
            }
        };
        Ok(Self {
            codec,
            zstd,
            packed: Vec::new(),
        })
    }

    /// The pages of a leaf as a chunk. One codec goes for all of them: the first page decides.
    fn chunk(&mut self, pages: Vec<RawPage>) -> Result<Chunk, ParquetError> {
        let is_packed = match pages.first() {
            Some(first) => self.pack(&first.bytes)?.len() + first.bytes.len() / LEAST_SAVING <= first.bytes.len(),
            None => false,
        };
        let codec = if is_packed {
            self.codec
        } else {
            Compression::UNCOMPRESSED
        };
        let mut chunk = Chunk::new(codec, Encoding::PLAIN);
        for RawPage { bytes, values } in pages {
            let header = PageHeader {
                kind: PageKind::Data,
                encoding: Encoding::PLAIN,
                values,
                unpacked: bytes.len(),
            };
            let bytes = if is_packed {
                Bytes::copy_from_slice(self.pack(&bytes)?)
            } else {
                Bytes::from(bytes)
            };
            chunk.push(header, bytes);
        }
        Ok(chunk)
    }

    fn pack(&mut self, page: &[u8]) -> Result<&[u8], ParquetError> {
        let bound = match &self.zstd {
            None => lz4_flex::block::get_maximum_output_size(page.len()),
            Some(_) => zstd::zstd_safe::compress_bound(page.len()),
        };
        if self.packed.len() < bound {
            self.packed.resize(bound, 0);
        }
        let length = match &mut self.zstd {
            None => lz4_flex::block::compress_into(page, &mut self.packed).map_err(failed)?,
            Some(compressor) => compressor
                .compress_to_buffer(page, self.packed.as_mut_slice())
                .map_err(failed)?,
        };
        Ok(&self.packed[..length])
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// The column of key groups: each once in a dictionary, and how many rows have it. With the least and the greatest.
fn chunk_of_groups(groups: &[(u32, usize)]) -> Chunk {
    let mut dictionary: Vec<u32> = groups.iter().map(|(group, _)| *group).collect();
    dictionary.dedup();
    let rows: usize = groups.iter().map(|(_, rows)| rows).sum();
    let mut chunk = Chunk::new(Compression::UNCOMPRESSED, Encoding::RLE_DICTIONARY);
    chunk.encodings.push(Encoding::PLAIN);
    let entries: Vec<u8> = dictionary.iter().flat_map(|group| group.to_le_bytes()).collect();
    let header = PageHeader {
        kind: PageKind::Dictionary,
        encoding: Encoding::PLAIN,
        values: dictionary.len() as u32,
        unpacked: entries.len(),
    };
    chunk.push(header, entries.into());
    let indices = runs(groups, dictionary.len());
    let header = PageHeader {
        kind: PageKind::Data,
        encoding: Encoding::RLE_DICTIONARY,
        values: rows as u32,
        unpacked: indices.len(),
    };
    chunk.push(header, indices.into());
    let ends = dictionary.first().zip(dictionary.last());
    chunk.statistics = ends
        .map(|(least, greatest)| Statistics::int32(Some(*least as i32), Some(*greatest as i32), None, Some(0), false));
    chunk
}

/// The indices of the runs in a dictionary of so many, which are in its order: the width in bits, then each run.
fn runs(groups: &[(u32, usize)], entries: usize) -> Vec<u8> {
    let width = (usize::BITS - entries.saturating_sub(1).leading_zeros()).max(1);
    let mut bytes = vec![width as u8];
    let mut index = 0u32;
    let mut before = groups.first().map(|(group, _)| *group);
    for &(group, rows) in groups {
        if before.replace(group) != Some(group) {
            index += 1;
        }
        put_varint(&mut bytes, (rows as u64) << 1);
        bytes.extend_from_slice(&index.to_le_bytes()[..width.div_ceil(8) as usize]);
    }
    bytes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageKind {
    Data,
    Dictionary,
}

/// The header of a page, in Thrift's compact protocol.
struct PageHeader {
    kind: PageKind,
    encoding: Encoding,
    values: u32,
    unpacked: usize,
}

impl PageHeader {
    fn to_bytes(&self, packed: usize) -> Vec<u8> {
        /// The fields of a struct: an integer, a struct, and the end.
        const I32: u8 = 5;
        const STRUCT: u8 = 12;
        const STOP: u8 = 0;
        let mut bytes = Vec::with_capacity(32);
        let integer = |bytes: &mut Vec<u8>, skip: u8, value: i64| {
            bytes.push(skip << 4 | I32);
            // Zigzag: small negative numbers are small too.
            put_varint(bytes, ((value << 1) ^ (value >> 63)) as u64);
        };
        let encoding = |encoding: Encoding| encoding as i32 as i64;
        let (kind, body) = match self.kind {
            PageKind::Data => (0, 5),
            PageKind::Dictionary => (2, 7),
        };
        integer(&mut bytes, 1, kind);
        integer(&mut bytes, 1, self.unpacked as i64);
        integer(&mut bytes, 1, packed as i64);
        // Field 3 was the last.
        bytes.push((body - 3) << 4 | STRUCT);
        integer(&mut bytes, 1, i64::from(self.values));
        integer(&mut bytes, 1, encoding(self.encoding));
        if self.kind == PageKind::Data {
            // Levels there are none.
            integer(&mut bytes, 1, encoding(Encoding::RLE));
            integer(&mut bytes, 1, encoding(Encoding::RLE));
        }
        bytes.extend([STOP, STOP]);
        bytes
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}
