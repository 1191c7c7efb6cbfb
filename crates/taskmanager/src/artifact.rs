//! The applications that this task manager holds: files named by the SHA-256 of their bytes.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use streamd_core::error::{CodedError, ErrorCode};
use streamd_rpc::client::DispatcherClient;
use streamd_rpc::limits::{APPLICATION_BYTES, CHUNK_BYTES, DEFAULT_DEADLINE};
use streamd_rpc::proto::FetchArtifactRequest;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::directory::not_writable;

/// Applications that are kept over a restart of the task manager: those fetched last.
const KEPT_APPLICATIONS: usize = 32;

/// Bytes of an application that are written at once. The kernel keeps a file in memory in the pieces in which it was written, and maps whole
/// ones: with pieces of 256 KiB an idle worker had 17 MB resident instead of 13 (an application of 34 MB, measured).
const WRITTEN_AT_ONCE: usize = 8 << 10;

/// Whether a fetch is done, and how it ended.
type Outcome = Option<Result<(), CodedError>>;

/// The cache. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct ArtifactCache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    /// The fetches under way, by digest: whoever comes second waits for the first.
    fetches: Mutex<BTreeMap<String, watch::Receiver<Outcome>>>,
    /// The files whose bytes were verified by this process, by digest.
    verified: Mutex<BTreeMap<String, Stamp>>,
}

/// What the file system says of a file that was not touched: the time of the last change cannot be set back. Hashing an
/// application takes longer than describing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

impl ArtifactCache {
    /// The cache in a directory that nobody else uses. Removes unfinished downloads and the oldest applications.
    pub(crate) fn open(directory: PathBuf) -> io::Result<Self> {
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            match is_digest(&entry.file_name().to_string_lossy()) {
                true => kept.push((entry.metadata()?.modified()?, entry.path())),
                false => std::fs::remove_file(entry.path())?,
            }
        }
        kept.sort();
        for (_, path) in kept.iter().rev().skip(KEPT_APPLICATIONS) {
            std::fs::remove_file(path)?;
        }
        let fetches = Mutex::new(BTreeMap::new());
        Ok(Self {
            inner: Arc::new(Inner {
                directory,
                fetches,
                verified: Mutex::default(),
            }),
        })
    }

    /// The file of an application, fetched if it is not here. Its digest was verified, and it has not been touched since.
    pub(crate) async fn executable(&self, sha256: &str, source: &DispatcherClient) -> Result<PathBuf, CodedError> {
        if !is_digest(sha256) {
            return Err(CodedError::new(
                ErrorCode::InvalidArgument,
                format!("`{}` is no SHA-256", streamd_rpc::status::one_line(sha256, 80)),
            ));
        }
        let path = self.inner.directory.join(sha256);
        if self.is_intact(&path, sha256).await? {
            return Ok(path);
        }
        self.fetch_once(sha256, source).await?;
        Ok(path)
    }

    /// Whether the file is here with the right bytes. A damaged one is removed, so that it is fetched anew.
    async fn is_intact(&self, path: &Path, sha256: &str) -> Result<bool, CodedError> {
        let (path, sha256, cache) = (path.to_owned(), sha256.to_owned(), self.clone());
        let verified = tokio::task::spawn_blocking(move || {
            // Taken before the bytes are read: a change meanwhile shows next time.
            let stamp = Stamp::of(&path).ok();
            if stamp.is_some() && stamp == cache.verified().get(&sha256).copied() {
                return Ok(true);
            }
            let found = match digest_of(&path) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(not_writable("application file", &path, &error)),
            };
            if found == sha256 {
                if let Some(stamp) = stamp {
                    cache.verified().insert(sha256, stamp);
                }
                return Ok(true);
            }
            warn!(sha256, found, "application file is damaged; fetching it again");
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(not_writable("application file", &path, &error))
                }
                Ok(()) | Err(_) => Ok(false),
            }
        });
        verified
            .await
            .map_err(|error| CodedError::caused(ErrorCode::Internal, "verifying an application ended early", &error))?
    }

    fn verified(&self) -> MutexGuard<'_, BTreeMap<String, Stamp>> {
        self.inner.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fetch_once(&self, sha256: &str, source: &DispatcherClient) -> Result<(), CodedError> {
        let mut outcome = self.join_or_start(sha256, source);
        let ended = outcome.wait_for(Option::is_some).await.map(|outcome| outcome.clone());
        match ended {
            Ok(Some(result)) => result,
            // The fetch went without an outcome: its runtime ends.
            Ok(None) | Err(_) => Err(CodedError::new(
                ErrorCode::ClusterShuttingDown,
                format!("fetching application `{sha256}` was given up"),
            )),
        }
    }

    fn join_or_start(&self, sha256: &str, source: &DispatcherClient) -> watch::Receiver<Outcome> {
        let mut fetches = self.inner.fetches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = fetches.get(sha256) {
            return running.clone();
        }
        let (done, outcome) = watch::channel(None);
        fetches.insert(sha256.to_owned(), outcome.clone());
        let (cache, sha256, source) = (self.clone(), sha256.to_owned(), source.clone());
        // A task of its own: the first who asked may lose interest while others still wait.
        tokio::spawn(async move {
            let result = cache.fetch(&sha256, &source).await;
            let mut fetches = cache.inner.fetches.lock().unwrap_or_else(PoisonError::into_inner);
            fetches.remove(&sha256);
            done.send_replace(Some(result));
        });
        outcome
    }

    async fn fetch(&self, sha256: &str, source: &DispatcherClient) -> Result<(), CodedError> {
        let partial = Partial(
            self.inner
                .directory
                .join(format!("{sha256}.{}.partial", uuid::Uuid::new_v4().simple())),
        );
        // Somebody may have cleaned the temporary files of the machine.
        let made = tokio::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.inner.directory)
            .await;
        made.map_err(|error| not_writable("directory of applications", &self.inner.directory, &error))?;
        let (found, size) = download(&partial.0, sha256, source).await?;
        if found != sha256 {
            return Err(CodedError::new(
                ErrorCode::Internal,
                format!("application `{sha256}` arrived from the job manager with the digest `{found}`"),
            )
            .with_hint("submit the application again; if it happens again, the job manager's storage is damaged"));
        }
        let path = self.inner.directory.join(sha256);
        tokio::fs::rename(&partial.0, &path)
            .await
            .map_err(|error| not_writable("application file", &path, &error))?;
        info!(sha256, bytes = size, "fetched application");
        Ok(())
    }
}

