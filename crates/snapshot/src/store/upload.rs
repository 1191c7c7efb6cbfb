//! Writing an object piece by piece, in bounded memory, with its digest taken on the way.

use std::io;

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use streamd_core::snapshot::ObjectHandle;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::Xxh3;

use super::create::CreateError;
use super::location::Location;
use super::write_back;
use crate::error::StoreError;

/// Bytes of the first parts. Object stores want at least 5 MiB; larger ones only cost memory.
const PART_BYTES: usize = 8 << 20;

/// Parts of one size. Then the size doubles: of the 10,000 parts that S3 takes (Azure 50,000), the first 5,600 go up to 512 MiB, and
/// all together hold more than the 5 TiB that an object may have. Objects of up to 6 GiB have parts of one size, which a few stores
/// insist on.
const PARTS_PER_SIZE: usize = 800;

/// Doublings until parts have 1 GiB, and stay so. Only objects of terabytes come to it.
const DOUBLINGS: usize = 7;

/// Parts under way at once, while the next is being filled. An upload of up to 6 GiB so holds five parts: 40 MiB.
const PARTS_IN_FLIGHT: usize = 4;

/// The size of a part, by its index.
fn part_bytes(index: usize) -> usize {
    PART_BYTES << (index / PARTS_PER_SIZE).min(DOUBLINGS)
}

/// Bytes that are worth keeping as they are; fewer are copied behind those before.
const SHARED_BYTES: usize = 64 << 10;

/// An object under way. Dropping it before [`finish`](Self::finish) leaves no object behind.
pub struct Upload {
    location: Location,
    /// What is full of the part that is being filled, and how many bytes.
    pieces: Vec<Bytes>,
    held: usize,
    /// What follows them.
    buffer: Vec<u8>,
    multipart: Option<Box<dyn MultipartUpload>>,
    parts: JoinSet<object_store::Result<()>>,
    sent: usize,
    /// Bytes of the parts that were sent.
    offset: u64,
    hasher: Xxh3,
    length: u64,
}

/// A finished object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploaded {
    /// Its length in bytes.
    pub length: u64,
    /// The XXH3-128 of its bytes, as 32 hexadecimal digits.
    pub digest: String,
}

impl Uploaded {
    /// The handle of the object, under the name that it has within its snapshot.
    pub fn into_handle(self, path: String) -> ObjectHandle {
        ObjectHandle {
            path,
            length: self.length,
            digest: self.digest,
            inline: None,
        }
    }
}

/// A digest as metadata spells it.
pub fn digest_text(digest: u128) -> String {
    format!("{digest:032x}")
}

impl Upload {
    pub(super) fn new(location: Location) -> Self {
        Self {
            location,
            pieces: Vec::new(),
            held: 0,
            buffer: Vec::new(),
            multipart: None,
            parts: JoinSet::new(),
            sent: 0,
            offset: 0,
            hasher: Xxh3::new(),
            length: 0,
        }
    }

    /// Bytes taken so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Appends bytes. Waits while too many parts are under way. Must be called within a tokio runtime.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        while bytes.len() >= self.room() {
            let (head, tail) = bytes.split_at(self.room());
            self.buffer.extend_from_slice(head);
            bytes = tail;
            self.send_part().await?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// As [`write`](Self::write), without a copy of what is large.
    pub async fn write_shared(&mut self, mut bytes: Bytes) -> Result<(), StoreError> {
        if bytes.len() < SHARED_BYTES {
            return self.write(&bytes).await;
        }
        self.hasher.update(&bytes);
        self.length += bytes.len() as u64;
        while bytes.len() >= self.room() {
            let head = bytes.split_to(self.room());
            self.hold(head);
            self.send_part().await?;
        }
        self.hold(bytes);
        Ok(())
    }

    /// Bytes that are missing in the part that is being filled.
    fn room(&self) -> usize {
        part_bytes(self.sent) - self.held - self.buffer.len()
    }

    fn hold(&mut self, bytes: Bytes) {
        let before = Bytes::from(std::mem::take(&mut self.buffer));
        for piece in [before, bytes].into_iter().filter(|piece| !piece.is_empty()) {
            self.held += piece.len();
            self.pieces.push(piece);
        }
    }

    /// What is there of the part.
    fn take_part(&mut self) -> PutPayload {
        self.hold(Bytes::new());
        self.held = 0;
        PutPayload::from_iter(std::mem::take(&mut self.pieces))
    }

    /// Makes the object visible and durable.
    pub async fn finish(mut self) -> Result<Uploaded, StoreError> {
        let uploaded = Uploaded {
            length: self.length,
            digest: digest_text(self.hasher.digest128()),
        };
        if self.multipart.is_none() {
            return self.finish_small(uploaded).await;
        }
        match self.finish_large(uploaded.length).await {
            Ok(()) => Ok(uploaded),
            Err(error) => {
                // What is left of it costs its owner money; where this fails too, a rule of the bucket has to clean up.
                drop(self.abort().await);
                Err(error)
            }
        }
    }

