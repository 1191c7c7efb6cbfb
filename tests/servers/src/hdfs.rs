//! A Hadoop file system of one name node and one data node in one process (Maven Central `hadoop-client-minicluster`).

use std::process::Command;

use crate::server::{Server, required};

/// Starts it. Java compiles the launcher as it starts.
pub fn start() -> Server {
    let jars = required("servers/hdfs/jars");
    let launcher = concat!(env!("CARGO_MANIFEST_DIR"), "/hdfs/MiniHdfs.java");
    let server = Server::start("the Hadoop file system", |port, directory| {
        let mut command = Command::new("java");
        command
            .args(["-Xmx512m", "-cp", &format!("{}/*", jars.display()), launcher])
            .args([&port.to_string(), &directory.join("data").display().to_string()])
            .current_dir(directory);
        command
    });
    // The name node answers before it takes writes.
    server.wait_for_log("HDFS is ready");
    server
}