/// A file that is removed unless it was renamed away.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Renamed, or swept at the next start.
        let _gone = std::fs::remove_file(&self.0);
    }
}

/// Writes the bytes that the job manager sends to a new file that only its owner may read and execute. Returns their
/// digest and number.
async fn download(path: &Path, sha256: &str, source: &DispatcherClient) -> Result<(String, u64), CodedError> {
    let denied = |error: io::Error| not_writable("application file", path, &error);
    let mut file = tokio::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .await
        .map_err(denied)?;
    file.set_max_buf_size(WRITTEN_AT_ONCE);
    let request = FetchArtifactRequest {
        sha256: sha256.to_owned(),
    };
    let mut answers = source.fetch_artifact(request).await?;
    let mut hasher = Sha256::new();
    let mut size = 0;
    while let Some(answer) = within_deadline(answers.next(), sha256).await? {
        size += answer.chunk.len() as u64;
        if size > APPLICATION_BYTES {
            return Err(CodedError::new(
                ErrorCode::ApplicationTooLarge,
                format!("application `{sha256}` is longer than {APPLICATION_BYTES} bytes"),
            ));
        }
        hasher.update(&answer.chunk);
        file.write_all(&answer.chunk).await.map_err(denied)?;
    }
    file.flush().await.map_err(denied)?;
    file.set_permissions(PermissionsExt::from_mode(0o500))
        .await
        .map_err(denied)?;
    file.sync_all().await.map_err(denied)?;
    Ok((hex(&hasher.finalize()), size))
}

async fn within_deadline<T>(next: impl Future<Output = Result<T, CodedError>>, sha256: &str) -> Result<T, CodedError> {
    tokio::time::timeout(DEFAULT_DEADLINE, next).await.unwrap_or_else(|_| {
        Err(CodedError::new(
            ErrorCode::DeadlineExceeded,
            format!("the job manager stopped sending application `{sha256}`"),
        ))
    })
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn digest_of(path: &Path) -> io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            count => hasher.update(&buffer[..count]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
