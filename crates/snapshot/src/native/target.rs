//! Where the bytes of a state object go: into memory, to travel inside of the metadata, or into a file.

use std::sync::Arc;

use streamd_core::backend::{Inlining, MAX_INLINE_BYTES};
use streamd_core::snapshot::{Inline, ObjectHandle};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::xxh3_128;

use crate::error::SnapshotError;
use crate::local_copies::{CheckpointCopies, CopyWriter};
use crate::store::{BlockingUpload, Location, digest_text};

/// A state object under way. It begins in memory, and becomes a file when it is larger than what may be inlined.
pub(super) struct Target {
    location: Location,
    runtime: Handle,
    inlining: Inlining,
    form: Form,
    /// What stays on the local disk, and where.
    copies: Option<CheckpointCopies>,
    copy: Option<CopyWriter>,
}

enum Form {
    /// Nothing was written yet.
    Nothing,
    Held(Vec<u8>),
    File(Box<BlockingUpload>),
}

impl Target {
    pub(super) fn new(location: Location, runtime: Handle) -> Self {
        Self {
            location,
            runtime,
            inlining: Inlining::Off,
            form: Form::Nothing,
            copies: None,
            copy: None,
        }
    }

    /// Before anything is written.
    pub(super) fn keep_copy(&mut self, copies: CheckpointCopies) {
        self.copies = Some(copies);
    }

    /// Before anything is written.
    pub(super) fn set_inlining(&mut self, inlining: Inlining) {
        self.inlining = inlining;
    }

    /// How large a single state may be.
    pub(super) fn max_state(&self) -> Option<u64> {
        match self.inlining {
            Inlining::Off | Inlining::UpTo(_) => None,
            Inlining::All { max_state } => Some(max_state),
        }
    }

    /// How large the object may be.
    pub(super) fn max_object(&self) -> Option<u64> {
        self.max_state().map(|_| MAX_INLINE_BYTES)
    }

    pub(super) fn is_begun(&self) -> bool {
        !matches!(self.form, Form::Nothing)
    }

    /// Bytes taken so far.
    pub(super) fn length(&self) -> u64 {
        match &self.form {
            Form::Nothing => 0,
            Form::Held(held) => held.len() as u64,
            Form::File(upload) => upload.length(),
        }
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let length = self.length() + bytes.len() as u64;
        let is_held = match self.inlining {
            Inlining::Off => false,
            Inlining::UpTo(limit) => length <= limit.min(MAX_INLINE_BYTES),
            Inlining::All { .. } => true,
        };
        if !is_held {
            self.become_file()?;
        }
        if let Some(copies) = self.copies.take() {
            self.copy = Some(copies.begin());
        }
        if let Some(copy) = &mut self.copy {
            copy.append(bytes);
        }
        match &mut self.form {
            Form::Nothing => self.form = Form::Held(bytes.to_vec()),
            Form::Held(held) => held.extend_from_slice(bytes),
            Form::File(upload) => upload.append(bytes)?,
        }
        Ok(())
    }

    /// What was held so far goes into a file, and whatever comes.
    pub(super) fn become_file(&mut self) -> Result<(), SnapshotError> {
        if let Form::File(_) = self.form {
            return Ok(());
        }
        let mut upload = Box::new(BlockingUpload::new(&self.location, self.runtime.clone()));
        if let Form::Held(held) = &self.form {
            upload.append(held)?;
        }
        self.form = Form::File(upload);
        Ok(())
    }

    /// Makes the object durable, unless the metadata will; nothing if nothing was written.
    pub(super) fn finish(self, path: String) -> Result<Option<ObjectHandle>, SnapshotError> {
        let handle = match self.form {
            Form::Nothing => return Ok(None),
            Form::File(upload) => upload.finish()?.into_handle(path),
            Form::Held(held) => ObjectHandle {
                path,
                length: held.len() as u64,
                digest: digest_text(xxh3_128(&held)),
                inline: Some(Inline::Here(Arc::from(held))),
            },
        };
        if let Some(copy) = self.copy {
            copy.finish(&handle);
        }
        Ok(Some(handle))
    }

    pub(super) fn abort(self) -> Result<(), SnapshotError> {
        match self.form {
            Form::Nothing | Form::Held(_) => Ok(()),
            Form::File(upload) => Ok(upload.abort()?),
        }
    }
}
