//! A connection to a PostgreSQL server: TLS, and which questions for a password are answered.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{Client, Config, Connection, NoTls};

use super::bounded::{Bounded, LONGEST};
use super::tls::{Mode, Tls};
use super::wire;
use super::wire::{Reach, Stream, Wire};
use crate::model::{Endpoint, Error, ErrorKind, Result};
use crate::sys::spans::ConnectionSpan;

/// What a connection to a server is.
pub(crate) type Connected = (Client, Connection<Guarded, NoTlsStream>);

/// The kind of the messages in which the data of a COPY comes.
const COPY_DATA: u8 = b'd';

/// Asks a server whether it has TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Connects to the server at `endpoint` and signs in as `config` says, whose own host is not
/// looked at. A password is never sent where others could read it, unless the site says so.
///
/// The outer error is one of TLS or of its files, the inner one what the driver says.
pub(crate) async fn connect(
    config: &Config,
    endpoint: &Endpoint,
    tls: &Tls,
) -> Result<std::result::Result<Connected, ConnectError>> {
    let wire = match endpoint.host.starts_with('/') {
        true => {
            let name = format!(".s.PGSQL.{}", endpoint.port);
            wire::socket(PathBuf::from(&endpoint.host).join(name)).await
        }
        false => wire::port(endpoint).await,
    };
    let wire = match wire {
        Ok(wire) => wire,
        Err(error) => return Ok(Err(ConnectError::Io(error))),
    };
    let reach = wire.reach;
    let asks = match (reach, tls.mode) {
        // The server has none there, and nobody is on the way.
        (Reach::Socket | Reach::SharedSocket, _)
        | (_, Some(Mode::Disable))
        | (Reach::Here, None) => false,
        (Reach::Here | Reach::Elsewhere, _) => true,
    };
    let (stream, secured) = match asks {
        false => (wire.stream, false),
        true => match negotiate(wire, endpoint, tls).await? {
            Ok(both) => both,
            Err(error) => return Ok(Err(ConnectError::Io(error))),
        },
    };
    let span = ConnectionSpan::open("postgres", endpoint);
    let guarded = Guarded::new(stream, answers(reach, tls.mode, secured), LONGEST, span);
    Ok(config
        .connect_raw(guarded, NoTls)
        .await
        .map_err(ConnectError::Driver))
}

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// Nobody is there, or no handshake came about.
    Io(io::Error),
    /// The server refuses.
    Driver(tokio_postgres::Error),
}

/// The stream, and whether it is secured.
async fn negotiate(
    mut wire: Wire,
    endpoint: &Endpoint,
    tls: &Tls,
) -> Result<io::Result<(Box<dyn Stream>, bool)>> {
    let mut answer = [0];
    let asked = async {
        wire.stream.write_all(&SSL_REQUEST).await?;
        wire.stream.flush().await?;
        // One byte and none more: what came before the handshake is not to be believed after it.
        wire.stream.read_exact(&mut answer).await
    };
    if let Err(error) = asked.await {
        return Ok(Err(error));
    }
    match (answer, tls.mode) {
        ([b'S'], _) => {
            let config = tls.client_config().await?;
            let secured = wire.secured(config, "PostgreSQL", endpoint).await?;
            Ok(secured.map(|wire| (wire.stream, true)))
        }
        (_, Some(Mode::VerifyFull | Mode::Require)) => Err(Error::new(
            ErrorKind::Preflight,
            "postgres.no_tls",
            format!(
                "PostgreSQL at {}:{} has no TLS, and `tls` asks for it",
                endpoint.host, endpoint.port
            ),
        )
        .hint("set ssl = on and its certificate in postgresql.conf; tls = \"disable\" where the way there is safe without")),
        ([b'N'], _) => Ok(Ok((wire.stream, false))),
        _ => Ok(Err(io::Error::other("it answers like no PostgreSQL server"))),
    }
}

/// Which questions for a password are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answers {
    /// Any.
    All,
    /// None that asks for the password itself.
    Hashed,
    /// Only what tells nothing to who listens: SCRAM.
    Scram,
}

fn answers(reach: Reach, mode: Option<Mode>, secured: bool) -> Answers {
    match (reach, mode, secured) {
        (Reach::Socket, ..)
        | (_, Some(Mode::Disable), _)
        | (_, Some(Mode::VerifyFull | Mode::Require), true) => Answers::All,
        // Who is at the other end is not known.
        (_, _, true) | (Reach::Here | Reach::SharedSocket, ..) => Answers::Hashed,
        (Reach::Elsewhere, _, false) => Answers::Scram,
    }
}

/// The server asked for a password in a way in which it gets none.
#[derive(Debug, thiserror::Error)]
#[error("the server asks for the password in a way that others could read or guess it from")]
struct AskedInTheClear;

