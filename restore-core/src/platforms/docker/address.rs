//! Where an engine is reached, as a site writes it down.

use std::path::{Path, PathBuf};

use crate::model::{Error, ErrorKind, Result};

/// Where an engine listens, unless the site says otherwise.
pub(crate) const SOCKET: &str = "/var/run/docker.sock";

/// Where engines usually listen with TLS.
const TLS_PORT: u16 = 2376;

/// Where an engine is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    Unix(PathBuf),
    Tcp {
        host: String,
        port: u16,
        /// `None`: plain, of this host alone.
        tls: Option<TlsFiles>,
    },
    Ssh(SshAddress),
}

/// Who is trusted, and who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) ca: PathBuf,
    /// A certificate and its key.
    pub(crate) own: Option<(PathBuf, PathBuf)>,
}

/// A host whose `docker` program reaches the engine there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SshAddress {
    pub(crate) host: String,
    pub(crate) user: Option<String>,
    pub(crate) port: Option<u16>,
    /// The engine's socket there, where it is not the usual one.
    pub(crate) socket: Option<String>,
    /// A configuration of ssh instead of the user's own.
    pub(crate) config: Option<PathBuf>,
}

/// The keys of a section that say where an engine is.
#[derive(Debug, Default)]
pub(crate) struct AddressKeys {
    pub(crate) endpoint: Option<String>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) ssh_config: Option<PathBuf>,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp { host, port, .. } if host.contains(':') => {
                write!(f, "tcp://[{host}]:{port}")
            }
            Self::Tcp { host, port, .. } => write!(f, "tcp://{host}:{port}"),
            Self::Ssh(ssh) => {
                f.write_str("ssh://")?;
                if let Some(user) = &ssh.user {
                    write!(f, "{user}@")?;
                }
                match ssh.host.contains(':') {
                    true => write!(f, "[{}]", ssh.host)?,
                    false => f.write_str(&ssh.host)?,
                }
                if let Some(port) = ssh.port {
                    write!(f, ":{port}")?;
                }
                f.write_str(ssh.socket.as_deref().unwrap_or_default())
            }
        }
    }
}

impl Address {
    /// What makes Docker's own program speak to the same engine: its `DOCKER_HOST` and further
    /// options. `None` where it knows no way to say it.
    pub(crate) fn for_docker(&self) -> Option<(String, Vec<String>)> {
        match self {
            Self::Unix(path) => Some((format!("unix://{}", path.display()), Vec::new())),
            Self::Tcp { tls: None, .. } => Some((self.to_string(), Vec::new())),
            Self::Tcp { tls: Some(tls), .. } => {
                let file = |option: &str, path: &Path| format!("--{option}={}", path.display());
                let mut options = vec!["--tlsverify".to_owned(), file("tlscacert", &tls.ca)];
                if let Some((cert, key)) = &tls.own {
                    options.extend([file("tlscert", cert), file("tlskey", key)]);
                }
                Some((self.to_string(), options))
            }
            // It starts ssh with the user's own configuration, and looks for the usual socket.
            Self::Ssh(ssh) if ssh.config.is_some() || ssh.socket.is_some() => None,
            Self::Ssh(_) => Some((self.to_string(), Vec::new())),
        }
    }
}

impl AddressKeys {
    /// The address of the section `path`; `None` where it says none. Relative paths are taken from
    /// `base`.
    pub(crate) fn read(self, path: &str, base: &Path) -> Result<Option<Address>> {
        let bad = |why: String| {
            Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!("[{path}] {why}"),
            )
        };
        let Some(endpoint) = self.endpoint else {
            let stray = [
                ("ca", &self.ca),
                ("cert", &self.cert),
                ("key", &self.key),
                ("ssh_config", &self.ssh_config),
            ];
            return match stray.iter().find(|(_, value)| value.is_some()) {
                Some((key, _)) => Err(bad(format!(
                    "`{key}` belongs to an `endpoint`, and there is none"
                ))),
                None => Ok(None),
            };
        };
        let forms = "write unix:///PATH, tcp://HOST:PORT or ssh://[USER@]HOST[:PORT]";
        let Some((scheme, rest)) = endpoint.split_once("://") else {
            return Err(bad(format!(
                "`endpoint`: {endpoint:?} is no address of an engine"
            ))
            .hint(forms));
        };
        if scheme != "tcp" && (self.ca.is_some() || self.cert.is_some() || self.key.is_some()) {
            return Err(bad(format!(
                "`ca`, `cert` and `key` are for tcp, not for {endpoint}"
            )));
        }
        if scheme != "ssh" && self.ssh_config.is_some() {
            return Err(bad(format!("`ssh_config` is for ssh, not for {endpoint}")));
        }
        let (before, socket) = match (scheme, rest.find('/')) {
            ("unix", _) if rest.starts_with('/') => return Ok(Some(Address::Unix(rest.into()))),
            ("tcp" | "ssh", Some(at)) => rest.split_at(at),
            ("tcp" | "ssh", None) => (rest, ""),
            _ => {
                return Err(bad(format!(
                    "`endpoint`: {endpoint:?} is no address of an engine"
                ))
                .hint(forms));
            }
        };
        let (user, place) = match before.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, before),
        };
        let (host, port) = host_and_port(place)
            .filter(|(host, _)| !host.is_empty() && !host.starts_with('-'))
            .ok_or_else(|| bad(format!("`endpoint`: {place:?} is not HOST:PORT")).hint(forms))?;
        if scheme == "ssh" {
            if user
                .is_some_and(|user| user.is_empty() || user.starts_with('-') || user.contains(':'))
            {
                return Err(bad("`endpoint`: what is before the @ must be a user's name alone".to_owned())
                    .hint("a key in ssh's agent or configuration signs in; passwords are never written here"));
            }
            return Ok(Some(Address::Ssh(SshAddress {
                host,
                user: user.map(str::to_owned),
                port,
                socket: (socket.len() > 1).then(|| socket.to_owned()),
                config: self.ssh_config.map(|path| base.join(path)),
            })));
        }
        if user.is_some() || socket.len() > 1 {
            return Err(bad(format!(
                "`endpoint`: {endpoint:?} has more than HOST:PORT"
            )));
        }
        let own = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((base.join(cert), base.join(key))),
            (None, None) => None,
            _ => return Err(bad("`cert` and `key` belong together".to_owned())),
        };
        let tls = match self.ca {
            Some(ca) => Some(TlsFiles {
                ca: base.join(ca),
                own,
            }),
            None if own.is_some() => {
                return Err(bad(
                    "`ca` is missing: whose certificates are the engine's?".to_owned()
                ));
            }
            None => None,
        };
        let here = host == "localhost"
            || host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        if tls.is_none() && !here {
            return Err(Error::new(
                ErrorKind::Config,
                "config.plain_tcp",
                format!("[{path}] `endpoint`: {endpoint} without TLS: who reaches that port is root there, and reads all that is restored"),
            )
            .hint("name `ca`, `cert` and `key`, or use ssh://"));
        }
        let usual = if tls.is_some() { Some(TLS_PORT) } else { None };
        let port = port
            .or(usual)
            .ok_or_else(|| bad(format!("`endpoint`: {endpoint:?} names no port")))?;
        Ok(Some(Address::Tcp { host, port, tls }))
    }
}

