//! A tree of files: staged from plain archives, swapped file by file, tested, taken back.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use restore_core::maintenance::FILE_NAME;
use restore_core::platform::Discard;
use restore_core::{ErrorKind, Severity};
use restore_testing::archives::{ID, Site, code, put};
use restore_testing::trees::fingerprint;

const CONFIG: &str = "
    [components.it]
    kind = 'files'
    archive = ['configs/nginx-config-{id}.tar.gz']
    root = '@/host'
    tree = 'mnt/nfs/nginx'
";

type Tree = BTreeMap<String, String>;

fn artifact() -> String {
    format!("configs/nginx-config-{ID}.tar.gz")
}

/// A tree with a backup of it, damaged since: the site, the tree at backup time and now.
fn damaged() -> (Site, Tree, Tree) {
    let site = Site::new();
    let tree = site.path("host/mnt/nfs/nginx");
    put(tree.join("nginx.conf"), "good");
    put(tree.join("conf.d/app.conf"), "good app");
    put(tree.join("conf.d/api.conf"), "good api");
    put(tree.join("ssl/key.pem"), "good key");
    chown(tree.join("ssl/key.pem"), Some(33), Some(33)).unwrap();
    std::fs::set_permissions(tree.join("ssl/key.pem"), PermissionsExt::from_mode(0o400)).unwrap();
    symlink("conf.d", tree.join("enabled")).unwrap();
    std::fs::create_dir(tree.join("empty")).unwrap();
    let good = fingerprint(&tree);
    site.pack(&artifact(), &site.path("host"), &["mnt/nfs/nginx"]);

    put(tree.join("nginx.conf"), "damaged");
    put(tree.join("conf.d/stray.conf"), "not in the backup");
    put(tree.join("stray/deep/file"), "not in the backup");
    std::fs::remove_file(tree.join("conf.d/api.conf")).unwrap();
    std::fs::remove_dir_all(tree.join("ssl")).unwrap();
    std::fs::set_permissions(tree.join("conf.d"), PermissionsExt::from_mode(0o700)).unwrap();
    let bad = fingerprint(&tree);
    (site, good, bad)
}

