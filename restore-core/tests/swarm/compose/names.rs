//! What there is not is named, with what there is.

use restore_core::{ErrorKind, Severity};

use super::project::{OBEYS, Project, shared};

#[tokio::test(flavor = "multi_thread")]
async fn what_there_is_not_is_named_with_what_there_is() {
    let engine = shared();
    let project = Project::new(&engine, "named");
    project.run("web", 1, &[], OBEYS);
    project.run("web_worker", 1, &[], OBEYS);
    let bare = Project::new(&engine, "bare");
    let platform = project.platform(
        "[services.web]\n[services.aliased]\nname = 'web_worker'\n[services.we]\n\
         [services.lost]\nproject = 'name'\n[services.idle]\nproject = 'bare'\nname = 'db'\n",
    );
    assert_eq!(platform.service("web").await.unwrap().running, 1);
    assert_eq!(platform.service("aliased").await.unwrap().running, 1);
    for (service, code, says, hint) in [
        (
            "nobody",
            "platform.no_service",
            "this site",
            "known are web",
        ),
        ("we", "platform.no_service", "\"we\"", "web, web_worker"),
        (
            "we",
            "platform.no_service",
            "project named",
            "-f /srv/project/compose.yml up --no-start we` in /srv/project",
        ),
        ("lost", "compose.no_project", "\"name\"", "named"),
        (
            "idle",
            "compose.no_containers",
            "none of db",
            "docker compose -p bare up --no-start db",
        ),
    ] {
        let error = platform.service(service).await.unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            (code, ErrorKind::NotFound),
            "{error}"
        );
        assert!(error.message().contains(says), "{says}: {error}");
        let told = error.hint_text().unwrap();
        assert!(told.contains(hint), "{hint}: {told}");
        let error = platform.scale(service, 1).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        // What is not there does not run: somebody who removed it keeps no run from being taken back.
        let down = platform.scale(service, 0).await.err();
        let unknown = (service == "nobody").then_some(code);
        assert_eq!(down.as_ref().map(restore_core::Error::code), unknown);
    }
    let names = ["web", "lost"].map(str::to_owned);
    let found = platform.inspect(&names).await.unwrap();
    let told: Vec<_> = found
        .iter()
        .map(|it| (it.code.as_str(), it.subject.as_str(), it.severity))
        .collect();
    assert_eq!(told, [("compose.no_project", "lost", Severity::Error)]);
    drop(bare);
}

/// Looking for a volume makes none, and a part of a name is no name.
#[tokio::test(flavor = "multi_thread")]
async fn volumes_have_the_names_of_compose_files_or_of_the_engine() {
    let engine = shared();
    let project = Project::new(&engine, "volumes");
    let data = project.volume("data");
    engine.docker(&["volume", "create", "outside"]);
    // The engine's own volume of the same name is another one.
    engine.docker(&["volume", "create", "data"]);
    let folder = engine.folder("bound");
    let bound = format!(
        "[volumes.data]\n[volumes.plain]\nname = 'data'\nexternal = true\n[volumes.bound]\npath = '{0}'\n[volumes.gone]\npath = '{0}/gone'\n",
        folder.display()
    );
    let platform = project.platform(&bound);
    for (name, path) in [
        ("data", &data),
        ("volumes_data", &data),
        ("plain", &engine.volume("data")),
        ("outside", &engine.volume("outside")),
        ("bound", &folder),
    ] {
        let volume = platform.volume(name).await.unwrap();
        assert_eq!(volume.path().as_ref(), Some(path), "{name}");
    }
    let before = engine.docker(&["volume", "ls", "-q"]);
    for wrong in ["dat", "data2", "volumes_dat", "gone"] {
        let error = platform.volume(wrong).await.err().unwrap();
        assert_eq!(error.code(), "platform.no_volume", "{wrong}: {error}");
    }
    let error = platform.volume("dat").await.err().unwrap();
    assert!(
        error.hint_text().unwrap().contains("data (volumes_data)"),
        "{:?}",
        error.hint_text()
    );
    assert_eq!(engine.docker(&["volume", "ls", "-q"]), before);
    // One that is gone has a way back.
    let error = platform.volume("data2").await.err().unwrap();
    let way = "where it is gone, `docker compose up --no-start` makes an empty one";
    assert!(error.hint_text().unwrap().contains(way), "{error}");
    project.volume("data2");
    assert!(platform.volume("data2").await.is_ok());
}
