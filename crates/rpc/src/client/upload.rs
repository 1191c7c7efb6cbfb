//! Uploading an application: named by the SHA-256 of its bytes, sent only if the job manager does not hold it.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, Stream, StreamExt};
use sha2::{Digest, Sha256};
use streamd_core::error::{CodedError, ErrorCode, chain};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;

use super::dispatcher::DispatcherClient;
use crate::limits::{APPLICATION_BYTES, CHUNK_BYTES};
use crate::proto;
use crate::proto::upload_artifact_request::Part;

/// How long an upload may take.
pub const UPLOAD_DEADLINE: Duration = Duration::from_secs(600);

/// An application file with what identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its last path segment, for people.
    pub file_name: String,
    /// The SHA-256 of its bytes, 64 hexadecimal digits.
    pub sha256: String,
    /// Its length in bytes.
    pub size: u64,
}

impl ApplicationFile {
    /// Reads a file once, to know its digest. Errors name what is wrong with the path.
    pub async fn open(path: &Path) -> Result<Self, CodedError> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || Self::read(path))
            .await
            .map_err(|error| CodedError::caused(ErrorCode::Internal, "reading the application ended early", &error))?
    }

    fn read(path: PathBuf) -> Result<Self, CodedError> {
        let shown = path.display();
        let unreadable = |error: std::io::Error| unreadable(&path, &error);
        let metadata = std::fs::metadata(&path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(CodedError::new(
                ErrorCode::ApplicationNotExecutable,
                format!("application `{shown}` is no regular file"),
            )
            .with_hint("give the path of the binary, like target/release/my-application"));
        }
        if metadata.len() == 0 {
            return Err(CodedError::new(
                ErrorCode::ApplicationNotExecutable,
                format!("application file `{shown}` is empty"),
            )
            .with_hint("build it again"));
        }
        let (sha256, size) = digest(&path).map_err(unreadable)?;
        if size > APPLICATION_BYTES {
            return Err(CodedError::new(
                ErrorCode::ApplicationTooLarge,
                format!("application file `{shown}` has {size} bytes where {APPLICATION_BYTES} are allowed"),
            )
            .with_hint("build it with `--release`, or strip its symbols"));
        }
        let file_name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            path,
            file_name,
            sha256,
            size,
        })
    }
}

/// Why an application file cannot be opened, for whoever named it.
pub fn unreadable(path: &Path, error: &std::io::Error) -> CodedError {
    let shown = path.display();
    match error.kind() {
        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => CodedError::new(
            ErrorCode::ApplicationNotFound,
            format!("application file `{shown}` does not exist"),
        )
        .with_hint("build it with `cargo build --release`, and give the path of the binary"),
        _other => CodedError::new(
            ErrorCode::ApplicationNotExecutable,
            format!("application file `{shown}` cannot be read: {}", chain(error)),
        )
        .with_hint("give yourself the right to read it and to enter the directories above it"),
    }
}

fn digest(path: &Path) -> std::io::Result<(String, u64)> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut size = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
    let digits = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((digits, size))
}

impl DispatcherClient {
    /// Makes sure that the job manager holds the application: sends the bytes if it does not. Safe to repeat.
    pub async fn upload(&self, application: &ApplicationFile) -> Result<(), CodedError> {
        let sha256 = application.sha256.clone();
        let held = self.has_artifact(proto::HasArtifactRequest { sha256 }).await?;
        if held.present {
            return Ok(());
        }
        let file = tokio::fs::File::open(&application.path)
            .await
            .map_err(|error| unreadable(&application.path, &error))?;
        let (failed, mut failure) = oneshot::channel();
        let mut request = tonic::Request::new(parts(application, file, failed));
        request.set_timeout(UPLOAD_DEADLINE);
        let answer = self.answer(self.generated().upload_artifact(request).await);
        // A file that cannot be read to its end is the cause of whatever the server says of the bytes it got.
        if let Ok(error) = failure.try_recv() {
            return Err(unreadable(&application.path, &error));
        }
        answer.map(|proto::UploadArtifactResponse {}| ())
    }
}

/// The header, then the file in chunks. A read error ends the stream early and is told through `failed`.
fn parts(
    application: &ApplicationFile,
    file: tokio::fs::File,
    failed: oneshot::Sender<std::io::Error>,
) -> impl Stream<Item = proto::UploadArtifactRequest> + Send + 'static {
    let header = Part::Header(proto::UploadArtifactHeader {
        sha256: application.sha256.clone(),
        size: application.size,
        file_name: application.file_name.clone(),
    });
    let chunks = stream::unfold(Some((file, failed)), |state| async move {
        let (mut file, failed) = state?;
        match read_chunk(&mut file).await {
            Ok(chunk) if chunk.is_empty() => None,
            Ok(chunk) => Some((Part::Chunk(chunk), Some((file, failed)))),
            Err(error) => {
                // The caller waits for the answer of the call, which now comes; if it has gone, nobody needs the cause.
                drop(failed.send(error));
                None
            }
        }
    });
    stream::once(async { header })
        .chain(chunks)
        .map(|part| proto::UploadArtifactRequest { part: Some(part) })
}

async fn read_chunk(file: &mut tokio::fs::File) -> std::io::Result<Bytes> {
    let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
    while chunk.len() < CHUNK_BYTES {
        if file.read_buf(&mut chunk).await? == 0 {
            break;
        }
    }
    Ok(chunk.freeze())
}