#[tokio::test]
async fn a_tree_comes_back_file_by_file_and_goes_back() {
    let (site, good, bad) = damaged();
    let tree = site.path("host/mnt/nfs/nginx");
    let live = || fingerprint(&tree);
    let inodes =
        || ["", "conf.d", "empty"].map(|path| std::fs::metadata(tree.join(path)).unwrap().ino());
    let mounted_by_others = inodes();
    let component = site.component(CONFIG);
    let cx = site.context().await;

    assert_eq!(component.path_prefix().as_deref(), Some("mnt/nfs/nginx"));
    assert_eq!(component.artifacts(cx.backup()), [artifact()]);
    let inspection = component.inspect(&cx).await.unwrap();
    assert_eq!(inspection.findings, []);
    assert_eq!(live(), bad);
    component.undo(&cx).await.unwrap();
    let first = component.stage(&cx).await.unwrap();
    assert_eq!(first, component.stage(&cx).await.unwrap());
    assert_eq!(first.findings, []);
    assert_eq!(first.facts["files"], 4);
    assert_eq!(live(), bad);

    component.cut_over(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    assert_eq!(live(), good);
    assert_eq!(inodes(), mounted_by_others);
    let outcome = &component.check(&cx).await.unwrap()[0];
    assert!(outcome.passed, "{}", outcome.detail);
    let replaced = component.replaced_at(&cx).await.unwrap().unwrap();
    let kept = std::fs::read_to_string(Path::new(&replaced).join("stray/deep/file"));
    assert_eq!(kept.unwrap(), "not in the backup");

    component.undo(&cx).await.unwrap();
    component.undo(&cx).await.unwrap();
    assert_eq!(live(), bad);
    assert_eq!(inodes(), mounted_by_others);

    component.cut_over(&cx).await.unwrap();
    component.discard(&cx, Discard::Replaced).await.unwrap();
    assert_eq!(live(), good);
    assert!(!tree.join(site.run.folder()).exists());
}

#[tokio::test]
async fn single_paths_are_restored_alone() {
    for (paths, restored) in [
        (
            vec!["mnt/nfs/nginx/conf.d/api.conf"],
            vec!["conf.d/api.conf"],
        ),
        (vec!["./mnt/nfs/nginx//nginx.conf"], vec!["nginx.conf"]),
        (vec!["@/host/mnt/nfs/nginx/nginx.conf"], vec!["nginx.conf"]),
        (
            vec!["mnt/nfs/nginx/ssl", "mnt/nfs/nginx/nginx.conf"],
            vec!["nginx.conf", "ssl", "ssl/key.pem"],
        ),
        (
            vec!["mnt/nfs/nginx/ssl/key.pem"],
            vec!["ssl", "ssl/key.pem"],
        ),
    ] {
        let (site, good, bad) = damaged();
        let tree = site.path("host/mnt/nfs/nginx");
        let here = site.path("");
        let here = here.to_str().unwrap().trim_end_matches('/');
        let paths: Vec<String> = paths.iter().map(|path| path.replace('@', here)).collect();
        let component = site.component(CONFIG);
        let cx = site.context().await.with_paths(paths.clone());
        component.inspect(&cx).await.unwrap();
        component.stage(&cx).await.unwrap();
        component.cut_over(&cx).await.unwrap();
        let mut expected = bad.clone();
        for path in restored {
            expected.insert(path.to_owned(), good[path].clone());
        }
        assert_eq!(fingerprint(&tree), expected, "{paths:?}");
        assert!(component.check(&cx).await.unwrap()[0].passed);
        component.undo(&cx).await.unwrap();
        assert_eq!(fingerprint(&tree), bad, "{paths:?}");
    }
}

/// An archive with an empty tree takes the place of a live one only where somebody says so, and one of far
/// fewer files asks, as of volumes.
#[tokio::test]
async fn a_tree_of_nothing_needs_a_word() {
    let (site, ..) = damaged();
    let tree = site.path("host/mnt/nfs/nginx");
    let component = site.component(CONFIG);
    let cx = site.context().await;
    for number in 0..300 {
        put(tree.join(format!("many/{number}")), "x");
    }
    let staged = component.stage(&cx).await.unwrap();
    let mut findings = staged.findings.iter();
    let asks = findings.any(|it| it.code == "volume.far_smaller" && it.asks);
    assert!(asks, "{:?}", staged.findings);
    component.discard(&cx, Discard::Staged).await.unwrap();
    std::fs::remove_dir_all(tree.join("many")).unwrap();

    let nothing = site.path("nothing");
    std::fs::create_dir_all(nothing.join("mnt/nfs/nginx/conf.d")).unwrap();
    site.pack(&artifact(), &nothing, &["mnt"]);
    let live = fingerprint(&tree);
    let cx = site.context().await;
    let planned = component.inspect(&cx).await.unwrap();
    let mut found = planned.findings.iter();
    let told = found.any(|it| it.code == "volume.empty_archive" && it.severity == Severity::Error);
    assert!(told, "{:?}", planned.findings);
    let refused = component.stage(&cx).await.unwrap_err();
    assert_eq!(refused.code(), "volume.empty_archive");
    assert!(refused.hint_text().unwrap().contains("--allow-empty it"));
    assert_eq!(fingerprint(&tree), live);
    let said = cx.with_empty(true);
    component.stage(&said).await.unwrap();
    component.discard(&said, Discard::Staged).await.unwrap();
}

#[tokio::test]
async fn paths_that_cannot_be_restored_are_refused() {
    let (site, _, bad) = damaged();
    let component = site.component(CONFIG);
    for (path, expected) in [
        ("etc/passwd", "files.path_outside"),
        ("/etc/passwd", "files.path_outside"),
        ("mnt/nfs/nginx2/x", "files.path_outside"),
        ("mnt/nfs/nginx/../../../etc", "path.not_relative"),
        (
            "mnt/nfs/nginx/conf.d/maintenance.conf",
            "files.path_excluded",
        ),
        // Live, and not in the backup: it must not go away because of that.
        ("mnt/nfs/nginx/conf.d/stray.conf", "archive.member_missing"),
    ] {
        let cx = site.context().await.with_paths(vec![path.to_owned()]);
        let error = component.stage(&cx).await.unwrap_err();
        assert_eq!(error.code(), expected, "{path}: {error}");
        if expected == "files.path_outside" {
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains("mnt/nfs/nginx"), "{error}");
        }
        assert_eq!(fingerprint(&site.path("host/mnt/nfs/nginx")), bad);
        assert!(
            !site
                .path("host/mnt/nfs/nginx")
                .join(site.run.folder())
                .exists()
        );
    }
}

#[tokio::test]
async fn members_outside_of_the_tree_are_left_out_and_said() {
    let (site, _, _) = damaged();
    let other = site.path("other");
    put(other.join("mnt/nfs/nginx/nginx.conf"), "good");
    put(other.join("mnt/nfs/nginx-old/nginx.conf"), "other");
    put(other.join("etc/cron.d/evil"), "* * * * * root evil");
    let members = [
        "mnt/nfs/nginx",
        "mnt/nfs/nginx-old/nginx.conf",
        "etc/cron.d/evil",
    ];
    site.pack(&artifact(), &other, &members);
    let component = site.component(CONFIG);
    let cx = site.context().await;
    let staged = component.stage(&cx).await.unwrap();
    assert_eq!(staged.findings.len(), 1, "{:?}", staged.findings);
    assert_eq!(staged.findings[0].code, "files.outside_tree");
    assert!(staged.findings[0].message.starts_with("2 members"));
    component.cut_over(&cx).await.unwrap();
    let live = fingerprint(&site.path("host/mnt/nfs/nginx"));
    assert_eq!(live.keys().collect::<Vec<_>>(), [".", "nginx.conf"]);
    assert!(!site.path("host/etc").exists());

    site.pack(&artifact(), &other, &["etc/cron.d/evil"]);
    let cx = site.context().await;
    component.undo(&cx).await.unwrap();
    assert_eq!(code(component.stage(&cx).await), "archive.member_missing");
}