/// `HOST`, `HOST:PORT`, `[ADDRESS]`, `[ADDRESS]:PORT`.
fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            match rest.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if rest.is_empty() => (host, None),
                None => return None,
            }
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let port = port.map(str::parse).transpose().ok()?;
    Some((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(endpoint: &str, more: &[&str]) -> Result<String> {
        let file = |name: &str| more.contains(&name).then(|| PathBuf::from(name));
        let keys = AddressKeys {
            endpoint: Some(endpoint.to_owned()),
            ca: file("ca"),
            cert: file("cert"),
            key: file("key"),
            ssh_config: file("ssh_config"),
        };
        keys.read("nodes.x", Path::new("/base"))
            .map(|address| address.unwrap().to_string())
    }

    #[test]
    fn docker_is_told_the_same() {
        let told = |address: Address| address.for_docker();
        let unix = Address::Unix("/run/d.sock".into());
        assert_eq!(
            told(unix),
            Some(("unix:///run/d.sock".to_owned(), Vec::new()))
        );
        let tcp = |own| Address::Tcp {
            host: "one".to_owned(),
            port: 2376,
            tls: Some(TlsFiles {
                ca: "/ca".into(),
                own,
            }),
        };
        let (host, options) = told(tcp(Some(("/cert".into(), "/key".into())))).unwrap();
        assert_eq!(host, "tcp://one:2376");
        assert_eq!(
            options,
            [
                "--tlsverify",
                "--tlscacert=/ca",
                "--tlscert=/cert",
                "--tlskey=/key"
            ]
        );
        assert_eq!(told(tcp(None)).unwrap().1.len(), 2);
        let ssh = |socket: Option<&str>| {
            Address::Ssh(SshAddress {
                host: "two".to_owned(),
                user: Some("op".to_owned()),
                port: None,
                socket: socket.map(str::to_owned),
                config: None,
            })
        };
        assert_eq!(told(ssh(None)).unwrap().0, "ssh://op@two");
        assert_eq!(told(ssh(Some("/run/other.sock"))), None);
    }

    #[test]
    fn addresses_are_read_as_docker_writes_them() {
        for (endpoint, more, shown) in [
            ("unix:///run/d.sock", &[][..], "/run/d.sock"),
            ("tcp://127.0.0.1:2375", &[], "tcp://127.0.0.1:2375"),
            ("tcp://[::1]:2375", &[], "tcp://[::1]:2375"),
            ("tcp://node", &["ca"], "tcp://node:2376"),
            ("tcp://node:1", &["ca", "cert", "key"], "tcp://node:1"),
            ("ssh://node", &["ssh_config"], "ssh://node"),
            ("ssh://root@10.0.0.2:2222", &[], "ssh://root@10.0.0.2:2222"),
            (
                "ssh://u@[fe80::1]/run/d.sock",
                &[],
                "ssh://u@[fe80::1]/run/d.sock",
            ),
        ] {
            assert_eq!(read(endpoint, more).unwrap(), shown);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (endpoint, more, says) in [
            ("node:2376", &[][..], "no address"),
            ("http://node:1", &[], "no address"),
            ("unix://relative", &[], "no address"),
            ("tcp://node:2375", &[], "without TLS"),
            ("tcp://127.0.0.1", &[], "names no port"),
            ("tcp://node:x", &["ca"], "not HOST:PORT"),
            ("tcp://node:1", &["ca", "cert"], "belong together"),
            ("tcp://node:1", &["cert", "key"], "`ca` is missing"),
            ("tcp://u@node:1", &["ca"], "more than"),
            ("ssh://node", &["ca"], "are for tcp"),
            ("ssh://-oProxyCommand=x", &[], "not HOST:PORT"),
            ("ssh://-l@node", &[], "a user's name alone"),
            ("ssh://root:secret@node", &[], "a user's name alone"),
            ("unix:///x", &["ssh_config"], "is for ssh"),
        ] {
            let error = read(endpoint, more).unwrap_err();
            assert!(error.message().contains(says), "{endpoint}: {error}");
            assert!(!error.message().contains("secret"), "{error}");
        }
    }
}
