//! A stream whose other end may not fill our memory: drivers keep an answer until it is whole.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// No answer to what is asked of a server is longer.
pub(super) const LONGEST: u64 = 256 << 20;

/// Ends where more comes, after something was sent, than any answer has.
pub(super) struct Bounded<S> {
    inner: S,
    most: u64,
    left: u64,
}

impl<S> Bounded<S> {
    pub(super) fn new(inner: S, most: u64) -> Self {
        Self {
            inner,
            most,
            left: most,
        }
    }

    /// What came so far is kept by nobody: as much may come again as after something was sent.
    pub(super) fn renew(&mut self) {
        self.left = self.most;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = buffer.filled().len().saturating_sub(before);
        match self.left.checked_sub(read as u64) {
            Some(left) => {
                self.left = left;
                Poll::Ready(Ok(()))
            }
            None => {
                // Whoever is told of an error has read nothing.
                buffer.set_filled(before);
                Poll::Ready(Err(io::Error::other(format!(
                    "its answer has more than {} MiB",
                    self.most >> 20
                ))))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, bytes))?;
        self.renew();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn each_answer_has_its_own_bound() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut ours = Bounded::new(ours, 8);
        for _ in 0..3 {
            ours.write_all(b"?").await.unwrap();
            theirs.write_all(b"12345678").await.unwrap();
            let mut answer = [0; 8];
            ours.read_exact(&mut answer).await.unwrap();
        }
        theirs.write_all(b"9").await.unwrap();
        let error = ours.read(&mut [0; 8]).await.unwrap_err();
        assert!(error.to_string().contains("its answer has more than"));
    }
}