#[tokio::test]
async fn maintenance_pages_neither_come_back_nor_go_away() {
    let (site, good, _) = damaged();
    let tree = site.path("host/mnt/nfs/nginx");
    let backup = site.path("other/mnt/nfs/nginx");
    put(backup.join("conf.d/app.conf"), "good app");
    put(backup.join("conf.d/maintenance.conf"), "old page");
    put(backup.join("conf.d").join(FILE_NAME), "old page of ours");
    put(
        backup.join("snippets/maintenance.conf"),
        "no page: not in a conf.d",
    );
    put(backup.join("cache/c"), "excluded");
    put(backup.join("logs/a.log"), "excluded");
    site.pack(&artifact(), &site.path("other"), &["mnt/nfs/nginx"]);
    put(tree.join("conf.d").join(FILE_NAME), "the page that is up");
    put(tree.join("cache/d"), "live cache");
    put(tree.join("logs/b.log"), "live log");

    let config = format!("{CONFIG}\nexclude = ['cache', '**/*.log']");
    let component = site.component(&config);
    let cx = site.context().await.with_maintenance(true);
    let staged = component.stage(&cx).await.unwrap();
    let codes: Vec<&str> = staged.findings.iter().map(|it| it.code.as_str()).collect();
    assert_eq!(
        codes,
        [
            "files.old_maintenance_page",
            "files.old_maintenance_page",
            "files.excluded"
        ]
    );
    assert!(
        staged
            .findings
            .iter()
            .any(|it| it.subject == "conf.d/maintenance.conf")
    );
    component.cut_over(&cx).await.unwrap();
    let live = fingerprint(&tree);
    assert_eq!(live["conf.d/app.conf"], good["conf.d/app.conf"]);
    let names: Vec<&str> = live.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            ".",
            "cache",
            "cache/d",
            "conf.d",
            &format!("conf.d/{FILE_NAME}"),
            "conf.d/app.conf",
            "logs",
            "logs/b.log",
            "snippets",
            "snippets/maintenance.conf",
        ]
    );
    let page = std::fs::read_to_string(tree.join("conf.d").join(FILE_NAME)).unwrap();
    assert_eq!(page, "the page that is up");
}

#[tokio::test]
async fn a_tree_that_is_gone_wholly_comes_back_and_goes_again() {
    let (site, good, _) = damaged();
    let tree = site.path("host/mnt/nfs/nginx");
    std::fs::remove_dir_all(&tree).unwrap();
    let component = site.component(CONFIG);
    let cx = site.context().await;
    component.undo(&cx).await.unwrap();
    component.discard(&cx, Discard::Staged).await.unwrap();
    let inspection = component.inspect(&cx).await.unwrap();
    assert_eq!(inspection.findings[0].code, "files.tree_absent");
    assert!(!tree.exists());

    // A stage that fails leaves nothing, and one that is given up neither.
    let good_archive = std::fs::read(site.artifact(&artifact())).unwrap();
    std::fs::write(site.artifact(&artifact()), &good_archive[..200]).unwrap();
    component.stage(&cx).await.unwrap_err();
    assert!(!tree.exists());
    std::fs::write(site.artifact(&artifact()), &good_archive).unwrap();
    component.stage(&cx).await.unwrap();
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert!(!tree.exists());

    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    assert_eq!(fingerprint(&tree), good);
    component.undo(&cx).await.unwrap();
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert!(!tree.exists());

    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    component.discard(&cx, Discard::Replaced).await.unwrap();
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(fingerprint(&tree), good);

    // Where nothing may be mounted, nothing is made.
    std::fs::remove_dir_all(site.path("host/mnt")).unwrap();
    assert_eq!(code(component.stage(&cx).await), "volume.missing");
    assert!(!site.path("host/mnt").exists());
}

