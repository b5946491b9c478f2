//! An engine that answers what a test has it answer, at a socket of its own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// As an engine says it that is in no swarm, and one whose part of a swarm is begun again.
pub(crate) const NO_MANAGER: &str = r#"{"message": "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."}"#;

/// Who answers, and what was asked: `GET /services`, each with its body.
pub(crate) struct FakeEngine {
    folder: tempfile::TempDir,
    asked: Arc<Mutex<Vec<(String, String)>>>,
}

impl FakeEngine {
    /// One that answers a request, `GET /services`, with this status and body. Its version it tells itself.
    pub(crate) fn new(answer: impl Fn(&str) -> (u16, String) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("docker.sock")).unwrap();
        let asked: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let noted = asked.clone();
        // Ends with the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                // Whoever has gone away again wants no answer.
                let Ok((request, body)) = read(&stream) else {
                    continue;
                };
                let (status, body) = match request.as_str() {
                    "GET /version" => (200, r#"{"ApiVersion": "1.47"}"#.to_owned()),
                    request_line => {
                        let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                        noted.push((request_line.to_owned(), body));
                        drop(noted);
                        answer(request_line)
                    }
                };
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { folder, asked }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// All that it was asked so far, but for its version.
    pub(crate) fn asked(&self) -> Vec<(String, String)> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }
}

/// The method and the path of a request, without the version of the interface, and its body.
fn read(stream: &UnixStream) -> std::io::Result<(String, String)> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((key, value)) if key.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().unwrap();
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut words = first.split(' ');
    let (Some(method), Some(path)) = (words.next(), words.next()) else {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    let path = match path.strip_prefix("/v1.") {
        Some(rest) => rest.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => path,
    };
    Ok((
        format!("{method} {path}"),
        String::from_utf8_lossy(&body).into_owned(),
    ))
}
