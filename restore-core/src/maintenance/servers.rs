//! The servers of an nginx: where they listen, for which names, with which certificates.

use std::fmt;

use super::tokens::Directive;

/// An address that servers listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ListenAddr {
    /// `*`, `[::]`, an address or a name, as nginx takes it.
    pub(crate) host: String,
    /// The first and the last port.
    pub(crate) ports: (u16, u16),
    /// Not written anywhere: what nginx does where a server says nothing.
    pub(crate) implied: bool,
}

/// How a place is listened on. nginx adds these up over all servers of the place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Over TCP, as all is but for QUIC, which may be there as well.
    pub(crate) tcp: bool,
    pub(crate) ssl: bool,
    pub(crate) http2: bool,
    pub(crate) quic: bool,
    pub(crate) proxy_protocol: bool,
    /// `[::]` takes IPv4 connections too.
    pub(crate) both_families: bool,
}

/// One `server` block.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Server {
    /// Where it listens; unix sockets are left out.
    pub(crate) listens: Vec<(ListenAddr, Options)>,
    /// Its names as written; empty: the empty name.
    pub(crate) names: Vec<String>,
    /// Its TLS directives, to be repeated where it is stood in for.
    pub(crate) tls: Vec<Directive>,
}

impl Options {
    /// Both together.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            tcp: self.tcp || other.tcp,
            ssl: self.ssl || other.ssl,
            http2: self.http2 || other.http2,
            quic: self.quic || other.quic,
            proxy_protocol: self.proxy_protocol || other.proxy_protocol,
            both_families: self.both_families || other.both_families,
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.ports.0)?;
        if self.ports.1 != self.ports.0 {
            write!(f, "-{}", self.ports.1)?;
        }
        Ok(())
    }
}

/// Reads a `server` block.
pub(crate) fn server(block: &[Directive]) -> Server {
    let mut server = Server::default();
    let mut any_listen = false;
    let mut old_ssl = false;
    for directive in block.iter().filter(|inner| inner.block.is_none()) {
        match directive.name.as_str() {
            "listen" => {
                any_listen = true;
                server.listens.extend(listen(&directive.args));
            }
            "server_name" => server.names.extend(directive.args.iter().cloned()),
            // The old way to say `listen … ssl`.
            "ssl" => old_ssl = directive.args.first().is_some_and(|arg| arg == "on"),
            // Who has no client certificate is to see the page all the same.
            "ssl_verify_client" => {}
            "http2" | "http3" => server.tls.push(directive.clone()),
            name if name.starts_with("ssl_") => server.tls.push(directive.clone()),
            _ => {}
        }
    }
    if !any_listen {
        let port = if rustix::process::geteuid().is_root() {
            80
        } else {
            8000
        };
        let place = ListenAddr {
            host: "*".to_owned(),
            ports: (port, port),
            implied: true,
        };
        let options = Options {
            tcp: true,
            ..Options::default()
        };
        server.listens.push((place, options));
    }
    for (_, options) in &mut server.listens {
        options.ssl |= old_ssl;
    }
    server
}

fn listen(args: &[String]) -> Option<(ListenAddr, Options)> {
    let (address, flags) = args.split_first()?;
    let place = place(address)?;
    let has = |wanted: &str| flags.iter().any(|flag| flag == wanted);
    let options = Options {
        tcp: !has("quic"),
        ssl: has("ssl"),
        http2: has("http2"),
        quic: has("quic"),
        proxy_protocol: has("proxy_protocol"),
        both_families: has("ipv6only=off"),
    };
    Some((place, options))
}

fn place(address: &str) -> Option<ListenAddr> {
    if address.starts_with("unix:") {
        return None;
    }
    let (host, port) = if let Some(end) = address.find(']') {
        let (host, rest) = address.split_at(end + 1);
        (host, rest.strip_prefix(':'))
    } else if address.starts_with(|c: char| c.is_ascii_digit()) && !address.contains(['.', ':']) {
        ("*", Some(address))
    } else {
        match address.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        }
    };
    let ports = match port {
        None => (80, 80),
        Some(port) => match port.split_once('-') {
            Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
            None => (port.parse().ok()?, port.parse().ok()?),
        },
    };
    let host = if host == "0.0.0.0" { "*" } else { host };
    Some(ListenAddr {
        host: host.to_owned(),
        ports,
        implied: false,
    })
}

/// The kinds of names, best match first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameKind {
    /// `www.example.org`
    Exact,
    /// `*.example.org`, `.example.org`, `www.*`
    Wildcard,
    /// `~^www\.`
    Regex,
}

/// What kind of name this is.
pub(crate) fn kind(name: &str) -> NameKind {
    if name.starts_with('~') {
        NameKind::Regex
    } else if name.starts_with('.') || name.contains('*') {
        NameKind::Wildcard
    } else {
        NameKind::Exact
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::directives;
    use super::*;

    fn read(text: &str) -> Server {
        server(&directives(text))
    }

    fn places(text: &str) -> Vec<String> {
        read(text)
            .listens
            .iter()
            .map(|(place, _)| place.to_string())
            .collect()
    }

    #[test]
    fn addresses_are_taken_as_nginx_takes_them() {
        for (written, meant) in [
            ("80", "*:80"),
            ("0.0.0.0:81", "*:81"),
            ("*:82", "*:82"),
            ("127.0.0.1", "127.0.0.1:80"),
            ("localhost:83", "localhost:83"),
            ("localhost", "localhost:80"),
            ("[::]:84", "[::]:84"),
            ("[::1]", "[::1]:80"),
            ("9000-9003", "*:9000-9003"),
        ] {
            assert_eq!(places(&format!("listen {written};")), [meant]);
        }
        assert_eq!(places("listen unix:/run/x.sock;"), Vec::<String>::new());
        assert!(read("server_name a;").listens[0].0.implied);
    }

    #[test]
    fn what_a_server_says_of_tls_is_kept_but_for_client_certificates() {
        let server = read(
            "listen 443 ssl http2 default_server; listen 80; server_name a .b;\n\
             ssl_certificate a.pem; ssl_certificate_key a.key; ssl_verify_client on;\n\
             location / { ssl_nothing x; server_name no; }",
        );
        assert_eq!(server.names, ["a", ".b"]);
        let kept: Vec<&str> = server.tls.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(kept, ["ssl_certificate", "ssl_certificate_key"]);
        assert!(server.listens[0].1.ssl && server.listens[0].1.http2);
        assert!(!server.listens[1].1.ssl);
        assert!(read("listen 443; ssl on;").listens[0].1.ssl);
    }
}
