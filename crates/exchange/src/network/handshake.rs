//! The handshake: who connects to whom, for which attempt of which job, and the proof that it may.
//!
//! ```text
//!   hello   magic 8 │ version u16 │ job 16 │ attempt u32 │ from u64 │ to u64 │ length u16 │ token      (little endian)
//!   answer  magic 8 │ version u16 │ verdict u8                              0: accepted; else a `Refusal`
//! ```

use std::hint::black_box;
use std::io;

use bytes::{Buf, BufMut};
use streamd_core::id::{Attempt, JobId, WorkerId};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The first bytes of either side.
const MAGIC: [u8; 8] = *b"streamdx";
/// The version of handshake and frames. Both ends of a job are the same binary: there is nothing to negotiate.
pub const PROTOCOL_VERSION: u16 = 3;
/// The most bytes of a token.
pub const MAX_TOKEN_BYTES: usize = 512;
/// The size of a hello before its token.
const HELLO_BYTES: usize = 48;
/// The size of an answer.
const ANSWER_BYTES: usize = 11;
/// The verdict that accepts.
const ACCEPTED: u8 = 0;

/// Who connects to whom, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) job: JobId,
    pub(crate) attempt: Attempt,
    /// The worker that connects: the producing side.
    pub(crate) from: WorkerId,
    /// The worker that it wants to reach.
    pub(crate) to: WorkerId,
}

/// Why a worker does not accept a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[repr(u8)]
pub enum Refusal {
    /// The versions differ.
    #[error("the protocol versions differ")]
    Version = 1,
    /// The tokens differ.
    #[error("the token is wrong")]
    Token = 2,
    /// The attempt is over, or a newer one runs.
    #[error("the attempt of the job is over")]
    StaleAttempt = 3,
    /// The attempt did not start here while the connection waited. The only refusal after which to try again.
    #[error("the attempt of the job has not started there yet")]
    NotReady = 4,
    /// The connecting worker has no part in the attempt.
    #[error("the connecting worker has no part in the attempt")]
    UnknownPeer = 5,
    /// There is, or was, a connection from the same worker for the same attempt.
    #[error("the connecting worker had a connection in this attempt already")]
    AlreadyConnected = 6,
}

impl Refusal {
    fn from_number(number: u8) -> Option<Self> {
        [
            Self::Version,
            Self::Token,
            Self::StaleAttempt,
            Self::NotReady,
            Self::UnknownPeer,
            Self::AlreadyConnected,
        ]
        .into_iter()
        .find(|refusal| *refusal as u8 == number)
    }
}

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The connection failed.
    #[error("the connection failed")]
    Io(#[source] io::Error),
    /// The other side took too long.
    #[error("the other side did not say who it is in time")]
    Timeout,
    /// Something else than a streamd worker.
    #[error("the other side does not speak the data-plane protocol")]
    NotAWorker,
    /// The other side speaks another version.
    #[error("the other side speaks protocol version {theirs}, this one {PROTOCOL_VERSION}")]
    Version {
        /// Its version.
        theirs: u16,
    },
    /// The verdict is none of this version.
    #[error("the other side gave the unknown verdict `{verdict}`")]
    UnknownVerdict {
        /// The number found.
        verdict: u8,
    },
    /// The other side refuses, or is refused.
    #[error("the connection is refused: {0}")]
    Refused(Refusal),
}

impl HandshakeError {
    /// Whether another try can come out differently.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Io(_) | Self::Timeout | Self::NotAWorker | Self::Refused(Refusal::NotReady) => false,
            Self::Version { .. } | Self::UnknownVerdict { .. } | Self::Refused(_) => true,
        }
    }
}

/// The connecting side: says who it is and waits for the verdict.
pub(crate) async fn introduce<S>(stream: &mut S, hello: &Hello, token: &str) -> Result<(), HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = Vec::with_capacity(HELLO_BYTES + token.len());
    bytes.put_slice(&MAGIC);
    bytes.put_u16_le(PROTOCOL_VERSION);
    bytes.put_slice(hello.job.as_bytes());
    bytes.put_u32_le(hello.attempt.0);
    bytes.put_u64_le(hello.from.0);
    bytes.put_u64_le(hello.to.0);
    bytes.put_u16_le(u16::try_from(token.len()).expect("the data plane checked the token's length"));
    bytes.put_slice(token.as_bytes());
    stream.write_all(&bytes).await.map_err(HandshakeError::Io)?;

    let mut answer = [0; ANSWER_BYTES];
    stream.read_exact(&mut answer).await.map_err(HandshakeError::Io)?;
    let mut fields = &answer[..];
    read_magic(&mut fields)?;
    let theirs = fields.get_u16_le();
    if theirs != PROTOCOL_VERSION {
        return Err(HandshakeError::Version { theirs });
    }
    match fields.get_u8() {
        ACCEPTED => Ok(()),
        verdict => {
            Err(Refusal::from_number(verdict)
                .map_or(HandshakeError::UnknownVerdict { verdict }, HandshakeError::Refused))
        }
    }
}

