//! A Hadoop file system of one name node and one data node in one process (Maven Central `hadoop-client-minicluster`).

use std::process::Command;

use crate::checkout::workspace;
use crate::server::{Server, required};

/// Starts it. Java compiles the launcher as it starts.
pub fn start() -> Server {
    let jars = required("servers/hdfs/jars");
    let launcher = workspace().join("tests/servers/hdfs/MiniHdfs.java");
    // The name node answers before it takes writes, and says when it does.
    Server::start_announcing("the Hadoop file system", "HDFS is ready at ", |directory| {
        let mut command = Command::new("java");
        command
            .args(["-Xmx512m", "-cp", &format!("{}/*", jars.display())])
            .arg(launcher)
            .arg(directory.join("data"))
            .current_dir(directory);
        command
    })
}