/// Whether that is why there is no connection.
pub(crate) fn asked_in_the_clear(error: &tokio_postgres::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let io = error.downcast_ref::<io::Error>();
        if io.is_some_and(|io| {
            io.get_ref()
                .is_some_and(|inner| inner.is::<AskedInTheClear>())
        }) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A stream that ends where the server asks for a password that it is not to get, or sends a longer answer
/// than any is.
pub(crate) struct Guarded {
    inner: Bounded<Box<dyn Stream>>,
    messages: Messages,
    /// `None`: signed in, or nothing to watch for.
    watch: Option<Watch>,
    _span: ConnectionSpan,
}

impl Guarded {
    fn new(inner: Box<dyn Stream>, answers: Answers, longest: u64, span: ConnectionSpan) -> Self {
        let watch = (answers != Answers::All).then(|| Watch::new(answers));
        Self {
            inner: Bounded::new(inner, longest),
            messages: Messages::default(),
            watch,
            _span: span,
        }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let read = buffer.filled().get(before..).unwrap_or_default();
        // The driver hands on each piece of a COPY as it comes, and reads none before that is taken: a table
        // may be as large as it likes.
        if self.messages.feed(read) {
            self.inner.renew();
        }
        if let Some(watch) = &mut self.watch {
            match watch.feed(read) {
                Seen::Nothing => {}
                Seen::SignedIn => self.watch = None,
                Seen::Forbidden => {
                    buffer.set_filled(before);
                    return Poll::Ready(Err(io::Error::other(AskedInTheClear)));
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Reads the server's messages along, as far as to know where each begins.
#[derive(Default)]
struct Messages {
    /// The beginning of the present message: its kind and its length.
    head: Vec<u8>,
    /// So much of the present message is still to come.
    rest: u64,
}

impl Messages {
    /// Whether one begins in these bytes that carries data of a COPY.
    fn feed(&mut self, mut bytes: &[u8]) -> bool {
        let mut begins = false;
        while let Some((first, others)) = bytes.split_first() {
            if self.rest > 0 {
                let rest = usize::try_from(self.rest).unwrap_or(usize::MAX);
                let (skipped, more) = bytes.split_at(rest.min(bytes.len()));
                self.rest -= skipped.len() as u64;
                bytes = more;
                continue;
            }
            bytes = others;
            self.head.push(*first);
            if let [kind, a, b, c, d] = *self.head.as_slice() {
                begins |= kind == COPY_DATA;
                // The length counts itself.
                self.rest = u64::from(u32::from_be_bytes([a, b, c, d])).saturating_sub(4);
                self.head.clear();
            }
        }
        begins
    }
}

/// Reads the server's messages along, as far as they are about signing in.
struct Watch {
    answers: Answers,
    /// The beginning of the present message: its kind, its length, and of one about signing in
    /// what it asks for.
    head: Vec<u8>,
    /// So much of the present message is still to come.
    rest: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    SignedIn,
    Forbidden,
}

impl Watch {
    fn new(answers: Answers) -> Self {
        Self {
            answers,
            head: Vec::with_capacity(9),
            rest: 0,
        }
    }

    fn feed(&mut self, bytes: &[u8]) -> Seen {
        for byte in bytes {
            if self.rest > 0 {
                self.rest -= 1;
                continue;
            }
            self.head.push(*byte);
            match *self.head.as_slice() {
                [b'R', _, _, _, _, a, b, c, d] => match u32::from_be_bytes([a, b, c, d]) {
                    0 => return Seen::SignedIn,
                    3 => return Seen::Forbidden,
                    5 if self.answers == Answers::Scram => return Seen::Forbidden,
                    _ => self.skip(8),
                },
                [b'R', ..] => {}
                [_, _, _, _, _] => self.skip(4),
                _ => {}
            }
        }
        Seen::Nothing
    }

    /// Goes on behind the present message, of whose length so many bytes were read.
    fn skip(&mut self, read: u64) {
        if let [_, a, b, c, d, ..] = *self.head.as_slice() {
            self.rest = u64::from(u32::from_be_bytes([a, b, c, d])).saturating_sub(read);
        }
        self.head.clear();
    }
}

/// For `fuzz/`: foreign bytes, in pieces and whole.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(bytes: &[u8]) {
    let seen = |size: usize| {
        let mut watch = Watch::new(Answers::Scram);
        let mut pieces = bytes.chunks(size).map(|piece| watch.feed(piece));
        pieces.find(|seen| *seen != Seen::Nothing)
    };
    assert_eq!(seen(bytes.len().max(1)), seen(3));
    let copied = |size: usize| {
        let mut messages = Messages::default();
        bytes.chunks(size).any(|piece| messages.feed(piece))
    };
    assert_eq!(copied(bytes.len().max(1)), copied(3));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    fn seen(answers: Answers, messages: &[Vec<u8>]) -> Seen {
        let bytes = messages.concat();
        let mut results = Vec::new();
        for size in [1, 2, 3, 5, 8, bytes.len()] {
            let mut watch = Watch::new(answers);
            let found = bytes.chunks(size).map(|piece| watch.feed(piece));
            let found = found.into_iter().find(|seen| *seen != Seen::Nothing);
            results.push(found.unwrap_or(Seen::Nothing));
        }
        results.dedup();
        assert_eq!(results.len(), 1, "{results:?}");
        results[0]
    }

    #[test]
    fn a_question_for_the_password_is_seen_wherever_the_pieces_end() {
        let clear = message(b'R', &3_u32.to_be_bytes());
        let md5 = message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]);
        let scram = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        let notice = message(b'N', b"R\0\0\0\x08\0\0\0\x03");
        let ok = message(b'R', &[0; 4]);
        for answers in [Answers::Hashed, Answers::Scram] {
            let forbidden = |messages: &[&Vec<u8>]| {
                let messages: Vec<_> = messages.iter().map(|it| (*it).clone()).collect();
                seen(answers, &messages)
            };
            assert_eq!(forbidden(&[&clear]), Seen::Forbidden);
            assert_eq!(forbidden(&[&notice, &clear]), Seen::Forbidden);
            assert_eq!(forbidden(&[&scram, &clear]), Seen::Forbidden);
            assert_eq!(forbidden(&[&notice, &scram]), Seen::Nothing);
            assert_eq!(forbidden(&[&notice, &ok, &clear]), Seen::SignedIn);
        }
        assert_eq!(seen(Answers::Hashed, &[md5.clone(), ok]), Seen::SignedIn);
        assert_eq!(seen(Answers::Scram, &[md5]), Seen::Forbidden);
    }

    /// Whatever a server sends on such a stream, up to its end or why that is not reached.
    async fn received(longest: u64, messages: Vec<Vec<u8>>) -> io::Result<usize> {
        let (ours, mut theirs) = tokio::io::duplex(64);
        tokio::spawn(async move {
            for message in messages {
                if theirs.write_all(&message).await.is_err() {
                    return;
                }
            }
        });
        let span = ConnectionSpan::open("postgres", &Endpoint::new("127.0.0.1", 5432));
        let mut stream = Guarded::new(Box::new(ours), Answers::All, longest, span);
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await
    }

    #[tokio::test]
    async fn the_data_of_a_copy_may_be_larger_than_any_answer() {
        let begin = [message(b'R', &[0; 4]), message(b'Z', b"I")];
        let with = |piece: Vec<u8>, count: usize| {
            let pieces = std::iter::repeat_n(piece, count);
            begin.iter().cloned().chain(pieces).collect::<Vec<_>>()
        };
        let piece = message(COPY_DATA, &[b'\n'; 50]);
        let whole = received(256, with(piece, 100)).await.unwrap();
        assert_eq!(whole, 9 + 6 + 100 * 55);
        // What the driver keeps is bounded: an answer, and a piece by itself.
        for (piece, count) in [
            (message(b'D', &[b'\n'; 50]), 100),
            (message(COPY_DATA, &[b'\n'; 5000]), 1),
        ] {
            let error = received(256, with(piece, count)).await.unwrap_err();
            assert!(error.to_string().contains("its answer has more than"));
        }
    }

    #[test]
    fn a_password_goes_where_nobody_else_can_read_it_or_where_the_site_says() {
        use Answers::{All, Hashed, Scram};
        use Mode::{Disable, Prefer, Require, VerifyFull};
        for (reach, mode, secured, expected) in [
            (Reach::Socket, None, false, All),
            (Reach::SharedSocket, None, false, Hashed),
            (Reach::SharedSocket, Some(VerifyFull), false, Hashed),
            (Reach::SharedSocket, Some(Disable), false, All),
            (Reach::Here, None, false, Hashed),
            (Reach::Here, Some(Disable), false, All),
            (Reach::Here, Some(Prefer), true, Hashed),
            (Reach::Elsewhere, None, false, Scram),
            (Reach::Elsewhere, None, true, Hashed),
            (Reach::Elsewhere, Some(Prefer), false, Scram),
            (Reach::Elsewhere, Some(Prefer), true, Hashed),
            (Reach::Elsewhere, Some(Require), true, All),
            (Reach::Elsewhere, Some(VerifyFull), true, All),
            (Reach::Elsewhere, Some(Disable), false, All),
        ] {
            assert_eq!(
                answers(reach, mode, secured),
                expected,
                "{reach:?} {mode:?} {secured}"
            );
        }
    }
}
