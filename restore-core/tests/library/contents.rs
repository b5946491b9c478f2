//! What is in a backup's artifacts, and single files of them brought out.

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use restore_core::backup::{Backup, BackupMember, MemberKind};
use restore_core::run::RunOptions;
use restore_core::site::{GetReport, GetRequest, MembersReport, MembersRequest};
use restore_core::{ErrorKind, PlanRequest, Result, Site};
use restore_testing::archives::{ID, Site as Folder, code, put};
use restore_testing::trees::fingerprint;

const CONFIG: &str = "
    [site]
    name = 'parts'
    state = '@/state'
    [stores.main]
    kind = 'directory'
    path = '@/backups'
    [services.db]
    start = ['true']
    stop = ['true']
    status = ['true']
    endpoint = '127.0.0.1:5432'
    [volumes.uploads]
    path = '@/srv/uploads'
    [components.uploads]
    kind = 'volume'
    volume = 'uploads'
    stops = []
    [components.nginx]
    kind = 'files'
    archive = ['configs/nginx-{id}.tar.gz']
    root = '@/host'
    tree = 'etc/nginx'
    [components.cron]
    kind = 'crontab'
    file = '@/var/cron/jobs'
    [components.db]
    kind = 'postgres'
    service = 'db'
    database = 'shop'
    user = 'postgres'
    password_env = 'NONE'
    sql = ['postgres/shop-{id}.sql']
";

const SQL: &str = "--\n-- PostgreSQL database dump\n--\n\n\
    --\n-- Name: orders; Type: TABLE; Schema: public; Owner: app\n--\n\n\
    CREATE TABLE public.orders (n integer);\n\n\
    --\n-- Data for Name: orders; Type: TABLE DATA; Schema: public; Owner: app\n--\n\n\
    COPY public.orders (n) FROM stdin;\n1\n2\n3\n\\.\n\n\n\
    --\n-- PostgreSQL database dump complete\n--\n";

/// A backup of which nothing is live any more.
struct Parts {
    folder: Folder,
}

impl Parts {
    fn new() -> Self {
        let folder = Folder::new();
        let uploads = folder.path("made/uploads");
        put(uploads.join("2024/a.png"), "a picture");
        put(uploads.join("2024/deep/b.png"), "another");
        put(uploads.join("line\nend"), "odd");
        put(uploads.join("tool"), "#!/bin/sh\n");
        put(folder.path("outside/secret"), "secret");
        std::fs::set_permissions(uploads.join("tool"), PermissionsExt::from_mode(0o6755)).unwrap();
        chown(uploads.join("2024/a.png"), Some(1234), Some(2345)).unwrap();
        symlink(folder.path("outside"), uploads.join("out")).unwrap();
        std::fs::hard_link(uploads.join("2024/a.png"), uploads.join("again.png")).unwrap();
        let host = folder.path("made/host");
        put(host.join("etc/nginx/nginx.conf"), "good");
        put(host.join("etc/nginx/conf.d/app.conf"), "good app");
        put(host.join("etc/other"), "of nobody");
        // The picture before its other name.
        let members = ["./2024", "./line\nend", "./tool", "./out", "./again.png"];
        folder.pack(&format!("volumes/uploads-{ID}.tar.gz"), &uploads, &members);
        folder.pack(&format!("configs/nginx-{ID}.tar.gz"), &host, &["etc"]);
        folder.pack("extra/more.tar.gz", &host, &["etc/other"]);
        put(
            folder.artifact(&format!("configs/crontab-{ID}.txt")),
            "0 2 * * * true\n",
        );
        put(folder.artifact(&format!("postgres/shop-{ID}.sql")), SQL);
        folder.list();
        folder.configure(CONFIG);
        Self { folder }
    }

    async fn site(&self) -> (Site, Backup) {
        let site = self.folder.open().await;
        let backup = site.backup(ID).await.unwrap();
        (site, backup)
    }

    async fn members(&self, request: MembersRequest) -> (Vec<BackupMember>, MembersReport) {
        let (site, backup) = self.site().await;
        let mut told = Vec::new();
        let report = site
            .members(&backup, &request, &RunOptions::new(), |member| {
                told.push(member)
            })
            .await
            .unwrap();
        assert_eq!(report.members, told.len() as u64);
        (told, report)
    }

