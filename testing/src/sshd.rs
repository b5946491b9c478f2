//! A real sshd on loopback, of the test's own: its keys, its configuration, its port. And a wire
//! to it that can be cut.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

/// A running sshd; stopped and forgotten when dropped.
pub struct Sshd {
    dir: tempfile::TempDir,
    child: Child,
    pub port: u16,
}

impl Sshd {
    pub fn start() -> Self {
        // sshd insists on it, and only the system's own start-up makes it.
        std::fs::create_dir_all("/run/sshd").unwrap();
        let dir = tempfile::tempdir().unwrap();
        for key in ["host", "other-host", "client", "stranger"] {
            keygen(&dir.path().join(key));
        }
        let at = |name: &str| dir.path().join(name).display().to_string();
        std::fs::copy(at("client.pub"), at("authorized")).unwrap();
        let port = free_port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
             PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n\
             MaxStartups 100\nSubsystem sftp internal-sftp\n",
            at("host"),
            at("authorized"),
        );
        std::fs::write(at("sshd_config"), config).unwrap();
        let log = std::fs::File::create(at("sshd.log")).unwrap();
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &at("sshd_config")])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("sshd (scripts/setup.sh installs it)");
        let this = Self { dir, child, port };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(Instant::now() < deadline, "sshd: {}", this.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        this
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("sshd.log")).unwrap_or_default()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An operator's ssh configuration: `host` is reached at `port`, is known by the key `known`
    /// (none: by no key), and the key `identity` logs in.
    pub fn client(&self, host: &str, port: u16, known: Option<&str>, identity: &str) -> PathBuf {
        let known_hosts = self.path(&format!("known_hosts-{host}"));
        let line = known.map_or_else(String::new, |key| {
            let key = std::fs::read_to_string(self.path(&format!("{key}.pub"))).unwrap();
            format!("[127.0.0.1]:{port} {key}")
        });
        std::fs::write(&known_hosts, line).unwrap();
        let config = self.path(&format!("ssh_config-{host}"));
        // Waving keys through is what must not happen even where it is configured.
        let text = format!(
            "Host {host}\n HostName 127.0.0.1\n Port {port}\n IdentityFile {}\n \
             IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile {}\n \
             GlobalKnownHostsFile none\n StrictHostKeyChecking no\n",
            self.path(identity).display(),
            known_hosts.display(),
        );
        std::fs::write(&config, text).unwrap();
        config
    }

    /// The usual one.
    pub fn good_client(&self, port: u16) -> PathBuf {
        self.client("nas", port, Some("host"), "client")
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keygen(path: &Path) {
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(path)
        .status()
        .unwrap();
    assert!(made.success());
}

pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// A TCP port that passes everything on, until it is told to cut.
pub struct Wire {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    /// Bytes towards the client until the cut.
    left: AtomicI64,
    /// After a cut nothing gets through any more.
    stays_down: AtomicBool,
    down: AtomicBool,
    passed: AtomicI64,
}

impl Wire {
    pub fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let shared = Arc::new(Shared {
            left: AtomicI64::new(i64::MAX),
            stays_down: AtomicBool::new(false),
            down: AtomicBool::new(false),
            passed: AtomicI64::new(0),
        });
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            shared: shared.clone(),
        };
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if shared.down.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else {
                    continue;
                };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || up(from, to));
                let shared = shared.clone();
                std::thread::spawn(move || down(&shared, server, client));
            }
        });
        wire
    }

    /// Cuts one connection when so many more bytes came through; `stays_down`: and every other.
    pub fn cut_after(&self, bytes: i64, stays_down: bool) {
        self.shared.stays_down.store(stays_down, Ordering::SeqCst);
        self.shared.left.store(bytes, Ordering::SeqCst);
    }

    /// Mends it.
    pub fn mend(&self) {
        self.shared.left.store(i64::MAX, Ordering::SeqCst);
        self.shared.down.store(false, Ordering::SeqCst);
    }

    /// Bytes that came through towards the client so far.
    pub fn passed(&self) -> i64 {
        self.shared.passed.load(Ordering::SeqCst)
    }

    /// Whether it was cut and stays down.
    pub fn is_down(&self) -> bool {
        self.shared.down.load(Ordering::SeqCst)
    }
}

fn up(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

fn down(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        if read == 0 || shared.down.load(Ordering::SeqCst) {
            break;
        }
        let size = i64::try_from(read).unwrap();
        let left = shared.left.fetch_sub(size, Ordering::SeqCst) - size;
        if left < 0 {
            if shared.stays_down.load(Ordering::SeqCst) {
                shared.down.store(true, Ordering::SeqCst);
            } else {
                shared.left.store(i64::MAX, Ordering::SeqCst);
            }
            break;
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
        shared.passed.fetch_add(size, Ordering::SeqCst);
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
