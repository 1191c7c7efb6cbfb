//! An API server of Kubernetes: fabric8's mock server (Maven Central `kubernetes-server-mock`), or, with
//! `STREAMD_TEST_KUBERNETES=1`, the real one before an etcd of its own.
//!
//! Both refuse a change that does not come from the latest version of an object, and a second creation. Only the real one asks for a
//! token, speaks TLS, and knows rights: it takes minutes to build.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::checkout::workspace;
use crate::server::{Server, python, required};

/// What both say, with the address behind it.
const READY: &str = "Kubernetes is ready at ";

/// The namespace in which the role is that the documentation gives to job managers.
pub const NAMESPACE: &str = "streaming";

/// A running API server.
pub struct Kubernetes {
    server: Server,
    is_real: bool,
}

impl Kubernetes {
    /// The one of this process, started when it is first asked for. Whoever uses it needs objects with names of his own.
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<Kubernetes> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    /// Starts one.
    pub fn start() -> Self {
        let is_real = std::env::var_os("STREAMD_TEST_KUBERNETES").is_some_and(|wanted| wanted == "1");
        let server = if is_real { real() } else { mock() };
        Self { server, is_real }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The URL under which it is reached at its own address, or through a line that begins at another one of this machine.
    pub fn url(&self, address: SocketAddr) -> String {
        let scheme = if self.is_real { "https" } else { "http" };
        format!("{scheme}://{address}")
    }

    /// The file with the token of a job manager, where the server asks for one.
    pub fn token_file(&self) -> Option<PathBuf> {
        self.is_real.then(|| self.server.directory().join("token"))
    }

    /// The file with the certificate of the server, where it has one.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.is_real
            .then(|| self.server.directory().join("certificates/apiserver.crt"))
    }
}

fn mock() -> Server {
    let jars = required("servers/kubernetes/jars");
    let launcher = workspace().join("tests/servers/kubernetes/MiniKubernetes.java");
    Server::start_announcing("the mock of Kubernetes", READY, |directory| {
        let mut command = Command::new("java");
        command
            .args(["-Xmx256m", "-cp", &format!("{}/*", jars.display())])
            .arg(launcher)
            .current_dir(directory);
        command
    })
}

fn real() -> Server {
    let programs = [required("servers/bin/etcd"), required("servers/bin/kube-apiserver")];
    let launcher = workspace().join("tests/servers/kubernetes/kubernetes.py");
    let manifest = workspace().join("docs/how-to/high-availability.md");
    Server::start_announcing("Kubernetes", READY, |directory| {
        let mut command = Command::new(python());
        command.arg(launcher).args(programs).arg(manifest).arg(directory);
        command
    })
}
