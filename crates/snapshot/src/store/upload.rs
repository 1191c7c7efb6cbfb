//! Writing an object piece by piece, in bounded memory, with its digest taken on the way.

use std::io;

use bytes::Bytes;
use object_store::{MultipartUpload, ObjectStoreExt, PutPayload};
use streamd_core::snapshot::ObjectHandle;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use xxhash_rust::xxh3::Xxh3;

use super::location::{Created, Location};
use crate::error::StoreError;

/// Bytes of a part. Object stores want at least 5 MiB and equal sizes; larger ones only cost memory.
const PART_BYTES: usize = 8 << 20;

/// Parts under way at once: one is being written while the next is filled. With the buffer, an upload holds three parts.
const PARTS_IN_FLIGHT: usize = 2;

/// An object under way. Dropping it before [`finish`](Self::finish) leaves no object behind.
pub struct Upload {
    location: Location,
    buffer: Vec<u8>,
    multipart: Option<Box<dyn MultipartUpload>>,
    parts: JoinSet<object_store::Result<()>>,
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
            buffer: Vec::new(),
            multipart: None,
            parts: JoinSet::new(),
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
        while self.buffer.len() + bytes.len() >= PART_BYTES {
            let (head, tail) = bytes.split_at(PART_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(head);
            bytes = tail;
            self.send_part().await?;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
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
        if !self.buffer.is_empty() {
            self.send_part().await?;
        }
        self.wait_for_parts(0).await?;
        let multipart = self.multipart.as_mut().expect("set by the first part");
        let completed = multipart.complete().await;
        completed.map_err(|source| self.location.not_written("write", source))?;
        Ok(uploaded)
    }

    /// Gives the object up.
    pub async fn abort(mut self) -> Result<(), StoreError> {
        self.parts.shutdown().await;
        match self.multipart.as_mut() {
            Some(multipart) => multipart
                .abort()
                .await
                .map_err(|source| self.location.failed("give up", source)),
            None => Ok(()),
        }
    }

    /// An object of one part. Names are never reused, so one that exists can only be this very write, done twice.
    async fn finish_small(self, uploaded: Uploaded) -> Result<Uploaded, StoreError> {
        match self.location.put_create(Bytes::from(self.buffer)).await? {
            Created::Created => Ok(uploaded),
            Created::AlreadyExists => {
                let there = self.location.get(PART_BYTES as u64).await?;
                let digest = digest_text(xxhash_rust::xxh3::xxh3_128(&there));
                if digest == uploaded.digest {
                    return Ok(uploaded);
                }
                Err(StoreError::InvalidName {
                    name: self.location.uri(),
                    reason: "another object has it already",
                })
            }
        }
    }

    async fn send_part(&mut self) -> Result<(), StoreError> {
        self.wait_for_parts(PARTS_IN_FLIGHT - 1).await?;
        let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(PART_BYTES));
        if self.multipart.is_none() {
            let begun = self.location.store.put_multipart(&self.location.path).await;
            self.multipart = Some(begun.map_err(|source| self.location.not_written("write", source))?);
        }
        let multipart = self.multipart.as_mut().expect("set just above");
        self.parts.spawn(multipart.put_part(PutPayload::from(full)));
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
