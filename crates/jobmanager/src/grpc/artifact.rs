//! Applications on their way in and out.

use bytes::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt};
use streamd_core::error::{CodedError, ErrorCode};
use streamd_rpc::proto;
use streamd_rpc::proto::upload_artifact_request::Part;
use streamd_snapshot::{ArtifactStore, StoreError};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};
use tracing::info;

use crate::dispatcher::{CHANGED, artifact_error};

/// The bytes of a stored application.
pub(super) type Artifact = BoxStream<'static, Result<Bytes, StoreError>>;

pub(super) async fn has(store: &ArtifactStore, sha256: &str) -> Result<proto::HasArtifactResponse, CodedError> {
    let present = store.has(sha256).await.map_err(|error| artifact_error(&error))?;
    Ok(proto::HasArtifactResponse { present })
}

/// Receives an application of at most `limit` bytes. Errors leave nothing behind.
pub(super) async fn receive(
    store: &ArtifactStore,
    limit: u64,
    mut parts: Streaming<proto::UploadArtifactRequest>,
) -> Result<proto::UploadArtifactResponse, CodedError> {
    let first = parts
        .message()
        .await
        .map_err(interrupted)?
        .and_then(|request| request.part);
    let Some(Part::Header(header)) = first else {
        return Err(CodedError::new(
            ErrorCode::InvalidArgument,
            "an upload must begin with its header",
        ));
    };
    if header.size > limit {
        let message = format!(
            "application `{}` has {} bytes, more than {limit}",
            header.file_name, header.size
        );
        return Err(CodedError::new(ErrorCode::ApplicationTooLarge, message)
            .with_hint("build it with `--release`, or strip it"));
    }
    let created = store.put(&header.sha256, Box::pin(pieces(parts, header.size))).await;
    created.map_err(|error| artifact_error(&error))?;
    info!(
        sha256 = header.sha256,
        file = header.file_name,
        bytes = header.size,
        "application uploaded"
    );
    Ok(proto::UploadArtifactResponse {})
}

/// The bytes of an upload that announced `size` of them. Ends with an error after one byte more.
fn pieces(
    parts: Streaming<proto::UploadArtifactRequest>,
    size: u64,
) -> impl Stream<Item = Result<Bytes, CodedError>> + Send {
    let misuse = |message: &str| CodedError::new(ErrorCode::InvalidArgument, message);
    stream::try_unfold((parts, size), move |(mut parts, left)| async move {
        let Some(request) = parts.message().await.map_err(interrupted)? else {
            return Ok(None);
        };
        match request.part {
            Some(Part::Chunk(chunk)) => match left.checked_sub(chunk.len() as u64) {
                Some(left) => Ok(Some((chunk, (parts, left)))),
                None => Err(misuse("more bytes came than the header announced").with_hint(CHANGED)),
            },
            Some(Part::Header(_)) | None => Err(misuse("only bytes may follow the header of an upload")),
        }
    })
}

pub(super) async fn open(store: &ArtifactStore, sha256: &str) -> Result<Artifact, CodedError> {
    let (_length, pieces) = store.get(sha256).await.map_err(|error| artifact_error(&error))?;
    Ok(pieces)
}

/// Sends the bytes of an application, until they end or the client has gone.
pub(super) async fn send(mut pieces: Artifact, client: mpsc::Sender<Result<proto::FetchArtifactResponse, CodedError>>) {
    while let Some(piece) = pieces.next().await {
        let failed = piece.is_err();
        // A piece of the store may be larger than a message.
        for chunk in split(piece) {
            if client.send(chunk).await.is_err() {
                return;
            }
        }
        if failed {
            return;
        }
    }
}

fn split(piece: Result<Bytes, StoreError>) -> Vec<Result<proto::FetchArtifactResponse, CodedError>> {
    match piece {
        Ok(mut rest) => {
            let mut chunks = Vec::new();
            while !rest.is_empty() {
                let chunk = rest.split_to(rest.len().min(streamd_rpc::limits::CHUNK_BYTES));
                chunks.push(Ok(proto::FetchArtifactResponse { chunk }));
            }
            chunks
        }
        Err(error) => vec![Err(error.to_coded())],
    }
}

fn interrupted(status: Status) -> CodedError {
    CodedError::new(
        ErrorCode::InvalidArgument,
        format!("the upload was interrupted: {}", status.message()),
    )
}