#[tokio::test]
async fn the_test_and_the_reload_are_asked_in_their_turn() {
    let (site, _, bad) = damaged();
    let tree = site.path("host/mnt/nfs/nginx");
    let asked = || {
        let text = std::fs::read_to_string(site.path("asked")).unwrap_or_default();
        let _ = std::fs::remove_file(site.path("asked"));
        text.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let config = format!(
        "{CONFIG}
        test = ['sh', '-c', 'echo test >> @/asked; echo on stdout; echo on stderr >&2; ! grep -q damaged $0/refuse', '@']
        reload = ['sh', '-c', 'echo reload >> @/asked']"
    );
    put(site.path("refuse"), "");
    let component = site.component(&config);
    let cx = site.context().await;
    component.stage(&cx).await.unwrap();
    component.undo(&cx).await.unwrap();
    assert_eq!(asked(), [""; 0], "nothing was cut over");
    component.cut_over(&cx).await.unwrap();
    assert_eq!(asked(), ["test", "reload"]);
    component.undo(&cx).await.unwrap();
    assert_eq!(asked(), ["reload"]);

    let shielded = site.context().await.with_maintenance(true);
    component.cut_over(&shielded).await.unwrap();
    component.undo(&shielded).await.unwrap();
    assert_eq!(asked(), ["test"], "the maintenance mode reloads at its end");

    put(site.path("refuse"), "damaged");
    let error = component.cut_over(&shielded).await.unwrap_err();
    assert_eq!(error.code(), "files.test_failed");
    for part in ["on stdout", "on stderr", "exit code 1"] {
        assert!(error.message().contains(part), "{error}");
    }
    component.undo(&shielded).await.unwrap();
    assert_eq!(fingerprint(&tree), bad);

    let broken = site.component(&format!("{CONFIG}\ntest = ['/no/such/program']"));
    let findings = broken.inspect(&cx).await.unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].severity, restore_core::Severity::Error);
}

#[tokio::test]
async fn a_configuration_that_cannot_work_is_refused() {
    let site = Site::new();
    for (from, to, expected) in [
        ("tree = 'mnt", "tree = '../mnt", "path.not_relative"),
        ("tree = 'mnt", "trea = 'mnt", "config.unknown_key"),
        (
            "    tree",
            "    exclude = ['/etc']\n tree",
            "path.not_relative",
        ),
    ] {
        let config = CONFIG.replace(from, to);
        assert_eq!(code(site.try_component(&config)), expected, "{config}");
    }
}

fn get(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer
        .rsplit_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
}

fn wait_for(port: u16, body: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let is = get(port);
        if is.as_deref() == Some(body) {
            return;
        }
        assert!(Instant::now() < deadline, "{is:?} is served, not {body:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// An nginx of this test, ended when dropped.
struct Nginx(std::process::Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// nginx runs on while its files are replaced, and its own `-t` comes before anything reloads.
#[tokio::test]
async fn nginx_serves_the_restored_tree_or_the_old_one() {
    let site = Site::new();
    let tree = site.path("host/mnt/nfs/nginx");
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let here = site.path("");
    let here = here.to_str().unwrap().trim_end_matches('/');
    let write = |root: &Path, answer: &str| {
        put(
            root.join("nginx.conf"),
            &format!(
                "pid {here}/nginx.pid; error_log {here}/error.log; daemon off; user root;\n\
                 events {{}} http {{ access_log off; include {here}/host/mnt/nfs/nginx/conf.d/*.conf; }}"
            ),
        );
        put(
            root.join("conf.d/app.conf"),
            &format!("server {{ listen 127.0.0.1:{port}; {answer} }}"),
        );
    };
    let backup = site.path("other/mnt/nfs/nginx");
    write(&backup, "location / { return 200 'restored'; }");
    site.pack(&artifact(), &site.path("other"), &["mnt/nfs/nginx"]);
    write(&tree, "location / { return 200 'live'; }");
    let conf = tree.join("nginx.conf");
    let child = std::process::Command::new("nginx")
        .arg("-c")
        .arg(&conf)
        .spawn();
    let _nginx = Nginx(child.expect("nginx is installed"));
    wait_for(port, "live");

    let config = format!(
        "{CONFIG}
        test = ['nginx', '-t', '-c', '@/host/mnt/nfs/nginx/nginx.conf']
        reload = ['nginx', '-s', 'reload', '-c', '@/host/mnt/nfs/nginx/nginx.conf']"
    );
    let component = site.component(&config);
    let cx = site.context().await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    wait_for(port, "restored");
    component.undo(&cx).await.unwrap();
    wait_for(port, "live");

    write(&backup, "locution / { return 200 'restored'; }");
    site.pack(&artifact(), &site.path("other"), &["mnt/nfs/nginx"]);
    let before = fingerprint(&tree);
    let cx = site.context().await;
    component.stage(&cx).await.unwrap();
    let error = component.cut_over(&cx).await.unwrap_err();
    assert!(error.message().contains("locution"), "{error}");
    component.undo(&cx).await.unwrap();
    assert_eq!(fingerprint(&tree), before);
    // A worker of the reload before may answer until it has ended: nginx replaces workers one by one.
    wait_for(port, "live");
}
