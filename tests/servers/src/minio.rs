//! MinIO, an S3 server in Go (Go module `github.com/minio/minio`). It takes minutes to build: tested where it is installed.

use std::process::Command;

use crate::address::own_port;
use crate::server::{Server, installed};

/// The name of the bucket that it begins with.
pub const BUCKET: &str = "snapshots";

/// Its access key and the secret of that.
pub const KEY: (&str, &str) = ("streamd-test", "a-secret-of-tests");

/// Starts it, with an empty bucket. `None` where it is not installed.
pub fn start() -> Option<Server> {
    let program = installed("servers/bin/minio");
    program.is_file().then(|| {
        Server::start("the S3 server MinIO", |address, directory| {
            let data = directory.join("data");
            std::fs::create_dir_all(data.join(BUCKET)).expect("a new directory");
            let mut command = Command::new(program);
            command
                .args(["server", "--quiet", "--address", &address.to_string()])
                .args(["--console-address", &own_port().to_string()])
                .arg(data)
                .envs([("MINIO_ROOT_USER", KEY.0), ("MINIO_ROOT_PASSWORD", KEY.1)]);
            command
        })
    })
}
