//! The version of the engine's interface: agreed on with whatever answers at the socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use restore_core::Site;
use restore_core::component::Registry;
use restore_core::config::SiteConfig;

/// Asks an engine that speaks up to this version for a service: the error, and the paths that were
/// asked for.
async fn ask(version: &str) -> (restore_core::Error, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let (noted, answer) = (asked.clone(), format!("{{\"ApiVersion\": \"{version}\"}}"));
    // Ends with the tests.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines
                .map(Result::unwrap)
                .take_while(|line| !line.is_empty())
                .collect();
            let path = head[0].split(' ').nth(1).unwrap().to_owned();
            let (status, body) = match path.as_str() {
                "/version" => ("200 OK", answer.as_str()),
                _ => ("404 Not Found", "{\"message\": \"not here\"}"),
            };
            noted.lock().unwrap().push(path);
            write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            )
            .unwrap();
        }
    });
    let text = format!(
        "[site]\nname = 'tests'\nstate = 'state'\n[stores.main]\nkind = 'directory'\npath = 'backups'\n\
         [platform]\nkind = 'swarm'\nsocket = '{}'\n[components]\n[services.web]\n",
        socket.display()
    );
    let config = SiteConfig::from_toml(&text).unwrap();
    let site = Site::from_config(config, folder.path(), &Registry::default()).unwrap();
    let error = site.platform().service("web").await.unwrap_err();
    let asked = asked.lock().unwrap().clone();
    (error, asked)
}

#[tokio::test]
async fn the_newest_version_that_both_speak_is_used() {
    for (theirs, used) in [
        ("1.41", "/v1.41/services/web"),
        ("1.47", "/v1.47/services/web"),
        // The newest that is known here.
        ("1.99", "/v1.53/services/web"),
    ] {
        let (error, asked) = ask(theirs).await;
        assert_eq!(error.code(), "platform.no_service", "{theirs}: {error}");
        assert_eq!(asked, ["/version", used]);
    }
}

#[tokio::test]
async fn an_engine_that_is_too_old_is_asked_for_nothing_else() {
    for theirs in ["1.40", "1.4", "0.9", "?"] {
        let (error, asked) = ask(theirs).await;
        assert_eq!(error.code(), "swarm.old_engine", "{theirs}: {error}");
        assert_eq!(asked, ["/version"], "{theirs}");
    }
    let (error, _) = ask("1.40").await;
    for words in ["docker.sock", "1.40", "1.41 is needed"] {
        assert!(error.message().contains(words), "{words}: {error}");
    }
}
