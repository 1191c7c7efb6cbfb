//! Applications on their way in and out.

use bytes::Bytes;
use streamd_core::error::{CodedError, ErrorCode};
use streamd_rpc::proto::upload_artifact_request::Part;
use streamd_rpc::{limits, proto};
use tonic::transport::Channel;

use crate::fixture::{Cluster, sha256, upload};

async fn send(cluster: &Cluster, parts: Vec<Part>) -> Result<(), CodedError> {
    let address = format!("http://{}", cluster.job_manager.address());
    let channel = Channel::from_shared(address).unwrap().connect().await.unwrap();
    let parts = parts
        .into_iter()
        .map(|part| proto::UploadArtifactRequest { part: Some(part) });
    let parts = tokio_stream::iter(parts.collect::<Vec<_>>());
    let answer = limits::dispatcher_client(channel).upload_artifact(parts).await;
    answer
        .map(drop)
        .map_err(|status| streamd_rpc::status::from_status(&status, "the job manager"))
}

fn header(bytes: &[u8], size: u64) -> Part {
    Part::Header(proto::UploadArtifactHeader {
        sha256: sha256(bytes),
        size,
        file_name: "app".to_owned(),
    })
}

fn chunk(bytes: &'static [u8]) -> Part {
    Part::Chunk(Bytes::from_static(bytes))
}

async fn is_present(cluster: &Cluster, bytes: &[u8]) -> bool {
    let request = proto::HasArtifactRequest { sha256: sha256(bytes) };
    cluster.client.has_artifact(request).await.unwrap().present
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_comes_back_as_it_was_uploaded() {
    let cluster = Cluster::start().await;
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    assert!(!is_present(&cluster, &bytes).await);
    let application = upload(&cluster.client, &cluster.directory, &bytes).await.unwrap();
    assert!(is_present(&cluster, &bytes).await);
    let request = proto::FetchArtifactRequest {
        sha256: application.sha256,
    };
    let mut pieces = cluster.client.fetch_artifact(request).await.unwrap();
    let mut fetched = Vec::new();
    while let Some(piece) = pieces.next().await.unwrap() {
        fetched.extend_from_slice(&piece.chunk);
    }
    assert!(fetched == bytes, "{} bytes of {}", fetched.len(), bytes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_not_what_it_says_leaves_nothing_behind() {
    let cluster = Cluster::start_with(|options| options.artifact_limit_bytes = 100).await;
    let wrong_bytes = send(&cluster, vec![header(b"right", 5), chunk(b"wrong")]).await;
    assert_eq!(wrong_bytes.unwrap_err().code, ErrorCode::InvalidArgument);
    let too_many = send(&cluster, vec![header(b"right", 3), chunk(b"right")]).await;
    let too_many = too_many.unwrap_err();
    assert_eq!(too_many.code, ErrorCode::InvalidArgument);
    // Its code is told beside the message.
    assert!(too_many.message.ends_with("than the header announced"), "{too_many}");
    assert!(
        too_many
            .hint
            .is_some_and(|hint| hint.contains("changed while it was uploaded"))
    );
    let too_large = send(&cluster, vec![header(b"right", 101), chunk(b"right")]).await;
    assert_eq!(too_large.unwrap_err().code, ErrorCode::ApplicationTooLarge);
    let headless = send(&cluster, vec![chunk(b"right")]).await;
    assert_eq!(headless.unwrap_err().code, ErrorCode::InvalidArgument);
    assert!(!is_present(&cluster, b"right").await);
    send(&cluster, vec![header(b"right", 5), chunk(b"ri"), chunk(b"ght")])
        .await
        .unwrap();
    assert!(is_present(&cluster, b"right").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_no_digest_is_refused() {
    let cluster = Cluster::start().await;
    for bad in ["", "../../etc/passwd", &"F".repeat(64)] {
        let request = proto::HasArtifactRequest { sha256: bad.to_owned() };
        assert_eq!(
            cluster.client.has_artifact(request).await.unwrap_err().code,
            ErrorCode::InvalidArgument,
            "{bad}"
        );
    }
    let request = proto::FetchArtifactRequest { sha256: "0".repeat(64) };
    let error = cluster.client.fetch_artifact(request).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ApplicationNotFound);
}