/// The accepting side: learns who connects, and that it holds the token. Reads the token only if the rest makes sense.
pub(crate) async fn listen<S>(stream: &mut S, token: &str) -> Result<Hello, HandshakeError>
where
    S: AsyncRead + Unpin,
{
    let mut bytes = [0; HELLO_BYTES];
    stream.read_exact(&mut bytes).await.map_err(HandshakeError::Io)?;
    let mut fields = &bytes[..];
    read_magic(&mut fields)?;
    if fields.get_u16_le() != PROTOCOL_VERSION {
        return Err(HandshakeError::Refused(Refusal::Version));
    }
    let mut job = [0; 16];
    fields.copy_to_slice(&mut job);
    let hello = Hello {
        job: JobId::from_bytes(job),
        attempt: Attempt(fields.get_u32_le()),
        from: WorkerId(fields.get_u64_le()),
        to: WorkerId(fields.get_u64_le()),
    };
    let length = usize::from(fields.get_u16_le());
    if length > MAX_TOKEN_BYTES {
        return Err(HandshakeError::Refused(Refusal::Token));
    }
    let mut presented = vec![0; length];
    stream.read_exact(&mut presented).await.map_err(HandshakeError::Io)?;
    if !is_same_secret(&presented, token.as_bytes()) {
        return Err(HandshakeError::Refused(Refusal::Token));
    }
    Ok(hello)
}

/// The accepting side: gives the verdict.
pub(crate) async fn answer<S>(stream: &mut S, verdict: Result<(), Refusal>) -> Result<(), HandshakeError>
where
    S: AsyncWrite + Unpin,
{
    let mut bytes = Vec::with_capacity(ANSWER_BYTES);
    bytes.put_slice(&MAGIC);
    bytes.put_u16_le(PROTOCOL_VERSION);
    bytes.put_u8(verdict.map_or_else(|refusal| refusal as u8, |()| ACCEPTED));
    stream.write_all(&bytes).await.map_err(HandshakeError::Io)
}

fn read_magic(fields: &mut &[u8]) -> Result<(), HandshakeError> {
    let mut magic = [0; MAGIC.len()];
    fields.copy_to_slice(&mut magic);
    if magic == MAGIC {
        Ok(())
    } else {
        Err(HandshakeError::NotAWorker)
    }
}

/// Compares without telling by its duration how far the bytes agree. The length is no secret.
fn is_same_secret(presented: &[u8], expected: &[u8]) -> bool {
    let difference = presented
        .iter()
        .zip(expected)
        .fold(0, |difference, (a, b)| black_box(difference | (a ^ b)));
    presented.len() == expected.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_the_same_only_if_every_byte_is() {
        assert!(is_same_secret(b"", b"") && is_same_secret(b"abc", b"abc"));
        for wrong in [&b""[..], b"ab", b"abd", b"abcd", b"Abc"] {
            assert!(!is_same_secret(wrong, b"abc"));
        }
    }

    #[tokio::test]
    async fn a_hello_arrives_as_it_was_sent_and_the_verdict_comes_back() {
        let hello = Hello {
            job: JobId::from_bytes([7; 16]),
            attempt: Attempt(3),
            from: WorkerId(1),
            to: WorkerId(u64::MAX),
        };
        let (mut client, mut server) = tokio::io::duplex(1024);
        let (introduced, heard) = tokio::join!(introduce(&mut client, &hello, "secret"), async {
            let heard = listen(&mut server, "secret").await;
            answer(&mut server, Err(Refusal::StaleAttempt)).await.unwrap();
            heard
        });
        assert_eq!(heard.unwrap(), hello);
        assert!(matches!(
            introduced,
            Err(HandshakeError::Refused(Refusal::StaleAttempt))
        ));
    }
}
