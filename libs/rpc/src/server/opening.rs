//! A connection whose first bytes are waited for only so long.
//!
//! Which version of HTTP is spoken shows in the first bytes, and whoever reads those waits without an end;
//! from then on HTTP/1 has its deadline for heads, and HTTP/2 its pings.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What HTTP/2 connections begin with (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The connection; reading fails with `TimedOut` when the first bytes do not come.
pub(crate) struct Opening<I> {
    io: I,
    seen: usize,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<I> Opening<I> {
    /// Waits for at most `patience`, from now.
    pub(crate) fn new(io: I, patience: Duration) -> Self {
        Self {
            io,
            seen: 0,
            deadline: Some(Box::pin(tokio::time::sleep(patience))),
        }
    }

    /// Takes note of what came. The version shows at the first byte that differs, or when all have come.
    fn note(&mut self, came: &[u8]) {
        let awaited = &PREFACE[self.seen..];
        let length = came.len().min(awaited.len());
        self.seen += length;
        if came.is_empty() || came[..length] != awaited[..length] || self.seen == PREFACE.len() {
            self.deadline = None;
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Opening<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        let Some(deadline) = &mut self.deadline else {
            return read;
        };
        match read {
            Poll::Pending => deadline
                .as_mut()
                .poll(context)
                .map(|()| Err(io::ErrorKind::TimedOut.into())),
            Poll::Ready(Ok(())) => {
                self.note(&buffer.filled()[before..]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Opening<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Whether a connection that begins so, and then stands still, is given up.
    async fn given_up(start: &[u8]) -> bool {
        let (mut client, server) = tokio::io::duplex(1_024);
        client.write_all(start).await.unwrap();
        let mut opening = Opening::new(server, Duration::from_secs(30));
        let mut buffer = [0; 64];
        let reading = async {
            loop {
                if let Err(error) = opening.read(&mut buffer).await {
                    return error.kind();
                }
            }
        };
        let ended = tokio::time::timeout(Duration::from_secs(3_600), reading).await;
        ended.is_ok_and(|kind| kind == io::ErrorKind::TimedOut)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_does_not_say_what_is_spoken_is_given_up() {
        for start in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n"] {
            assert!(given_up(start).await, "{start:?}");
        }
        for start in [&b"G"[..], b"PO", b"GET / HTTP/1.0\r\n\r\n", PREFACE] {
            assert!(!given_up(start).await, "{start:?}");
        }
    }
}