    async fn finish_large(&mut self, length: u64) -> Result<(), StoreError> {
        if self.held + self.buffer.len() > 0 {
            self.send_part().await?;
        }
        self.wait_for_parts(0).await?;
        let multipart = self.multipart.as_mut().expect("set by the first part");
        let completed = self.location.within("write", 0, multipart.complete()).await;
        let error = match completed {
            Ok(Ok(_put)) => return Ok(()),
            Ok(Err(source)) => self.location.not_written("write", source),
            Err(late) => late,
        };
        // The name is this upload's alone, and an object appears as a whole: if it is there, the answer was lost, not the object.
        // A file may be there without being on the disk.
        match self.location.head().await {
            Ok(Some(there)) if there == length && !self.location.is_local() => Ok(()),
            Ok(_) | Err(_) => Err(error),
        }
    }

    /// Gives the object up.
    pub async fn abort(mut self) -> Result<(), StoreError> {
        self.parts.shutdown().await;
        match self.multipart.as_mut() {
            Some(multipart) => {
                let aborted = self.location.within("give up", 0, multipart.abort()).await?;
                aborted.map_err(|source| self.location.failed("give up", source))
            }
            None => Ok(()),
        }
    }

    /// An object of one part. Names are never reused, so one that exists can only be this very write, done twice.
    async fn finish_small(mut self, uploaded: Uploaded) -> Result<Uploaded, StoreError> {
        let bytes = Bytes::from(self.take_part());
        match self.location.create(bytes).await {
            Ok(()) => Ok(uploaded),
            Err(CreateError::Failed(error) | CreateError::OutcomeUnknown { source: error, .. }) => Err(error),
            Err(CreateError::Lost { uri }) => Err(StoreError::InvalidName {
                name: uri,
                reason: "another object has it already",
            }),
        }
    }

    async fn send_part(&mut self) -> Result<(), StoreError> {
        self.wait_for_parts(PARTS_IN_FLIGHT - 1).await?;
        if self.multipart.is_none() {
            let begun = self.location.store.put_multipart(&self.location.path);
            let begun = self.location.within("write", 0, begun).await?;
            self.multipart = Some(begun.map_err(|source| self.location.not_written("write", source))?);
        }
        let is_copied = self.held == 0;
        let full = self.take_part();
        self.sent += 1;
        if is_copied {
            // The next part will be, too.
            self.buffer.reserve_exact(part_bytes(self.sent));
        }
        let multipart = self.multipart.as_mut().expect("set just above");
        let (offset, length) = (self.offset, full.content_length() as u64);
        self.offset += length;
        let (put, local) = (multipart.put_part(full), self.location.local_path());
        self.parts.spawn(async move {
            put.await?;
            if let Some(path) = local {
                write_back::begin(path, offset..offset + length).await;
            }
            Ok(())
        });
        Ok(())
    }

    async fn wait_for_parts(&mut self, at_most: usize) -> Result<(), StoreError> {
        while self.parts.len() > at_most {
            match self.parts.join_next().await {
                Some(Ok(Ok(()))) | None => {}
                Some(Ok(Err(source))) => return Err(self.location.not_written("write", source)),
                Some(Err(join)) => {
                    let source = object_store::Error::JoinError { source: join };
                    return Err(self.location.not_written("write", source));
                }
            }
        }
        Ok(())
    }
}

/// An upload fed by synchronous code, on a thread that is not tokio's.
pub struct BlockingUpload {
    upload: Upload,
    runtime: Handle,
}

impl BlockingUpload {
    /// Begins an object.
    pub fn new(location: &Location, runtime: Handle) -> Self {
        Self {
            upload: location.upload(),
            runtime,
        }
    }

    /// Appends bytes. Blocks while the store lags behind.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.runtime.block_on(self.upload.write(bytes))
    }

    /// As [`append`](Self::append), without a copy of what is large.
    pub fn append_shared(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.runtime.block_on(self.upload.write_shared(bytes))
    }

    /// Bytes taken so far.
    pub fn length(&self) -> u64 {
        self.upload.length()
    }

    /// Makes the object visible and durable.
    pub fn finish(self) -> Result<Uploaded, StoreError> {
        self.runtime.block_on(self.upload.finish())
    }

    /// Gives the object up.
    pub fn abort(self) -> Result<(), StoreError> {
        self.runtime.block_on(self.upload.abort())
    }
}

impl io::Write for BlockingUpload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_parts_hold_any_object_and_most_have_parts_of_one_size() {
        let sizes: Vec<u64> = (0..10_000).map(|index| part_bytes(index) as u64).collect();
        assert!(sizes.iter().sum::<u64>() >= 5 << 40);
        assert!(sizes.is_sorted() && sizes[0] >= 5 << 20 && sizes[9_999] <= 1 << 30);
        assert!(sizes[..PARTS_PER_SIZE].iter().all(|bytes| *bytes == sizes[0]));
    }
}
