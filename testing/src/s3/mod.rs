//! A real server of S3's protocol on loopback, in a process of its own (moto's; see
//! `scripts/s3-server.sh`), and what can be done behind the back of whoever else uses it.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Value, json};

/// The server that the tests of one binary share, each below a prefix of its own. It ends with
/// its standard input, when they do.
pub struct Server {
    pub port: u16,
    pub bucket: String,
    /// The id and the secret of a key that may do everything, then those of one that only reads.
    pub keys: Vec<String>,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _child: Child,
}

impl Server {
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn start() -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/s3-server.sh");
        let mut child = Command::new(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let said: Value = serde_json::from_str(&line).expect("scripts/s3-server.sh does not start");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            port: said["port"].as_u64().unwrap().try_into().unwrap(),
            bucket: text(&said["bucket"]),
            keys: said["keys"].as_array().unwrap().iter().map(text).collect(),
            pipes: Mutex::new((stdin, stdout)),
            _child: child,
        }
    }

    #[track_caller]
    fn act(&self, what: &Value) -> Value {
        let mut pipes: MutexGuard<'_, _> =
            self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let (stdin, stdout) = &mut *pipes;
        writeln!(stdin, "{what}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let answer: Value = serde_json::from_str(&line).unwrap();
        assert!(answer["failed"].is_null(), "{what}: {answer}");
        answer["done"].clone()
    }

    #[track_caller]
    pub fn put(&self, key: &str, file: &Path) {
        self.act(&json!({"do": "put", "key": key, "file": file}));
    }

    pub fn delete(&self, key: &str) {
        self.act(&json!({"do": "delete", "key": key}));
    }

    /// The keys below a prefix.
    pub fn keys_below(&self, prefix: &str) -> Vec<String> {
        let found = self.act(&json!({"do": "objects"}));
        let keys = found.as_array().unwrap().iter();
        keys.filter_map(|it| it[0].as_str()?.strip_prefix(prefix).map(str::to_owned))
            .collect()
    }

    /// The keys below a prefix whose uploads in parts go on, or were left.
    pub fn uploads_below(&self, prefix: &str) -> Vec<String> {
        let found = self.act(&json!({"do": "uploads"}));
        let keys = found.as_array().unwrap().iter();
        keys.filter_map(|it| it.as_str()?.strip_prefix(prefix).map(str::to_owned))
            .collect()
    }
}
