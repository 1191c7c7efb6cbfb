//! A server process: started with a free port, ready when its port answers, ended with the value.

use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::address::own_port;

/// Looks at a server that starts, and the pause between two: together far longer than any of them takes, on any machine.
const LOOKS: u32 = 6000;
const PAUSE: Duration = Duration::from_millis(50);

/// Runs its arguments until they end or its input does.
const GUARD: &str = r#"
exec 3<&0
"$@" 3<&- </dev/null &
server=$!
{ cat <&3 >/dev/null; kill -9 $server; } 2>/dev/null &
watcher=$!
wait $server
status=$?
kill $watcher 2>/dev/null
exit $status
"#;

/// A running server.
pub struct Server {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Server {
    /// Starts a command that is given a free port and a directory of its own, and waits until the port answers.
    pub fn start(what: &str, command: impl FnOnce(SocketAddr, &Path) -> Command) -> Self {
        let address = own_port();
        let answers = |_log: &str| TcpStream::connect(address).is_ok().then_some(address);
        Self::spawn(what, address, |directory| command(address, directory), answers)
    }

    /// Starts a command that picks a port of its own, and waits until it says `words`, with the address behind them.
    pub fn start_announcing(what: &str, words: &str, command: impl FnOnce(&Path) -> Command) -> Self {
        let announced = |log: &str| {
            let mut lines = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
            lines.find_map(|line| line.strip_prefix(words)?.trim().parse().ok())
        };
        Self::spawn(what, SocketAddr::from(([0; 4], 0)), command, announced)
    }

    fn spawn(
        what: &str,
        address: SocketAddr,
        command: impl FnOnce(&Path) -> Command,
        is_ready: impl Fn(&str) -> Option<SocketAddr>,
    ) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("streamd-server-")
            .tempdir()
            .expect("a temporary directory");
        let log = directory.path().join("log");
        let output = std::fs::File::create(&log).expect("a new file");
        let child = guarded(&command(directory.path()))
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a descriptor"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{what} does not start: {error}"));
        let mut server = Self {
            child,
            address,
            directory,
        };
        for _look in 0..LOOKS {
            if let Some(address) = is_ready(&server.log()) {
                server.address = address;
                return server;
            }
            let ended = server.child.try_wait().expect("a child can be waited for");
            if let Some(status) = ended {
                panic!("{what} ended at once ({status}): {}", server.log());
            }
            std::thread::sleep(PAUSE);
        }
        panic!("{what} does not get ready: {}", server.log());
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://` and its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its own directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it has printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

/// The command under a guard that ends it when the pipe to the guard closes: also when this process is killed, or ends with a server
/// in a static.
fn guarded(command: &Command) -> Command {
    let mut guard = Command::new("sh");
    guard
        .args(["-c", GUARD, "guard"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        guard.env(name, value.unwrap_or_default());
    }
    if let Some(directory) = command.get_current_dir() {
        guard.current_dir(directory);
    }
    guard
}

impl Drop for Server {
    fn drop(&mut self) {
        // Closes the pipe. The server may have ended by itself.
        drop(self.child.stdin.take());
        drop(self.child.wait());
    }
}

/// Where `bin/lib/prerequisites.sh` puts what it installs.
pub fn installed(name: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .expect("there is a home directory");
    cache.join("streamd").join(name)
}

/// The Python interpreter with the modules that tests use.
pub fn python() -> PathBuf {
    match std::env::var_os("STREAMD_PYTHON") {
        Some(python) => python.into(),
        None => required("python/bin/python"),
    }
}

/// A file that must be installed.
pub fn required(name: &str) -> PathBuf {
    let path = installed(name);
    assert!(
        path.exists(),
        "`{}` is missing: run bin/test, which installs it",
        path.display()
    );
    path
}
