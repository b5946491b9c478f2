//! Certificates of an authority of a test's own, and an address that is not this host's.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run;

/// An authority, and what it has signed.
pub struct Certificates {
    dir: tempfile::TempDir,
}

impl Certificates {
    /// A certificate of a server with these names (`IP:127.0.0.1`, `DNS:db.example`), and one of a
    /// client called `client`.
    pub fn new(names: &str, client: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let this = Self { dir };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        let at = |name: &str| this.path(name);
        run(this
            .openssl("req")
            .args(["-x509", "-nodes", "-days", "2", "-subj", "/CN=authority"])
            .args(key)
            .arg("-keyout")
            .arg(at("ca.key"))
            .arg("-out")
            .arg(at("ca.pem")));
        for (name, subject, extension) in [
            ("server", "server", format!("subjectAltName={names}")),
            ("client", client, "extendedKeyUsage=clientAuth".to_owned()),
        ] {
            std::fs::write(at("extension"), extension).unwrap();
            run(this
                .openssl("req")
                .args(["-nodes", "-subj", &format!("/CN={subject}")])
                .args(key)
                .arg("-keyout")
                .arg(at(&format!("{name}.key")))
                .arg("-out")
                .arg(at("request")));
            run(this
                .openssl("x509")
                .args(["-req", "-days", "2", "-CAcreateserial", "-extfile"])
                .arg(at("extension"))
                .arg("-in")
                .arg(at("request"))
                .arg("-CA")
                .arg(at("ca.pem"))
                .arg("-CAkey")
                .arg(at("ca.key"))
                .arg("-out")
                .arg(at(&format!("{name}.pem"))));
        }
        this
    }

    fn openssl(&self, what: &str) -> Command {
        let mut command = Command::new("openssl");
        command.arg(what).current_dir(self.dir.path());
        command
    }

    /// `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A copy of the server's certificate and key in a directory, for its user alone.
    pub fn install(&self, dir: &Path, user: Option<(u32, u32)>) {
        use std::os::unix::fs::{PermissionsExt, chown};
        for name in ["server.pem", "server.key", "ca.pem"] {
            let to = dir.join(name);
            std::fs::copy(self.path(name), &to).unwrap();
            std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((uid, gid)) = user {
                chown(&to, Some(uid), Some(gid)).unwrap();
            }
        }
    }
}

/// An address of this test's own network at which connections come from another one, as those to
/// another host do.
///
/// # Panics
///
/// Where the test is not in a network of its own.
pub fn address_elsewhere() -> &'static str {
    assert!(
        std::env::var_os("RESTORE_TEST_NETWORK").is_some(),
        "scripts/test-runner gives a test a network of its own"
    );
    for arguments in [
        "address replace 10.99.0.1/32 dev lo",
        "address replace 10.99.0.2/32 dev lo",
        "route replace table local local 10.99.0.2 dev lo src 10.99.0.1",
    ] {
        run(Command::new("ip").args(arguments.split(' ')));
    }
    "10.99.0.2"
}
