use futures::stream;

use super::*;
use crate::publish::random_nonce;

fn store() -> ArtifactStore {
    ArtifactStore::new(Location::open(&format!("memory:///artifacts/{}", random_nonce())).unwrap())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn pieces(bytes: &[u8]) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Unpin + use<> {
    stream::iter(
        bytes
            .chunks(1000)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect::<Vec<_>>(),
    )
}

#[tokio::test]
async fn an_application_comes_back_as_it_went_and_is_stored_once() {
    let (store, bytes) = (store(), vec![7; 20 << 20]);
    let name = sha256(&bytes);
    assert!(!store.has(&name).await.unwrap());
    assert_eq!(store.put(&name, pieces(&bytes)).await.unwrap(), Created::Created);
    assert_eq!(
        store.put(&name, pieces(b"is not even read")).await.unwrap(),
        Created::AlreadyExists
    );
    let (length, read) = store.get(&name).await.unwrap();
    let read: Vec<Bytes> = read.map(Result::unwrap).collect().await;
    assert_eq!(length, bytes.len() as u64);
    assert_eq!(read.concat(), bytes);
}

#[tokio::test]
async fn bytes_that_are_not_what_their_name_promises_never_become_visible() {
    let (store, name) = (store(), sha256(b"the right ones"));
    let error = store.put(&name, pieces(&vec![0; 10 << 20])).await.unwrap_err();
    assert!(matches!(error, ArtifactError::DigestMismatch { .. }));
    let cut = stream::iter([
        Ok(Bytes::from_static(b"the right")),
        Err(std::io::Error::other("the line broke")),
    ]);
    assert!(matches!(
        store.put(&name, cut).await,
        Err(ArtifactError::Interrupted { .. })
    ));
    assert!(!store.has(&name).await.unwrap());
    assert!(matches!(
        store.get(&name).await.err(),
        Some(ArtifactError::NotFound { .. })
    ));
}

#[tokio::test]
async fn an_application_beyond_the_limit_is_refused_while_it_arrives() {
    let piece = Bytes::from(vec![0; 32 << 20]);
    let endless = stream::iter((0..9).map(move |_| Ok::<_, std::io::Error>(piece.clone())));
    let error = store().put(&sha256(b"x"), endless).await.unwrap_err();
    assert!(matches!(error, ArtifactError::TooLarge { .. }));
}

#[tokio::test]
async fn a_name_that_is_no_digest_reaches_no_file() {
    for name in ["", "../../etc/passwd", &"A".repeat(64), &"a".repeat(63)] {
        assert!(
            matches!(store().has(name).await, Err(ArtifactError::InvalidDigest { .. })),
            "{name}"
        );
    }
}
