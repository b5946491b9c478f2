//! Where servers are reached, where data is, and who has it open.

use std::path::Path;

use restore_core::platform::Command;
use tokio::io::AsyncReadExt;

use super::project::{OBEYS, Project, shared};

const SERVE: &str = "echo ok >/tmp/index.html; exec httpd -f -p 8000 -h /tmp";

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_reached_from_here_and_from_inside() {
    let engine = shared();
    let project = Project::new(&engine, "places");
    project.run("inner", 1, &["--expose", "8000"], SERVE);
    project.run("outer", 1, &["-p", "127.0.0.1:28124:8000"], SERVE);
    project.run("anywhere", 1, &["-p", "28125:8000", "--expose", "9"], SERVE);
    project.run(
        "host",
        1,
        &["--network", "host"],
        "exec httpd -f -p 28126 -h /tmp",
    );
    let platform = project.platform(
        "[services.inner]\nready = 'tcp'\n[services.outer]\nready = 'tcp'\n[services.anywhere]\nready = 'tcp'\n\
         [services.host]\nport = 28126\nready = 'tcp'\n[services.said]\nname = 'inner'\nendpoint = 'h:1'\n",
    );
    for (name, host, port, inside) in [
        ("inner", None, 8000, 8000),
        ("outer", Some("127.0.0.1"), 28124, 8000),
        ("anywhere", Some("127.0.0.1"), 28125, 8000),
        ("host", Some("127.0.0.1"), 28126, 28126),
    ] {
        platform.scale(name, 1).await.unwrap();
        let at = platform.endpoint(name).await.unwrap();
        assert_eq!(at.port, port, "{name}: {at:?}");
        assert!(host.is_none_or(|host| host == at.host), "{name}: {at:?}");
        assert_eq!(at.on_this_host, host.is_none(), "{name}: {at:?}");
        tokio::net::TcpStream::connect((at.host.as_str(), at.port))
            .await
            .unwrap();
        let of_inside = platform.endpoint_inside(name).await.unwrap();
        assert_eq!(
            (of_inside.host.as_str(), of_inside.port),
            ("127.0.0.1", inside)
        );
        let published = platform.published(name, inside).await.unwrap();
        match name {
            // Nothing stands in between.
            "host" => assert_eq!(published, []),
            _ => assert_eq!(published, [at]),
        }
    }
    assert_eq!(platform.endpoint("said").await.unwrap().host, "h");
    // One that runs where nobody reaches it is not said to be down.
    project.run("lonely", 1, &["--network", "none"], SERVE);
    let lonely = project.platform("[services.lonely]\n");
    let error = lonely.published("lonely", 8000).await.unwrap_err();
    assert_eq!(error.code(), "platform.no_endpoint", "{error}");
    assert!(
        error.message().contains("publishes no port 8000"),
        "{error}"
    );
    assert!(error.hint_text().unwrap().contains("8000:8000"), "{error}");
    platform.scale("inner", 0).await.unwrap();
    let error = platform.endpoint("inner").await.unwrap_err();
    assert_eq!(error.code(), "compose.not_running", "{error}");
    project.run("mute", 1, &[], OBEYS);
    let platform = project.platform("[services.mute]\n");
    let error = platform.endpoint("mute").await.unwrap_err();
    assert_eq!(error.code(), "platform.no_endpoint", "{error}");
    assert!(error.hint_text().unwrap().contains("port ="), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_owners_are_seen_as_the_service_sees_them() {
    let engine = shared();
    let project = Project::new(&engine, "seen");
    let data = project.volume("data");
    let host = tempfile::tempdir().unwrap();
    std::fs::create_dir(host.path().join("inner")).unwrap();
    std::fs::write(data.join("word"), "treasure").unwrap();
    let bind = format!("{}:/etc/tree", host.path().display());
    let options = ["-v", &bind, "-v", "seen_data:/data", "--user", "12:34"];
    project.run("web", 1, &options, OBEYS);
    let platform = project.platform("[services.web]\n");
    let seen = async |path: &Path| platform.path_in("web", path).await.unwrap();
    for running in [true, false] {
        if !running {
            platform.scale("web", 0).await.unwrap();
        }
        assert_eq!(
            seen(&host.path().join("inner")).await.unwrap().to_str(),
            Some("/etc/tree/inner")
        );
        assert_eq!(
            seen(&data.join("x")).await.unwrap().to_str(),
            Some("/data/x")
        );
        assert_eq!(seen(Path::new("/etc/passwd")).await, None);
        let inside = platform.volume_in("web", "data").await.unwrap();
        assert_eq!(inside.unwrap().to_str(), Some("/data"));
        assert_eq!(platform.owner("web").await.unwrap(), Some((12, 34)));
        // In the service's container, and in one of our own where it does not run.
        let command = Command::new(["sh", "-c", "cat /data/word; id -u"]);
        let mut process = platform.exec("web", command).await.unwrap();
        let mut said = String::new();
        let mut stdout = process.stdout().unwrap();
        stdout.read_to_string(&mut said).await.unwrap();
        assert_eq!(process.wait().await.unwrap().code, 0);
        assert_eq!(said, "treasure12\n");
    }
    platform.tidy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_container_is_told() {
    let engine = shared();
    let project = Project::new(&engine, "each");
    for number in [1, 2, 3] {
        project.run("web", number, &[], OBEYS);
    }
    let platform = project.platform("[services.web]\n");
    let command = Command::new(["hostname"]);
    let mut told = Vec::new();
    for mut process in platform.exec_each("web", command).await.unwrap() {
        let mut said = String::new();
        let mut stdout = process.stdout().unwrap();
        stdout.read_to_string(&mut said).await.unwrap();
        assert_eq!(process.wait().await.unwrap().code, 0);
        told.push(said.trim().to_owned());
    }
    let wanted: Vec<String> = project
        .running()
        .iter()
        .map(|id| id[..12].to_owned())
        .collect();
    assert_eq!(told, wanted);
}

/// Who has a volume mounted, as long as its containers are up: by the site's own name where it has one.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_in_use_while_a_container_that_mounts_it_is_up() {
    let engine = shared();
    let project = Project::new(&engine, "used");
    project.volume("data");
    let folder = tempfile::tempdir().unwrap();
    let bind = format!("{}:/conf", folder.path().display());
    let options = ["-v", "used_data:/data", "-v", &bind];
    project.run("web", 1, &options, OBEYS);
    project.run("web", 2, &options, OBEYS);
    project.run("worker", 1, &options[..2], OBEYS);
    project.create("idle", 1, &options, &[crate::swarm::engine::IMAGE, "true"]);
    let sections = format!(
        "[services.alias]\nname = 'web'\n[volumes.conf]\npath = '{}/a'\n",
        folder.path().display()
    );
    let platform = project.platform(&sections);
    let users = async |volume| {
        let mut users = platform.in_use_by(volume).await.unwrap();
        users.sort();
        users
    };
    assert_eq!(users("data").await, ["alias", "worker"]);
    assert_eq!(users("conf").await, ["alias"]);
    platform.scale("alias", 0).await.unwrap();
    assert_eq!(users("data").await, ["worker"]);
    assert_eq!(users("conf").await, [""; 0]);
    assert_eq!(users("dat").await, [""; 0]);
    // Made by `docker compose run`: what stops the service does not stop it, so that it is told of.
    let one_off = ["--label", "com.docker.compose.oneoff=True"];
    let one_off = [&options[..], &one_off].concat();
    project.run("web", 9, &one_off, OBEYS);
    assert_eq!(users("data").await, ["used-web-9", "worker"]);
    let found = platform.inspect(&["alias".to_owned()]).await.unwrap();
    let codes: Vec<&str> = found.iter().map(|it| it.code.as_str()).collect();
    assert_eq!(codes, ["compose.one_off"]);
}

/// A volume is a directory of the host too, which others have by its path, or as another volume.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_in_use_whichever_way_it_is_mounted() {
    let engine = shared();
    let project = Project::new(&engine, "ways");
    let data = project.volume("data");
    let folder = tempfile::tempdir().unwrap();
    let device = format!("device={}", folder.path().display());
    let options = ["--opt", "type=none", "--opt", "o=bind", "--opt", &device];
    engine.docker(&[&["volume", "create"], &options[..], &["ways_pages"]].concat());
    engine.docker(&[&["volume", "create"], &options[..], &["ways_twin"]].concat());

    let whole = format!("{}:/x", data.display());
    project.run("inside", 1, &["-v", &whole], OBEYS);
    let above = format!("{}:/x:ro", data.parent().unwrap().display());
    project.run("above", 1, &["-v", &above], OBEYS);
    project.run("named", 1, &["-v", "ways_pages:/x"], OBEYS);
    let bound = format!("{}:/x", folder.path().display());
    project.run("bound", 1, &["-v", &bound], OBEYS);
    project.run("other", 1, &["-v", "/proc:/x:ro"], OBEYS);
    let platform = project.platform(&format!(
        "[volumes.conf]\npath = '{}'\n[volumes.pages]\nname = 'ways_pages'\n[volumes.twin]\nname = 'ways_twin'\n",
        folder.path().display()
    ));
    for (volume, wanted) in [
        ("data", ["above", "inside"]),
        ("conf", ["bound", "named"]),
        ("pages", ["bound", "named"]),
        ("twin", ["bound", "named"]),
    ] {
        let mut users = platform.in_use_by(volume).await.unwrap();
        users.sort();
        assert_eq!(users, wanted, "{volume}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_containers_said_comes_in_the_order_of_time() {
    use restore_core::Timestamp;

    let engine = shared();
    let project = Project::new(&engine, "logs");
    let turns = tempfile::tempdir().unwrap();
    let mount = format!("{}:/turns", turns.path().display());
    let first = "echo one; touch /turns/1; until [ -e /turns/2 ]; do sleep 0.1; done; sleep 0.5; echo three; exec sleep 1000";
    let second = "until [ -e /turns/1 ]; do sleep 0.1; done; sleep 0.5; echo two >&2; touch /turns/2; exec sleep 1000";
    project.run("web", 1, &["-v", &mount], first);
    project.run("web", 2, &["-v", &mount], second);
    let unread = ["--log-driver", "none"];
    project.run("web", 3, &unread, "echo never; exec sleep 1000");
    let platform = project.platform("[services.web]\n");
    let long_ago = Timestamp::from(std::time::SystemTime::UNIX_EPOCH);
    let mut said = Vec::new();
    for _ in 0..100 {
        said = platform.logs("web", long_ago, 10).await.unwrap();
        if said.len() == 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(said, ["one", "two", "three"]);
    assert_eq!(
        platform.logs("web", long_ago, 2).await.unwrap(),
        ["two", "three"]
    );
    assert_eq!(
        platform.logs("web", Timestamp::now(), 5).await.unwrap(),
        [""; 0]
    );
}
