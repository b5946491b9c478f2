//! The file that turns users away, with its page.

use super::servers::{ListenAddr, NameKind, Options, Server, kind};
use super::tokens::quoted;
use crate::model::{Error, ErrorKind, Result, RunId, Timestamp};

/// The header that proves that an answer is the page, and of which run.
pub(crate) const MARK: &str = "X-Restore-Run";

/// nginx reads no word longer than 4096 bytes.
const LONGEST: usize = 3800;

/// The words of the page.
#[derive(Clone, Debug)]
pub(crate) struct PageText {
    pub(crate) title: String,
    pub(crate) message: String,
}

impl PageText {
    /// The given words, or plain ones.
    pub(crate) fn new(title: Option<String>, message: Option<String>) -> Result<Self> {
        let words = Self {
            title: title.unwrap_or_else(|| "Back soon".to_owned()),
            message: message.unwrap_or_else(|| {
                "We are working on this site. Please try again in a few minutes.".to_owned()
            }),
        };
        let run = RunId::generate();
        if words.html(&run, Timestamp::now()).len() > LONGEST {
            return Err(Error::new(
                ErrorKind::Config,
                "config.bad_value",
                "[maintenance] title and message are longer than nginx can hold in one page",
            )
            .hint("keep them below some 2000 characters"));
        }
        Ok(words)
    }

    /// The page. Holds no character that means something inside single quotes to nginx.
    fn html(&self, run: &RunId, since: Timestamp) -> String {
        let title = escaped(&self.title);
        let message = escaped(&self.message).replace('\n', "<br>");
        let since = moment(since);
        format!(
            "<!doctype html><html lang=en><meta charset=utf-8>\
             <meta name=viewport content=\"width=device-width\"><title>{title}</title>\
             <body style=\"font:18px/1.5 sans-serif;max-width:36em;margin:15vh auto;padding:0 1em\">\
             <h1>{title}</h1><p>{message}</p><p><small>Since {since}. Reference {run}</small></p>\n"
        )
    }
}

/// `2024-02-15 09:30 UTC`: what a visitor can read.
fn moment(at: Timestamp) -> String {
    let text = at.to_string();
    match (text.get(..10), text.get(11..16)) {
        (Some(date), Some(time)) => format!("{date} {time} UTC"),
        _ => text,
    }
}

/// Safe in HTML, and in nginx's single quotes too: `$` begins a variable there and nothing can
/// quote it, but as a character reference it is itself again.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' | '\\' | '$' => safe.push_str(&format!("&#{};", u32::from(c))),
            '\n' => safe.push('\n'),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// Each address with how it is listened on and the servers there, in nginx's order.
pub(crate) fn places(servers: &[Server]) -> Vec<(ListenAddr, Options, Vec<&Server>)> {
    let mut found: Vec<(ListenAddr, Options, Vec<&Server>)> = Vec::new();
    for server in servers {
        for (place, options) in &server.listens {
            match found.iter_mut().find(|(known, _, _)| known == place) {
                Some((_, known, there)) => {
                    *known = known.and(*options);
                    if !there.iter().any(|other| std::ptr::eq(*other, server)) {
                        there.push(server);
                    }
                }
                None => found.push((place.clone(), *options, vec![server])),
            }
        }
    }
    found
}

/// The file: for every address servers that answer to every name known there with the page.
///
/// It is read first. Of equal names nginx takes the first, so each exact and wildcard name must
/// be repeated; the catch-all expression `~^`, tried before the other expressions, and the empty
/// name take the rest, so that nothing needs to be a (second) default server. Where there is
/// TLS, each server is stood in for by one of its own, with its certificates.
pub(crate) fn file(servers: &[Server], words: &PageText, run: &RunId, since: Timestamp) -> String {
    let page = words.html(run, since);
    let mut text = format!(
        "# Written by restore, run {run}, since {since}: turns users away while data is restored.\n\
         # Removed at the end of the run. By hand: delete this file and reload nginx.\n"
    );
    for (place, options, there) in places(servers) {
        let mut seen: Vec<&str> = Vec::new();
        let mut plain: Vec<&str> = Vec::new();
        for server in &there {
            let mut names: Vec<&str> = Vec::new();
            for name in server.names.iter().map(String::as_str) {
                if name.is_empty() || seen.contains(&name) {
                    continue;
                }
                // Without TLS the catch-all is as good.
                if kind(name) == NameKind::Regex && !options.ssl {
                    continue;
                }
                seen.push(name);
                names.push(name);
            }
            if !options.ssl {
                plain.append(&mut names);
            } else if !names.is_empty() {
                block(&mut text, &place, options, &names, server, &page, run);
            }
        }
        plain.extend(["", "~^"]);
        // Who names nobody is shown the certificate that the first or the default server has.
        let Some(first) = there.first() else { continue };
        block(&mut text, &place, options, &plain, first, &page, run);
    }
    text
}