    async fn get(&self, request: &GetRequest) -> Result<GetReport> {
        let (site, backup) = self.site().await;
        site.get(&backup, request, &RunOptions::new()).await
    }

    /// These paths, brought out into `out`.
    fn wanted(&self, paths: &[&str]) -> GetRequest {
        GetRequest::new(paths.iter().copied(), self.folder.path("out/new"))
    }

    /// Overwrites a byte of an artifact, of the same length as before.
    fn damage(&self, artifact: &str) {
        let path = self.folder.artifact(artifact);
        let mut bytes = std::fs::read(&path).unwrap();
        // The time in the header of a gzip file: it reads as before.
        bytes[5] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    /// Nothing is left beside the directory.
    fn assert_nothing_is_left(&self) {
        let left: Vec<_> = std::fs::read_dir(self.folder.path("out"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn find<'a>(members: &'a [BackupMember], name: &str) -> &'a BackupMember {
    let mut members = members.iter();
    members
        .find(|it| it.name == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

#[tokio::test]
async fn what_is_in_a_backup_is_told_with_the_paths_that_bring_it_out() {
    let parts = Parts::new();
    let (members, report) = parts.members(MembersRequest::all()).await;
    assert_eq!(report.findings, []);
    assert_eq!(report.refusal().map(|it| it.to_string()), None);
    let file = find(&members, "./2024/a.png");
    assert_eq!(file.path.as_deref(), Some("uploads/2024/a.png"));
    assert_eq!(file.component.as_deref(), Some("uploads"));
    assert_eq!((file.kind, file.size), (MemberKind::File, Some(9)));
    assert_eq!(file.owner, Some((1234, 2345)));
    assert_eq!(
        file.modified.unwrap().to_string(),
        "2023-11-14T22:13:29.000Z"
    );
    assert_eq!(find(&members, "./tool").mode, Some(0o6755));
    let link = find(&members, "./out");
    assert_eq!(link.kind, MemberKind::Symlink);
    assert_eq!(
        link.target.as_deref(),
        parts.folder.path("outside").to_str()
    );
    assert_eq!(find(&members, "./again.png").kind, MemberKind::HardLink);
    let odd = find(&members, "./line\nend");
    assert_eq!(odd.path.as_deref(), Some("uploads/line\nend"));
    let conf = find(&members, "etc/nginx/conf.d/app.conf");
    assert_eq!(conf.path.as_deref(), Some("nginx/conf.d/app.conf"));
    // Of the same archive, and of one that no component knows.
    let others: Vec<_> = members.iter().filter(|it| it.name == "etc/other").collect();
    assert_eq!(others.len(), 2);
    assert!(
        others
            .iter()
            .all(|it| it.path.is_none() && it.component.is_none())
    );
    let table = find(&members, "public.orders");
    assert_eq!((table.kind, table.rows), (MemberKind::Table, Some(3)));
    assert_eq!(table.component.as_deref(), Some("db"));
    let cron = find(&members, &format!("configs/crontab-{ID}.txt"));
    assert_eq!((cron.kind, cron.size), (MemberKind::Artifact, Some(15)));
}

#[tokio::test]
async fn a_pattern_and_components_choose() {
    let parts = Parts::new();
    let names = |members: Vec<BackupMember>| -> Vec<String> {
        members.into_iter().filter_map(|it| it.path).collect()
    };
    for (pattern, found) in [
        ("*.conf", vec!["nginx/conf.d/app.conf", "nginx/nginx.conf"]),
        (
            "uploads/2024/deep",
            vec!["uploads/2024/deep", "uploads/2024/deep/b.png"],
        ),
        ("/etc/nginx/nginx.conf", vec!["nginx/nginx.conf"]),
        ("uploads/*.png", vec!["uploads/again.png"]),
    ] {
        let request = MembersRequest::all().pattern(pattern.to_owned());
        let (members, report) = parts.members(request).await;
        let mut names = names(members);
        names.sort();
        assert_eq!(names, found, "{pattern}");
        assert!(report.total > report.members);
    }
    let (members, _) = parts.members(MembersRequest::all().only(["db"])).await;
    assert_eq!(members.len(), 1);
    let (site, backup) = parts.site().await;
    // A filter that matched nothing, and a variable without a value, are not everything.
    let nobody = MembersRequest::all().only(Vec::<String>::new());
    let unset = MembersRequest::all().pattern(String::new());
    for request in [nobody, unset] {
        let told = site
            .members(&backup, &request, &RunOptions::new(), |_| ())
            .await;
        assert_eq!(code(told), "plan.nothing_selected");
    }
    let unknown = MembersRequest::all().only(["dbx"]);
    let told = site
        .members(&backup, &unknown, &RunOptions::new(), |_| ())
        .await;
    assert_eq!(code(told), "plan.unknown_component");
}

#[tokio::test]
async fn what_was_changed_since_is_said_at_the_end_and_the_rest_is_told() {
    let parts = Parts::new();
    parts.damage(&format!("volumes/uploads-{ID}.tar.gz"));
    let (members, report) = parts.members(MembersRequest::all()).await;
    find(&members, "public.orders");
    find(&members, "./2024/a.png");
    let error = report.refusal().unwrap();
    assert_eq!(error.kind(), ErrorKind::Verification);
    assert!(error.to_string().contains("uploads"), "{error}");
    assert_eq!(report.findings[0].code, "hash.mismatch");
    assert_eq!(report.findings.len(), 1);

    let parts = Parts::new();
    let sql = parts.folder.artifact(&format!("postgres/shop-{ID}.sql"));
    put(&sql, &SQL.replace("2\n", "7\n"));
    let (_, report) = parts.members(MembersRequest::all()).await;
    assert_eq!(report.findings[0].code, "hash.mismatch");
    std::fs::remove_file(sql).unwrap();
    let (_, report) = parts.members(MembersRequest::all()).await;
    assert_eq!(report.findings[0].code, "backup.no_such_file");
}

#[tokio::test]
async fn files_come_out_whole_and_verified_and_nothing_live_is_touched() {
    let parts = Parts::new();
    std::fs::create_dir(parts.folder.path("out")).unwrap();
    let to = parts.folder.path("out/new");
    let here = parts.folder.path("");
    let live = here.join("srv/uploads/2024").display().to_string();
    put(here.join("srv/uploads/2024/a.png"), "live");
    let before = fingerprint(&parts.folder.path("srv"));
    for (paths, expected) in [
        (
            vec!["uploads/2024"],
            vec!["uploads/2024/a.png", "uploads/2024/deep/b.png"],
        ),
        (
            vec![live.as_str()],
            vec!["uploads/2024/a.png", "uploads/2024/deep/b.png"],
        ),
        (vec!["nginx/conf.d/app.conf"], vec!["nginx/conf.d/app.conf"]),
        (
            vec!["etc/nginx/nginx.conf", "uploads/2024/a.png"],
            vec!["nginx/nginx.conf", "uploads/2024/a.png"],
        ),
        (
            vec!["nginx"],
            vec!["nginx/conf.d/app.conf", "nginx/nginx.conf"],
        ),
    ] {
        let report = parts.get(&parts.wanted(&paths)).await.unwrap();
        let mut files = Vec::new();
        for (path, print) in fingerprint(&to) {
            if to.join(&path).is_file() {
                assert!(!print.is_empty());
                files.push(path);
            }
        }
        assert_eq!(files, expected, "{paths:?}");
        assert_eq!(report.files, expected.len() as u64);
        assert_eq!(report.findings, []);
        std::fs::remove_dir_all(&to).unwrap();
    }
    parts.assert_nothing_is_left();
    assert_eq!(fingerprint(&parts.folder.path("srv")), before);

    parts.get(&parts.wanted(&["uploads"])).await.unwrap();
    let at = |path: &str| to.join("uploads").join(path);
    let picture = std::fs::metadata(at("2024/a.png")).unwrap();
    assert_eq!((picture.uid(), picture.gid()), (1234, 2345));
    assert_eq!(
        picture.ino(),
        std::fs::metadata(at("again.png")).unwrap().ino()
    );
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&at("tool")), 0o755);
    assert_eq!(mode(&to), 0o700);
    assert_eq!(
        std::fs::read_link(at("out")).unwrap(),
        parts.folder.path("outside")
    );
    assert_eq!(std::fs::read_to_string(at("line\nend")).unwrap(), "odd");
    std::fs::remove_dir_all(&to).unwrap();

    let request = parts.wanted(&["uploads"]).no_owner(true).keep_powers(true);
    parts.get(&request).await.unwrap();
    assert_eq!(std::fs::metadata(at("2024/a.png")).unwrap().uid(), 0);
    assert_eq!(mode(&at("tool")), 0o6755);
}

#[tokio::test]
async fn a_dump_comes_out_itself() {
    let parts = Parts::new();
    let sql = format!("postgres/shop-{ID}.sql");
    for path in ["db", sql.as_str()] {
        let report = parts.get(&parts.wanted(&[path])).await.unwrap_err();
        // Its directory is to be there.
        assert_eq!(report.code(), "io.not_found");
        std::fs::create_dir_all(parts.folder.path("out")).unwrap();
        let report = parts.get(&parts.wanted(&[path])).await.unwrap();
        let to = parts.folder.path("out/new").join(&sql);
        assert_eq!(std::fs::read_to_string(&to).unwrap(), SQL);
        assert_eq!((report.files, report.bytes), (1, SQL.len() as u64));
        std::fs::remove_dir_all(parts.folder.path("out")).unwrap();
    }
    let part = parts.get(&parts.wanted(&["db/public.orders"])).await;
    assert_eq!(code(part), "get.no_members");
    // What is compressed stays so: its checksum still fits.
    std::fs::create_dir_all(parts.folder.path("out")).unwrap();
    parts
        .get(&parts.wanted(&["extra/more.tar.gz"]))
        .await
        .unwrap();
    let out = std::fs::read(parts.folder.path("out/new/extra/more.tar.gz")).unwrap();
    assert!(out == std::fs::read(parts.folder.artifact("extra/more.tar.gz")).unwrap());
}

#[tokio::test]
async fn on_any_error_there_is_nothing() {
    let parts = Parts::new();
    std::fs::create_dir(parts.folder.path("out")).unwrap();
    let codes: BTreeMap<&str, &str> = BTreeMap::from([
        ("uploads/2024/none.png", "archive.member_missing"),
        ("etc/passwd", "get.unknown_path"),
        ("nowhere/x", "get.unknown_path"),
        ("uploads/../../x", "archive.selection"),
        // Without what it is another name of.
        ("uploads/again.png", "archive.member_refused"),
    ]);
    for (path, expected) in codes {
        let got = parts.get(&parts.wanted(&[path])).await;
        assert_eq!(code(got), expected, "{path}");
        parts.assert_nothing_is_left();
    }
    let none: [&str; 0] = [];
    assert_eq!(
        code(parts.get(&parts.wanted(&none)).await),
        "plan.nothing_selected"
    );
    parts.damage(&format!("volumes/uploads-{ID}.tar.gz"));
    let got = parts.get(&parts.wanted(&["nginx", "uploads/2024"])).await;
    assert_eq!(code(got), "hash.mismatch");
    parts.assert_nothing_is_left();

    let parts = Parts::new();
    put(parts.folder.path("out/new/there"), "mine");
    let got = parts.get(&parts.wanted(&["nginx"])).await;
    assert_eq!(code(got), "get.exists");
    let mine = std::fs::read_to_string(parts.folder.path("out/new/there"));
    assert_eq!(mine.unwrap(), "mine");

    let manifest = parts.folder.artifact("MANIFEST.txt");
    put(manifest, &format!("Backup ID: {ID}\nTotal Files: 5\n"));
    std::fs::remove_file(parts.folder.path("out/new/there")).unwrap();
    let got = parts.get(&parts.wanted(&["nginx"])).await;
    assert_eq!(code(got), "backup.unverifiable");
    let request = parts.wanted(&["nginx"]).allow_unverified(true);
    let report = parts.get(&request).await.unwrap();
    assert_eq!(report.findings[0].code, "backup.unverifiable");
}

#[tokio::test]
async fn a_stop_leaves_nothing() {
    let parts = Parts::new();
    std::fs::create_dir(parts.folder.path("out")).unwrap();
    let (site, backup) = parts.site().await;
    parts.folder.cancel.cancel();
    let options = RunOptions::new().cancelled_by(parts.folder.cancel.clone());
    let got = site
        .get(&backup, &parts.wanted(&["uploads"]), &options)
        .await;
    assert_eq!(got.unwrap_err().kind(), ErrorKind::Interrupted);
    parts.assert_nothing_is_left();
    let told = site
        .members(&backup, &MembersRequest::all(), &options, |_| ())
        .await;
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Interrupted);
}

/// Where everything of the backup is live.
fn live(parts: &Parts) {
    let (made, live) = (parts.folder.path("made"), parts.folder.path(""));
    for (from, to) in [("uploads", "srv"), ("host", "")] {
        let to = live.join(to);
        std::fs::create_dir_all(&to).unwrap();
        let copied = std::process::Command::new("cp")
            .args(["-a", "--"])
            .args([made.join(from), to])
            .status()
            .unwrap();
        assert!(copied.success());
    }
    put(live.join("var/cron/jobs"), "0 2 * * * true\n");
}

async fn difference(
    parts: &Parts,
    request: PlanRequest,
) -> BTreeMap<String, Vec<(String, [Vec<String>; 3])>> {
    let (site, backup) = parts.site().await;
    let found = site
        .difference(&backup, &request, 10, &RunOptions::new())
        .await;
    let mut all = BTreeMap::new();
    for component in found.unwrap().components {
        let mut told = Vec::new();
        for it in component.differences {
            let names = [it.added, it.changed, it.removed].map(|it| it.names);
            if names.iter().any(|it| !it.is_empty()) {
                told.push((it.of, names));
            }
        }
        let unknown = component.unknown.map(|it| (it.code, Default::default()));
        told.extend(unknown);
        all.insert(component.name, told);
    }
    all
}

#[tokio::test]
async fn what_would_change_is_told_and_nothing_is_staged() {
    let parts = Parts::new();
    live(&parts);
    let request = || PlanRequest::all().only(["uploads", "nginx", "cron"]);
    let same = difference(&parts, request()).await;
    assert!(same.values().all(Vec::is_empty), "{same:?}");

    let at = |path: &str| parts.folder.path("srv/uploads").join(path);
    std::fs::remove_dir_all(at("2024/deep")).unwrap();
    put(at("2024/a.png"), "other");
    put(at("new/deep/file"), "only live");
    put(at(".restore-20240216-020000-abcd/replaced/x"), "of a run");
    std::fs::remove_file(at("out")).unwrap();
    symlink("/elsewhere", at("out")).unwrap();
    let conf = parts.folder.path("host/etc/nginx/nginx.conf");
    std::fs::set_permissions(&conf, PermissionsExt::from_mode(0o600)).unwrap();
    put(parts.folder.path("var/cron/jobs"), "0 3 * * * true\n");
    let before = fingerprint(&parts.folder.path("srv"));
    let found = difference(&parts, request()).await;
    let names = |names: &[&str]| names.iter().map(|&it| it.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        found["uploads"],
        [
            (
                "files".to_owned(),
                [
                    names(&["2024/deep/b.png"]),
                    // Of two names of one file both are another.
                    names(&["2024/a.png", "out", "again.png"]),
                    names(&["new/deep/file"])
                ]
            ),
            (
                "directories".to_owned(),
                [
                    names(&["2024/deep"]),
                    names(&[]),
                    names(&["new", "new/deep"])
                ]
            ),
        ]
    );
    assert_eq!(
        found["nginx"],
        [(
            "files".to_owned(),
            [names(&[]), names(&["nginx.conf"]), names(&[])]
        )]
    );
    let line = |hour: u32| names(&[&format!("line 1: 0 {hour} * * * true")]);
    assert_eq!(
        found["cron"],
        [("lines".to_owned(), [line(2), names(&[]), line(3)])]
    );
    assert_eq!(fingerprint(&parts.folder.path("srv")), before);

    let some = PlanRequest::all().paths(["uploads/2024"]);
    let found = difference(&parts, some).await;
    assert_eq!(found["uploads"][0].1[2], names(&[]));
    assert_eq!(found["uploads"][0].1[1], names(&["2024/a.png"]));

    // Gone, all of it would come; and the server is not there to be asked.
    std::fs::remove_dir_all(parts.folder.path("srv")).unwrap();
    let found = difference(&parts, PlanRequest::all()).await;
    assert_eq!(found["uploads"][0].1[0].len(), 6);
    assert_eq!(found["db"].len(), 1, "{found:?}");
    parts.damage(&format!("volumes/uploads-{ID}.tar.gz"));
    let found = difference(&parts, request()).await;
    assert_eq!(found["uploads"][0].0, "hash.mismatch");
}

#[tokio::test]
async fn a_path_of_a_volume_is_restored_alone() {
    let here = |parts: &Parts, path: &str| parts.folder.path(path).display().to_string();
    for absolute in [false, true] {
        let parts = Parts::new();
        live(&parts);
        let at = |path: &str| parts.folder.path("srv/uploads").join(path);
        std::fs::remove_file(at("2024/deep/b.png")).unwrap();
        put(at("2024/deep/new"), "only live");
        put(at("2024/a.png"), "newer");
        put(at("stays"), "only live");
        let before = fingerprint(&parts.folder.path("srv"));
        let path = match absolute {
            true => here(&parts, "srv/uploads/2024/deep"),
            false => "uploads/2024/deep".to_owned(),
        };
        let request = PlanRequest::all().paths([path]).no_safety_backup(true);
        let (site, backup) = parts.site().await;
        let plan = site
            .plan_with(&backup, request, &RunOptions::new())
            .await
            .unwrap();
        let findings: Vec<_> = plan.errors().collect();
        assert!(findings.is_empty(), "{findings:?}");
        assert_eq!(plan.components.len(), 1);
        assert_eq!(
            plan.components[0].inspection.summary,
            "2024/deep in volume uploads"
        );
        let report = site.run(plan, RunOptions::new()).await.unwrap();
        assert!(report.error().is_none(), "{:?}", report.error());
        let read = |path: &str| std::fs::read_to_string(at(path)).ok();
        assert_eq!(read("2024/deep/b.png").as_deref(), Some("another"));
        assert_eq!(read("2024/deep/new"), None);
        assert_eq!(read("2024/a.png").as_deref(), Some("newer"));
        assert_eq!(read("stays").as_deref(), Some("only live"));
        site.rollback(None, RunOptions::new()).await.unwrap();
        let mut now = fingerprint(&parts.folder.path("srv"));
        now.retain(|path, _| !path.contains(".restore-"));
        assert_eq!(now, before);
    }
    let parts = Parts::new();
    live(&parts);
    let (site, backup) = parts.site().await;
    for (path, expected) in [
        ("uploads/none", "plan.path_missing"),
        ("elsewhere/x", "plan.unknown_path"),
    ] {
        let before = fingerprint(&parts.folder.path("srv"));
        let request = PlanRequest::all().paths([path]).no_safety_backup(true);
        let options = RunOptions::new();
        let code = match site.plan_with(&backup, request, &options).await {
            Ok(plan) => plan.errors().map(|it| it.code.clone()).collect(),
            Err(error) => error.code().to_owned(),
        };
        assert_eq!(code, expected, "{path}");
        let mut now = fingerprint(&parts.folder.path("srv"));
        now.retain(|path, _| !path.contains(".restore-"));
        assert_eq!(now, before);
    }
    // Below the component's name, and as the archive has it.
    for path in ["nginx/conf.d", "etc/nginx/conf.d"] {
        let request = PlanRequest::all().paths([path]);
        let plan = site
            .plan_with(&backup, request, &RunOptions::new())
            .await
            .unwrap();
        assert_eq!(plan.components[0].name, "nginx", "{path}");
        assert!(
            plan.components[0]
                .inspection
                .summary
                .starts_with("conf.d below ")
        );
    }
}

#[tokio::test]
async fn what_is_encrypted_is_said_to_be() {
    let parts = Parts::new();
    put(parts.folder.artifact("volumes/other.tar.gz.gpg"), "locked");
    parts.folder.list();
    let (members, report) = parts.members(MembersRequest::all()).await;
    assert_eq!(
        find(&members, "volumes/other.tar.gz.gpg").kind,
        MemberKind::Artifact
    );
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].code, "members.encrypted");
    assert!(report.refusal().is_none());
}
