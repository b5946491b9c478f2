//! An archive that is loaded by programs of a newer version than the server: pg_restore writes SQL,
//! of which psql gets what the server knows. Connected itself, it would make settings that the server
//! does not have, and fail.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::script::{empties_path, odd_setting};
use super::tools::{Input, Runner, Tools};
use crate::model::{Error, Result};
use crate::sys::process::command::Exit;

/// How much may come before the first object.
const HEAD: usize = 64 * 1024;

/// The start of what pg_restore writes, without settings that the server does not know, and with another `search_path`
/// than the empty one where there is such a statement.
fn begin(head: &[u8], (known, key, path): (&[String], &str, Option<&str>)) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len());
    if !head
        .split(|byte| *byte == b'\n')
        .any(|line| line.starts_with(b"\\restrict "))
    {
        out.extend_from_slice(format!("\\restrict {key}\n").as_bytes());
    }
    for line in head.split_inclusive(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(line);
        if let Some(path) = path
            && empties_path(text.trim_end())
        {
            out.extend_from_slice(format!("{path};\n").as_bytes());
            continue;
        }
        let setting = odd_setting(&text);
        if setting.is_none_or(|name| known.contains(&name)) {
            out.extend_from_slice(line);
        }
    }
    out
}

/// Where the first object begins, or all of it.
fn head_of(text: &[u8]) -> Option<usize> {
    const FIRST: &[u8] = b"\n-- ";
    let mut at = 0;
    while let Some(found) = text
        .get(at..)?
        .windows(FIRST.len())
        .position(|part| part == FIRST)
    {
        let line = at + found + 1;
        let rest = text.get(line..)?;
        if rest.starts_with(b"-- Name: ") || rest.starts_with(b"-- Data for Name: ") {
            return Some(line);
        }
        at = line;
    }
    (text.len() >= HEAD).then_some(text.len())
}

async fn forward(
    mut from: Box<dyn AsyncRead + Send + Unpin>,
    mut to: Box<dyn AsyncWrite + Send + Unpin>,
    how: (&[String], &str, Option<&str>),
) -> Result<()> {
    let reading = |e| Error::io("read what pg_restore prints", e);
    let mut buffer = vec![0; 256 * 1024];
    let mut head: Vec<u8> = Vec::new();
    let mut begun = false;
    loop {
        let count = from.read(&mut buffer).await.map_err(reading)?;
        let bytes = buffer.get(..count).unwrap_or_default();
        if !begun {
            head.extend_from_slice(bytes);
            let end = match head_of(&head) {
                Some(end) => end,
                None if bytes.is_empty() => head.len(),
                None => continue,
            };
            let (first, rest) = head.split_at(end);
            begun = true;
            // A program that ends early does not read on; its exit code tells why.
            if to.write_all(&begin(first, how)).await.is_err() || to.write_all(rest).await.is_err()
            {
                return Ok(());
            }
            head.clear();
        } else if !bytes.is_empty() && to.write_all(bytes).await.is_err() {
            return Ok(());
        }
        if bytes.is_empty() {
            let _ended = to.shutdown().await;
            return Ok(());
        }
    }
}

impl Runner<'_> {
    /// Loads through SQL what pg_restore makes of an archive, or pg_dump of a database; how that and
    /// psql ended. `known` are the server's settings, `key` nobody knows, and
    /// `path` is the statement that takes the place of the one by which the `search_path` is emptied.
    pub(super) async fn pipe(
        &self,
        tools: &Tools,
        (program, from, psql): (&str, &[&str], &[&str]),
        input: Option<&Input>,
        (known, key, path): (&[String], &str, Option<&str>),
    ) -> Result<(Exit, Exit)> {
        let mut from = self.start(tools, program, from, input).await?;
        let mut to = self.start(tools, "psql", psql, None).await?;
        let feeding = super::tools::feed(from.stdin(), input);
        let (output, taken) = (from.stdout(), to.stdin());
        let forwarding = async move {
            match (output, taken) {
                (Some(output), Some(taken)) => forward(output, taken, (known, key, path)).await,
                _ => Ok(()),
            }
        };
        let ended = async {
            let ((), from, to) = tokio::try_join!(forwarding, from.wait(), to.wait())?;
            Ok::<_, Error>((from, to))
        };
        let all = async {
            tokio::pin!(feeding, ended);
            tokio::select! {
                done = &mut ended => done,
                fed = &mut feeding => match fed {
                    Ok(()) => ended.await,
                    Err(error) => Err(error),
                },
            }
        };
        tokio::select! {
            () = self.cancel.cancelled() => Err(Error::interrupted()),
            ended = all => ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_the_server_does_not_know_is_left_out_of_the_head_only() {
        let head = "--\n-- PostgreSQL database dump\n--\n\nSET lock_timeout = 0;\n\
                    SET transaction_timeout = 0;\nSET idle_session_timeout = 0;\n\n--\n";
        let rest = "-- Name: t; Type: TABLE; Schema: s; Owner: o\nSET transaction_timeout = 0;\n";
        let known = ["idle_session_timeout".to_owned()];
        let expected = head.replace("SET transaction_timeout = 0;\n", "") + rest;
        for (before, expected) in [
            ("", format!("\\restrict k\n{expected}")),
            (
                "\\restrict theirs\n",
                format!("\\restrict theirs\n{expected}"),
            ),
        ] {
            let text = format!("{before}{head}{rest}");
            let (to, mut out) = tokio::io::duplex(1 << 20);
            let from = Box::new(std::io::Cursor::new(text.into_bytes()));
            forward(from, Box::new(to), (&known[..], "k", None))
                .await
                .unwrap();
            let mut got = String::new();
            out.read_to_string(&mut got).await.unwrap();
            assert_eq!(got, expected);
        }
    }

    #[tokio::test]
    async fn the_path_is_another_where_it_would_be_emptied() {
        const EMPTIED: &str = "SELECT pg_catalog.set_config('search_path', '', false);\n";
        let head = format!(
            "\\restrict k\nSET lock_timeout = 0;\n{EMPTIED}SET row_security = off;\n\n--\n"
        );
        // What is said further on is the dump's own matter.
        let rest = format!("-- Name: t; Type: TABLE; Schema: s; Owner: o\n{EMPTIED}");
        let (to, mut out) = tokio::io::duplex(1 << 20);
        let from = Box::new(std::io::Cursor::new(format!("{head}{rest}").into_bytes()));
        let path = Some("SET search_path TO 'shop', 'public'");
        let known: [String; 0] = [];
        forward(from, Box::new(to), (&known[..], "k", path))
            .await
            .unwrap();
        let mut got = String::new();
        out.read_to_string(&mut got).await.unwrap();
        let head = head.replace(EMPTIED, "SET search_path TO 'shop', 'public';\n");
        assert_eq!(got, format!("{head}{rest}"));
    }
}