fn block(
    text: &mut String,
    place: &ListenAddr,
    options: Options,
    names: &[&str],
    server: &Server,
    page: &str,
    run: &RunId,
) {
    text.push_str("\nserver {\n");
    if !place.implied {
        // QUIC has a socket of its own, and none of the flags of TCP.
        let flags = [
            (options.ssl, " ssl"),
            (options.http2, " http2"),
            (options.proxy_protocol, " proxy_protocol"),
        ];
        let flags: String = flags
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, flag)| *flag)
            .collect();
        if options.tcp {
            text.push_str(&format!("    listen {place}{flags};\n"));
        }
        if options.quic {
            text.push_str(&format!("    listen {place} quic;\n"));
        }
    }
    for name in names {
        text.push_str(&format!("    server_name {};\n", quoted(name)));
    }
    if options.ssl || options.quic {
        for directive in &server.tls {
            let args: Vec<String> = directive.args.iter().map(|arg| quoted(arg)).collect();
            text.push_str(&format!("    {} {};\n", directive.name, args.join(" ")));
        }
    }
    text.push_str(&format!(
        "    types {{ }}\n    default_type \"text/html; charset=utf-8\";\n    \
         add_header {MARK} {run} always;\n    add_header Cache-Control no-store always;\n    \
         add_header Retry-After 120 always;\n    return 503 '{page}';\n}}\n"
    ));
}

#[cfg(test)]
mod tests {
    use super::super::servers::server;
    use super::super::tokens::directives;
    use super::*;

    fn made(servers: &[&str]) -> String {
        let servers: Vec<Server> = servers.iter().map(|s| server(&directives(s))).collect();
        let words = PageText::new(None, None).unwrap();
        let run = "20240215-093000-7f3a".parse().unwrap();
        file(
            &servers,
            &words,
            &run,
            std::time::SystemTime::UNIX_EPOCH.into(),
        )
    }

    #[test]
    fn every_name_of_an_address_is_repeated_once() {
        let text = made(&[
            "listen 80 default_server; listen [::]:80; server_name a.example a.example *.b;",
            "listen 80; server_name a.example ~^x c;",
        ]);
        let servers = directives(&text);
        assert_eq!(servers.len(), 2);
        let names: Vec<_> = servers
            .iter()
            .map(|s| server(s.block.as_ref().unwrap()).names)
            .collect();
        assert_eq!(names[0], ["a.example", "*.b", "c", "", "~^"]);
        assert_eq!(names[1], ["a.example", "*.b", "", "~^"]);
        assert!(!text.contains("default_server"));
        assert!(text.contains("Since 1970-01-01 00:00 UTC"), "{text}");
    }

    /// What may be said once only of an address stays where it was said; QUIC goes with no flag of TCP.
    #[test]
    fn flags_of_an_address_are_repeated_and_its_settings_are_not() {
        let text = made(&[
            "listen 80 reuseport backlog=512; listen [::]:80 ipv6only=on; server_name a;",
            "listen 443 ssl http2; listen 8443 ssl proxy_protocol; server_name b;",
            "listen 443 quic reuseport; listen 9443 quic; server_name b;",
        ]);
        let mut listens: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim().strip_prefix("listen "))
            .collect();
        listens.sort_unstable();
        listens.dedup();
        assert_eq!(
            listens,
            [
                "*:443 quic;",
                "*:443 ssl http2;",
                "*:80;",
                "*:8443 ssl proxy_protocol;",
                "*:9443 quic;",
                "[::]:80;",
            ]
        );
    }

    #[test]
    fn each_tls_server_keeps_its_certificate() {
        let text = made(&[
            "listen 443 ssl; server_name a; ssl_certificate a.pem; ssl_certificate_key a.key;",
            "listen 443 ssl; server_name b ~^b; ssl_certificate b.pem; ssl_certificate_key b.key;",
        ]);
        let servers: Vec<Server> = directives(&text)
            .iter()
            .map(|s| server(s.block.as_ref().unwrap()))
            .collect();
        let shown: Vec<_> = servers
            .iter()
            .map(|s| (s.names.join(" "), s.tls[0].args[0].as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("a".to_owned(), "a.pem"),
                ("b ~^b".to_owned(), "b.pem"),
                (" ~^".to_owned(), "a.pem")
            ]
        );
    }

    #[test]
    fn words_cannot_break_out_of_the_page() {
        let words = PageText::new(
            Some("a'; }\\ $host".to_owned()),
            Some("<script>\"&\u{1}\nsecond".to_owned()),
        )
        .unwrap();
        let html = words.html(&RunId::generate(), Timestamp::now());
        assert!(!html.contains(['\'', '\\', '$']), "{html}");
        assert!(!html.contains("<script>"));
        assert!(html.contains("<br>second"));
        assert!(PageText::new(None, Some("x".repeat(5000))).is_err());
    }
}
