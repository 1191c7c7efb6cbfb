//! What processes print: the end of it is remembered, and their pipes never fill up.

use std::future::Future;
use std::time::Duration;

use futures::future::{Either, select};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes of output that are remembered for messages. A panic with a long backtrace fits.
const TAIL_BYTES: usize = 64 * 1024;

/// How long the rest of the output may take after the process group was killed. Only a process that left the group can
/// still hold the pipe; nobody waits for what it prints.
const REST_TIMEOUT: Duration = Duration::from_millis(500);

/// The last 64 KiB of an output.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
}

impl Tail {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.bytes.len() > 2 * TAIL_BYTES {
            self.bytes.drain(..self.bytes.len() - TAIL_BYTES);
        }
    }

    /// The text. A character that was cut in two is shown as a replacement.
    pub(crate) fn text(&self) -> String {
        let start = self.bytes.len().saturating_sub(TAIL_BYTES);
        String::from_utf8_lossy(&self.bytes[start..]).into_owned()
    }

    /// Reads a pipe to its end and remembers the tail. An error of a pipe is its end.
    pub(crate) async fn fill_from(&mut self, mut pipe: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 8 * 1024];
        while let Ok(count) = pipe.read(&mut buffer).await {
            if count == 0 {
                break;
            }
            self.push(&buffer[..count]);
        }
    }
}

/// Runs `process` to its end while `copy` drains its output, and then takes the rest of the output.
pub(crate) async fn while_copying<T>(process: impl Future<Output = T>, copy: impl Future<Output = ()>) -> T {
    let (process, copy) = (std::pin::pin!(process), std::pin::pin!(copy));
    match select(process, copy).await {
        Either::Left((result, copy)) => {
            // Running out of time is as good as the end of the output.
            let _rest = tokio::time::timeout(REST_TIMEOUT, copy).await;
            result
        }
        Either::Right(((), process)) => process.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_an_endless_output_the_end_is_remembered_and_memory_stays_bounded() {
        let mut tail = Tail::default();
        for line in 0..100_000 {
            tail.push(format!("line {line}\n").as_bytes());
            assert!(tail.bytes.capacity() <= 8 * TAIL_BYTES);
        }
        assert!(tail.text().ends_with("line 99999\n"));
        assert_eq!(tail.text().len(), TAIL_BYTES);
    }

    #[tokio::test]
    async fn an_output_that_ends_before_its_process_does_not_end_it() {
        assert_eq!(while_copying(async { 7 }, async {}).await, 7);
        let slow = async {
            tokio::task::yield_now().await;
            8
        };
        assert_eq!(while_copying(slow, async {}).await, 8);
    }
}
