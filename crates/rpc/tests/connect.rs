//! Connecting to things that are, and are not, a job manager.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends")]

use std::time::Duration;

use streamd_core::error::{CodedError, ErrorCode};
use streamd_rpc::client::{ApplicationFile, connect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

/// Accepts connections for ever, and answers each with `banner`, at once or after the first bytes of the client.
async fn impostor(banner: &'static [u8], speaks_first: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut greeting = [0; 24];
            if !speaks_first {
                socket.read_exact(&mut greeting).await.unwrap();
            }
            socket.write_all(banner).await.unwrap();
            open.push(socket);
        }
    });
    address
}

async fn refusal(address: &str) -> CodedError {
    let error = connect(address).await.expect_err("nobody speaks gRPC there");
    assert!(!error.message.contains('\n'), "{error}");
    error
}

#[tokio::test]
async fn nobody_at_the_address_is_told_with_the_way_out() {
    // Taken, so that nobody else takes it, and not listened on.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let error = refusal(&address).await;
    assert_eq!(error.code, ErrorCode::JobManagerUnreachable);
    assert_eq!(
        error.message,
        format!("the job manager at `{address}` cannot be reached: Connection refused (os error 111)")
    );
    assert!(error.hint.unwrap().contains("bin/start-cluster.sh"));
}

#[tokio::test]
async fn a_host_that_does_not_exist_is_unreachable() {
    let error = refusal("no-such-host.invalid:6123").await;
    assert_eq!(error.code, ErrorCode::JobManagerUnreachable);
    // A resolver far away may take longer than anybody waits.
    let reasons = ["lookup", "it does not answer"];
    assert!(reasons.iter().any(|reason| error.message.contains(reason)), "{error}");
}

#[tokio::test]
async fn an_http_1_server_is_no_job_manager() {
    let answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let error = refusal(&impostor(answer, false).await).await;
    assert_eq!(error.code, ErrorCode::ProtocolMismatch, "{error}");
}

#[tokio::test]
async fn a_shell_server_is_no_job_manager() {
    let error = refusal(&impostor(b"SSH-2.0-OpenSSH_9.9\r\n", true).await).await;
    assert_eq!(error.code, ErrorCode::ProtocolMismatch, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_says_nothing_is_unreachable_in_time() {
    let address = impostor(b"", true).await;
    let error = tokio::time::timeout(Duration::from_secs(20), refusal(&address)).await;
    let error = error.expect("it is given up");
    assert_eq!(error.code, ErrorCode::JobManagerUnreachable, "{error}");
}

#[tokio::test]
async fn an_application_file_is_known_by_its_digest_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app");
    let error = ApplicationFile::open(&path).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ApplicationNotFound);
    std::fs::write(&path, b"").unwrap();
    let error = ApplicationFile::open(&path).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ApplicationNotExecutable);
    std::fs::write(&path, b"abc").unwrap();
    let file = ApplicationFile::open(&path).await.unwrap();
    assert_eq!(file.size, 3);
    assert_eq!(
        file.sha256,
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    let error = ApplicationFile::open(folder.path()).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::ApplicationNotExecutable);
}
