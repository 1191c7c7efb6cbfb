//! Reading a local file, into the same memory again where it can be: the kernel clears what is new, which takes longer than to read.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use object_store::{Error, Result};

/// Bytes of a piece: less than a processor has in its second-level cache.
const PIECE_BYTES: u64 = 256 << 10;

/// What is left to be read of a file.
pub(super) struct LocalFile {
    file: Arc<File>,
    left: Range<u64>,
}

impl LocalFile {
    pub(super) fn new(file: File, range: Range<u64>) -> Self {
        Self {
            file: Arc::new(file),
            left: range,
        }
    }

    /// The next bytes, so many or up to the end; into the memory of `spare`, if nobody else has it.
    pub(super) async fn read(&mut self, spare: Bytes, limit: u64) -> Result<Bytes> {
        let (file, begin) = (Arc::clone(&self.file), self.left.start);
        let wanted = self.left.end.saturating_sub(begin).min(limit);
        let read = tokio::task::spawn_blocking(move || read_at(&file, begin, wanted, spare));
        let bytes = read.await?.map_err(|source| Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(source),
        })?;
        self.left.start += bytes.len() as u64;
        Ok(bytes)
    }

    /// All bytes, piece by piece. Each is read into the memory of the one before, if that has been dropped.
    pub(super) fn pieces(self) -> impl Stream<Item = Result<Bytes>> {
        futures::stream::try_unfold((self, Bytes::new()), |(mut file, spare)| async move {
            let piece = file.read(spare, PIECE_BYTES).await?;
            Ok((!piece.is_empty()).then(|| (piece.clone(), (file, piece))))
        })
    }
}

fn read_at(file: &File, begin: u64, wanted: u64, spare: Bytes) -> io::Result<Bytes> {
    let wanted = usize::try_from(wanted).map_err(io::Error::other)?;
    let mut bytes = spare.try_into_mut().unwrap_or_default();
    bytes.resize(wanted, 0);
    let mut filled = 0;
    while filled < wanted {
        match file.read_at(&mut bytes[filled..], begin + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes.freeze())
}
