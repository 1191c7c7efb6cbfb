//! moto, an S3 server in Python (PyPI `moto[server]`): light, with conditional writes and multipart uploads.

use std::process::Command;

use crate::http;
use crate::server::{Server, python};

/// The name of the bucket that it begins with.
pub const BUCKET: &str = "snapshots";

/// A signature by nobody in particular: it wants one, and does not look at it.
pub const ANYBODY: &str = "Authorization: AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// Starts it, with an empty bucket.
pub fn start() -> Server {
    let server = Server::start("the S3 server moto", |address, directory| {
        let mut command = Command::new(python());
        command
            .args(["-m", "moto.server", "-H", &address.ip().to_string()])
            .args(["-p", &address.port().to_string()])
            .current_dir(directory);
        command
    });
    let made = http::request(server.address(), "PUT", &format!("/{BUCKET}"), &[], b"").expect("moto answers");
    assert_eq!(made.status, 200, "the bucket could not be made: {}", server.log());
    server
}
