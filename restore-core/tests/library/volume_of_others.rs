//! Volumes whose archives say nothing of their own directory, and whose links lead to where a container sees it.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use restore_core::platform::{Command, Endpoint, Platform, Process, Scratch, ServiceState, Volume};
use restore_core::{Result, Timestamp};
use restore_testing::archives::{ID, Site, put};

const CONFIG: &str = "
    [volumes.data]
    path = '@/volume'
    [services.app]
    command = ['true']
    user = 'www-data'
    [components.it]
    kind = 'volume'
    volume = 'data'
    service = 'app'
    stops = ['app']
";

fn artifact() -> String {
    format!("volumes/data-{ID}.tar.gz")
}

/// This host, whose services see the volume at `/data`, as containers do.
struct Mounted(Arc<dyn Platform>);

#[async_trait]
impl Platform for Mounted {
    fn describe(&self) -> String {
        self.0.describe()
    }

    fn services(&self) -> Vec<String> {
        self.0.services()
    }

    async fn service(&self, name: &str) -> Result<ServiceState> {
        self.0.service(name).await
    }

    async fn scale(&self, name: &str, replicas: u32) -> Result<()> {
        self.0.scale(name, replicas).await
    }

    async fn exec(&self, service: &str, command: Command) -> Result<Box<dyn Process>> {
        self.0.exec(service, command).await
    }

    async fn logs(&self, service: &str, since: Timestamp, limit: usize) -> Result<Vec<String>> {
        self.0.logs(service, since, limit).await
    }

    async fn endpoint(&self, service: &str) -> Result<Endpoint> {
        self.0.endpoint(service).await
    }

    async fn volume(&self, name: &str) -> Result<Arc<dyn Volume>> {
        self.0.volume(name).await
    }

    async fn volume_in(&self, _service: &str, _volume: &str) -> Result<Option<PathBuf>> {
        Ok(Some(PathBuf::from("/data")))
    }

    async fn scratch(&self, service: &str, command: Command) -> Result<Box<dyn Scratch>> {
        self.0.scratch(service, command).await
    }

    async fn path_in(&self, service: &str, host_path: &Path) -> Result<Option<PathBuf>> {
        self.0.path_in(service, host_path).await
    }

    async fn owner(&self, service: &str) -> Result<Option<(u32, u32)>> {
        self.0.owner(service).await
    }
}

fn mounted(host: Arc<dyn Platform>) -> Arc<dyn Platform> {
    Arc::new(Mounted(host))
}

#[tokio::test]
async fn links_into_the_mount_point_of_a_container_stay_inside() {
    let site = Site::new();
    std::fs::create_dir(site.path("volume")).unwrap();
    let made = site.path("made");
    put(made.join("releases/5/index"), "5");
    put(made.join("a/c/x"), "x");
    symlink("/data/releases/5", made.join("current")).unwrap();
    symlink("/run/mysqld/x", made.join("mysqld.sock")).unwrap();
    symlink("c/../../d", made.join("a/b")).unwrap();
    site.pack(&artifact(), &made, &["."]);
    let component = |keys: &str| {
        site.component_on(&format!("{CONFIG}\n{keys}"), mounted)
            .unwrap()
    };

    // All that are refused at once, with the key that lets them in.
    let cx = site.context().await;
    let error = component("links = 'inside'").stage(&cx).await.unwrap_err();
    assert_eq!(error.code(), "archive.member_refused", "{error}");
    let told = error.message();
    assert!(told.contains("2 members"), "{told}");
    for (name, is_refused) in [("mysqld.sock", true), ("a/b", true), ("current", false)] {
        assert_eq!(told.contains(name), is_refused, "{told}");
    }
    let hint = error.hint_text().unwrap();
    assert!(hint.contains("allow_links"), "{hint}");

    // Where they are data, as in every other backup, they come back as they are.
    let any = component("");
    any.stage(&cx).await.unwrap();
    any.cut_over(&cx).await.unwrap();
    for (name, target) in [
        ("current", "/data/releases/5"),
        ("mysqld.sock", "/run/mysqld/x"),
        ("a/b", "c/../../d"),
    ] {
        let link = std::fs::read_link(site.path("volume").join(name)).unwrap();
        assert_eq!(link, Path::new(target));
    }
    any.undo(&cx).await.unwrap();

    std::fs::remove_file(made.join("a/b")).unwrap();
    site.pack(&artifact(), &made, &["."]);
    let cx = site.context().await;
    let some = component("allow_links = ['/run/mysqld']");
    some.stage(&cx).await.unwrap();
}

#[tokio::test]
async fn a_directory_that_no_archive_names_keeps_what_it_has_and_that_is_told() {
    for (members, owner, mode, codes) in [
        // As `tar -C DIR .` and `tar *` make them.
        (&["."][..], 33, 0o700, &[][..]),
        (&["db", "more"][..], 0, 0o755, &["volume.closed"][..]),
    ] {
        let site = Site::new();
        let volume = site.path("volume");
        std::fs::create_dir(&volume).unwrap();
        std::fs::set_permissions(&volume, PermissionsExt::from_mode(0o755)).unwrap();
        let made = site.path("made");
        put(made.join("db"), "1");
        put(made.join("more/x"), "2");
        for name in ["db", "more", "more/x", "."] {
            chown(made.join(name), Some(33), Some(33)).unwrap();
        }
        std::fs::set_permissions(&made, PermissionsExt::from_mode(0o700)).unwrap();
        site.pack(&artifact(), &made, members);
        let component = site.component(CONFIG);
        let cx = site.context().await;
        let staged = component.stage(&cx).await.unwrap();
        let found: Vec<&str> = staged.findings.iter().map(|it| it.code.as_str()).collect();
        assert_eq!(found, codes, "{members:?}");
        component.cut_over(&cx).await.unwrap();
        let meta = std::fs::metadata(&volume).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o7777), (owner, mode));
    }
}
