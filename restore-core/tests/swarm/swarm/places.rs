//! Where servers are reached, and where data is.

use super::engine::{Engine, Service};

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_reached_from_here_and_from_inside() {
    let engine = Engine::shared();
    engine.docker(&["network", "create", "-d", "overlay", "places"]);
    let serve = "echo ok >/tmp/index.html; httpd -f -p 8000 -h /tmp";
    let make = |name: &'static str, more: &[&str]| {
        let mut args = vec![
            "service",
            "create",
            "--detach",
            "--no-resolve-image",
            "--name",
            name,
            "--network",
            "places",
            "--endpoint-mode",
            "dnsrr",
        ];
        args.extend(more);
        args.extend([super::engine::IMAGE, "sh", "-c", serve]);
        engine.docker(&args);
    };
    make("inner", &[]);
    make(
        "outer",
        &["--publish", "mode=host,target=8000,published=28123"],
    );
    let platform = engine.platform(
        "[services.inner]\nport = 8000\nready = 'tcp'\n[services.outer]\nready = 'tcp'\n[services.said]\nname = 'inner'\nendpoint = 'h:1'\n[services.mute]\nname = 'inner'\n",
    );
    for name in ["inner", "outer"] {
        platform.scale(name, 1).await.unwrap();
        let at = platform.endpoint(name).await.unwrap();
        tokio::net::TcpStream::connect((at.host.as_str(), at.port))
            .await
            .unwrap();
        assert_eq!(at.port, if name == "inner" { 8000 } else { 28123 });
        let inside = platform.endpoint_inside(name).await.unwrap();
        assert_eq!((inside.host.as_str(), inside.port), ("127.0.0.1", 8000));
        let doors = platform.published(name, 8000).await.unwrap();
        assert_eq!(doors, [at]);
    }
    assert_eq!(platform.endpoint("said").await.unwrap().host, "h");
    let error = platform.endpoint("mute").await.unwrap_err();
    assert_eq!(error.code(), "platform.no_endpoint");
    assert!(error.hint_text().unwrap().contains("port ="), "{error}");
    platform.scale("inner", 0).await.unwrap();
    let error = platform.endpoint("inner").await.unwrap_err();
    assert_eq!(error.code(), "swarm.not_running", "{error}");
    engine.docker(&["service", "rm", "inner", "outer"]);
}

/// Looking for a volume makes none, and a part of a name is no name.
#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_known_by_their_exact_names() {
    let engine = Engine::shared();
    engine.docker(&["volume", "create", "stack_data"]);
    let platform = engine.platform("[volumes.data]\nname = 'stack_data'\n");
    let volume = platform.volume("data").await.unwrap();
    let mountpoint = engine.docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", "stack_data"]);
    assert_eq!(volume.path().unwrap().to_str().unwrap(), mountpoint);
    assert!(platform.volume("stack_data").await.is_ok());
    let before = engine.docker(&["volume", "ls", "-q"]);
    for wrong in ["stack_dat", "prometheus_data", "stack_data2"] {
        let error = platform.volume(wrong).await.err().unwrap();
        assert_eq!(error.code(), "platform.no_volume", "{wrong}: {error}");
    }
    let error = platform.volume("stack").await.err().unwrap();
    assert!(error.hint_text().unwrap().contains("stack_data"), "{error}");
    let way = "`docker volume create stack`";
    assert!(error.hint_text().unwrap().contains(way), "{error}");
    assert_eq!(engine.docker(&["volume", "ls", "-q"]), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_owners_are_seen_as_the_service_sees_them() {
    let engine = Engine::shared();
    let host = tempfile::tempdir().unwrap();
    std::fs::create_dir(host.path().join("inner")).unwrap();
    engine.docker(&["volume", "create", "seen_data"]);
    let bind = format!(
        "type=bind,source={},target=/etc/tree",
        host.path().display()
    );
    let service = Service::new(
        &engine,
        "seer",
        &[
            "--mount",
            &bind,
            "--mount",
            "type=volume,source=seen_data,target=/data",
            "--user",
            "12:34",
        ],
        "sleep 1000",
    );
    service.runs(1);
    let platform = engine.platform("[services.seer]\n");
    platform.scale("seer", 1).await.unwrap();
    let seen = async |path: &std::path::Path| platform.path_in("seer", path).await.unwrap();
    assert_eq!(
        seen(&host.path().join("inner")).await.unwrap().to_str(),
        Some("/etc/tree/inner")
    );
    let volume = platform.volume("seen_data").await.unwrap().path().unwrap();
    assert_eq!(
        seen(&volume.join("x")).await.unwrap().to_str(),
        Some("/data/x")
    );
    assert_eq!(seen(&volume).await.unwrap().to_str(), Some("/data"));
    assert_eq!(seen(std::path::Path::new("/etc/passwd")).await, None);
    assert_eq!(platform.owner("seer").await.unwrap(), Some((12, 34)));
}
