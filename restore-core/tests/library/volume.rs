//! The content of a volume: staged from plain archives, swapped, taken back, given up.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use restore_core::platform::Discard;
use restore_core::run::RunOptions;
use restore_core::{ErrorKind, PlanRequest};
use restore_testing::archives::{ID, Site, code, put};
use restore_testing::trees::fingerprint;

const CONFIG: &str = "
    [volumes.grafana_data]
    path = '@/volume'
    [components.it]
    kind = 'volume'
    volume = 'grafana_data'
    stops = ['grafana']
";

type Tree = BTreeMap<String, String>;

/// A volume with a backup of it, damaged since: the site, the tree at backup time and now.
fn damaged(artifact: &str) -> (Site, Tree, Tree) {
    let site = Site::new();
    let volume = site.path("volume");
    put(volume.join("grafana.db"), "good");
    put(volume.join(".hidden/state"), "good");
    put(volume.join("plugins/a/plugin.json"), "{}");
    put(volume.join("owned"), "by another");
    chown(volume.join("owned"), Some(472), Some(472)).unwrap();
    std::fs::set_permissions(volume.join("owned"), PermissionsExt::from_mode(0o640)).unwrap();
    std::fs::hard_link(volume.join("owned"), volume.join("twin")).unwrap();
    symlink("plugins/a", volume.join("current")).unwrap();
    std::fs::create_dir(volume.join("empty")).unwrap();
    chown(&volume, Some(472), Some(472)).unwrap();
    std::fs::set_permissions(&volume, PermissionsExt::from_mode(0o750)).unwrap();
    let good = fingerprint(&volume);
    site.pack(artifact, &volume, &["."]);

    put(volume.join("grafana.db"), "damaged");
    put(volume.join(".stray"), "not in the backup");
    put(volume.join("plugins/b/plugin.json"), "not in the backup");
    std::fs::remove_dir_all(volume.join(".hidden")).unwrap();
    std::fs::set_permissions(&volume, PermissionsExt::from_mode(0o755)).unwrap();
    let bad = fingerprint(&volume);
    assert_ne!(good, bad);
    (site, good, bad)
}

fn both_names() -> [String; 2] {
    [
        format!("volumes/grafana-{ID}.tar.gz"),
        format!("volumes/grafana_data-{ID}.tar.gz"),
    ]
}

#[tokio::test]
async fn a_volume_of_either_generation_comes_back_and_goes_back() {
    for artifact in both_names() {
        let (site, good, bad) = damaged(&artifact);
        let volume = site.path("volume");
        let live = || fingerprint(&volume);
        let component = site.component(CONFIG);
        let cx = site.context().await;

        assert_eq!(
            component.artifacts(cx.backup()),
            std::slice::from_ref(&artifact)
        );
        assert_eq!(component.stops(), ["grafana"]);
        let inspection = component.inspect(&cx).await.unwrap();
        assert_eq!(inspection.artifacts, [artifact]);
        assert_eq!(inspection.findings, []);
        assert!(inspection.needs[0].bytes > 0);
        assert_eq!(live(), bad, "looking changes nothing");

        // Before anything is cut over there is nothing to take back.
        component.undo(&cx).await.unwrap();
        let first = component.stage(&cx).await.unwrap();
        let again = component.stage(&cx).await.unwrap();
        assert_eq!(first, again);
        assert_eq!(first.facts["files"], 4);
        assert_eq!(live(), bad, "staging changes nothing live");
        component.undo(&cx).await.unwrap();
        assert_eq!(component.replaced_at(&cx).await.unwrap(), None);

        component.cut_over(&cx).await.unwrap();
        component.cut_over(&cx).await.unwrap();
        assert_eq!(live(), good);
        let outcome = &component.check(&cx).await.unwrap()[0];
        assert!(outcome.passed, "{}", outcome.detail);
        let replaced = component.replaced_at(&cx).await.unwrap().unwrap();
        let kept = std::fs::read_to_string(Path::new(&replaced).join("grafana.db"));
        assert_eq!(kept.unwrap(), "damaged");

        component.undo(&cx).await.unwrap();
        component.undo(&cx).await.unwrap();
        assert_eq!(live(), bad);
        assert!(!component.check(&cx).await.unwrap()[0].passed);

        component.cut_over(&cx).await.unwrap();
        component.discard(&cx, Discard::Staged).await.unwrap();
        assert_eq!(live(), good);
        component.discard(&cx, Discard::Replaced).await.unwrap();
        component.discard(&cx, Discard::Replaced).await.unwrap();
        assert_eq!(live(), good);
        assert!(!volume.join(site.run.folder()).exists());
    }
}

/// A disk that is not mounted after a reboot looks like a run that never was.
#[tokio::test]
async fn an_unmounted_disk_is_not_taken_for_undone() {
    let (site, _, bad) = damaged(&both_names()[0]);
    let volume = site.path("volume");
    let component = site.component(CONFIG);
    let cx = site.context().await;
    component.stage(&cx).await.unwrap();
    let away = site.path("unmounted");
    for _ in 0..2 {
        component.cut_over(&cx).await.unwrap();
        std::fs::rename(&volume, &away).unwrap();
        std::fs::create_dir(&volume).unwrap();
        let error = component.undo(&cx).await.unwrap_err();
        assert_eq!(error.code(), "volume.run_folder_missing", "{error}");
        assert!(error.message().contains("mounted"), "{error}");
        std::fs::remove_dir(&volume).unwrap();
        std::fs::rename(&away, &volume).unwrap();
        component.undo(&cx).await.unwrap();
        assert_eq!(fingerprint(&volume), bad);
    }
    component.discard(&cx, Discard::Staged).await.unwrap();
    component.undo(&cx).await.unwrap();
    assert_eq!(fingerprint(&volume), bad);
}

#[tokio::test]
async fn a_missing_archive_never_empties_a_volume() {
    let (site, _, bad) = damaged("volumes/prometheus_data-20240215-020000.tar.gz");
    let component = site.component(CONFIG);
    let cx = site.context().await;
    let inspection = component.inspect(&cx).await.unwrap();
    let finding = &inspection.findings[0];
    assert_eq!(finding.code, "archive.missing");
    for name in both_names() {
        assert!(finding.message.contains(&name), "{}", finding.message);
    }
    assert_eq!(code(component.stage(&cx).await), "archive.missing");
    // Even a caller who goes on regardless.
    assert_eq!(code(component.cut_over(&cx).await), "volume.nothing_staged");
    component.undo(&cx).await.unwrap();
    assert_eq!(fingerprint(&site.path("volume")), bad);
}

#[tokio::test]
async fn a_missing_volume_is_an_error_and_not_made() {
    let (site, _, _) = damaged(&both_names()[0]);
    std::fs::remove_dir_all(site.path("volume")).unwrap();
    let component = site.component(CONFIG);
    let cx = site.context().await;
    let findings = component.inspect(&cx).await.unwrap().findings;
    assert_eq!(findings[0].code, "platform.no_volume");
    assert_eq!(code(component.stage(&cx).await), "platform.no_volume");
    assert!(!site.path("volume").exists());

    let other = site.component(&CONFIG.replace("volume = 'grafana", "volume = 'grafan"));
    let findings = other.inspect(&cx).await.unwrap().findings;
    assert!(
        findings.iter().any(|it| it.message.contains("grafan_data")),
        "{findings:?}"
    );
}

#[tokio::test]
async fn what_is_not_what_the_manifest_says_is_never_staged() {
    let artifact = &both_names()[0];
    let (site, _, bad) = damaged(artifact);
    let mut bytes = std::fs::read(site.artifact(artifact)).unwrap();
    // In gzip's header, where it changes nothing but the hash.
    bytes[4] ^= 1;
    std::fs::write(site.artifact(artifact), &bytes).unwrap();
    let component = site.component(CONFIG);
    let error = component.stage(&site.context().await).await.unwrap_err();
    assert_eq!(error.code(), "hash.mismatch");
    assert_eq!(error.component(), Some("it"));
    assert_eq!(fingerprint(&site.path("volume")), bad);
    assert!(!site.path("volume").join(site.run.folder()).exists());

    let half = bytes.len() * 6 / 10;
    std::fs::write(site.artifact(artifact), &bytes[..half]).unwrap();
    let error = component.stage(&site.context().await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Verification);
    assert!(!site.path("volume").join(site.run.folder()).exists());
}

#[tokio::test]
async fn archives_that_reach_out_are_refused_and_leave_nothing() {
    let artifact = &both_names()[0];
    let scripts = [
        "tar -czPf \"$1\" ../evil",
        "tar -czPf \"$1\" \"$PWD/../evil\"",
        "ln -s ../../../../../etc/passwd out && tar -czf \"$1\" out",
        "mknod dev c 1 3 && tar -czf \"$1\" dev",
        "cp ../evil suid && chown 1:1 suid && chmod 4755 suid && tar -czf \"$1\" suid",
    ];
    for script in scripts {
        let (site, _, bad) = damaged(artifact);
        let work = site.path("work");
        std::fs::create_dir(&work).unwrap();
        put(site.path("evil"), "evil");
        let status = Command::new("sh")
            .args(["-ec", script, "pack"])
            .arg(site.artifact(artifact))
            .current_dir(&work)
            .stderr(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{script}");
        site.list();
        std::fs::remove_file(site.path("evil")).unwrap();
        // The store is a stranger's.
        let component = site.component(&format!("{CONFIG}\nlinks = 'inside'"));
        let error = component.stage(&site.context().await).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Verification, "{script}: {error}");
        assert_eq!(fingerprint(&site.path("volume")), bad, "{script}");
        assert!(!site.path("volume").join(site.run.folder()).exists());
        assert!(!site.path("evil").exists());
    }
}

#[tokio::test]
async fn a_stopped_stage_ends_as_interrupted() {
    let (site, _, bad) = damaged(&both_names()[0]);
    site.cancel.cancel();
    let component = site.component(CONFIG);
    let error = component.stage(&site.context().await).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    assert_eq!(fingerprint(&site.path("volume")), bad);
}

#[tokio::test]
async fn an_unconfirmed_run_keeps_its_way_back_under_a_newer_one() {
    let (mut site, good, bad) = damaged(&both_names()[0]);
    let volume = site.path("volume");
    let component = site.component(CONFIG);
    let older = site.context().await;
    component.stage(&older).await.unwrap();
    component.cut_over(&older).await.unwrap();
    put(volume.join("grafana.db"), "written since");
    let between = fingerprint(&volume);

    site.run = "20991231-235959-ffff".parse().unwrap();
    let newer = site.context().await;
    let findings = component.inspect(&newer).await.unwrap().findings;
    assert_eq!(findings[0].code, "volume.other_run");
    component.stage(&newer).await.unwrap();
    component.cut_over(&newer).await.unwrap();
    assert_eq!(fingerprint(&volume), good);
    component.undo(&newer).await.unwrap();
    assert_eq!(fingerprint(&volume), between);
    component.discard(&newer, Discard::Staged).await.unwrap();
    component.undo(&older).await.unwrap();
    assert_eq!(fingerprint(&volume), bad);
}

/// A platform that does not know who uses a volume: said, and left to the operator.
#[tokio::test]
async fn nothing_said_of_services_is_worth_a_decision() {
    let (site, _, _) = damaged(&both_names()[0]);
    let named = "stops = ['grafana']\n";
    for (instead, expected) in [
        ("", &["volume.nothing_stops"][..]),
        ("stops = []\n", &[]),
        (named, &[]),
        ("reload = ['true']\n", &[]),
    ] {
        let component = site.component(&CONFIG.replace(named, instead));
        let found = component.inspect(&site.context().await).await.unwrap();
        let codes: Vec<&str> = found.findings.iter().map(|it| it.code.as_str()).collect();
        assert_eq!(codes, expected, "{instead}");
        for finding in found.findings {
            assert_eq!(finding.severity, restore_core::Severity::Warning);
        }
    }
}

/// What tools of others write, with the keys that fit it; and what we then write ourselves.
#[tokio::test]
async fn archives_of_others_are_restored_by_the_keys_that_fit_them() {
    let artifact = &both_names()[0];
    for (members, keys) in [
        ("backup/grafana_data", "prefix = 'backup/grafana_data'"),
        ("backup/grafana_data", "strip = 2"),
        ("grafana_data", "prefix = '/grafana_data'"),
    ] {
        let site = Site::new();
        let volume = site.path("volume");
        put(volume.join("live"), "live");
        let made = site.path("made");
        put(made.join(members).join("grafana.db"), "good");
        symlink("/srv/releases/12", made.join(members).join("current")).unwrap();
        put(made.join("other/file"), "not ours");
        let status = Command::new("tar")
            .args(["-cPJf"])
            .arg(site.artifact(&artifact.replace(".gz", ".xz")))
            .arg("--transform")
            .arg(format!("s,^{},,S", made.display()))
            .arg(made.join(members))
            .status()
            .unwrap();
        assert!(status.success());
        site.list();
        let component = site.component(&format!("{CONFIG}\n{keys}\nuser = 999\ngroup = 998"));
        let cx = site.context().await;
        component.stage(&cx).await.unwrap();
        component.cut_over(&cx).await.unwrap();
        assert_eq!(
            std::fs::read_to_string(volume.join("grafana.db")).unwrap(),
            "good"
        );
        assert!(!volume.join("live").exists());
        let link = volume.join("current");
        let meta = std::fs::symlink_metadata(&link).unwrap();
        use std::os::unix::fs::MetadataExt;
        assert_eq!((meta.uid(), meta.gid()), (999, 998));
        assert_eq!(
            std::fs::read_link(link).unwrap(),
            Path::new("/srv/releases/12")
        );
    }
    for keys in [
        "prefix = '../x'",
        "group = 5",
        "user = 5\nowners = 'names'",
        "links = 'out'",
    ] {
        let failed = Site::new().try_component(&format!("{CONFIG}\n{keys}"));
        assert_eq!(code(failed), "config.bad_value", "{keys}");
    }
}

/// Nothing takes the place of live data unasked.
#[tokio::test]
async fn an_archive_without_files_needs_a_word() {
    let artifact = &both_names()[1];
    let (site, _, bad) = damaged(artifact);
    let volume = site.path("volume");
    let component = site.component(CONFIG);
    let nothing = site.path("nothing");
    std::fs::create_dir(&nothing).unwrap();
    site.pack(artifact, &nothing, &["."]);
    let cx = site.context().await;
    let refused = component.stage(&cx).await.unwrap_err();
    assert_eq!(refused.code(), "volume.empty_archive");
    assert!(refused.hint_text().unwrap().contains("--allow-empty it"));
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(fingerprint(&volume), bad);
    let staged = component.stage(&cx.with_empty(true)).await.unwrap();
    assert_eq!(staged.findings[0].code, "volume.empty_archive");

    // Where nothing is live there is nothing to lose.
    let (empty, _, _) = damaged(artifact);
    empty.pack(artifact, &nothing, &["."]);
    std::fs::remove_dir_all(empty.path("volume")).unwrap();
    std::fs::create_dir(empty.path("volume")).unwrap();
    let component = empty.component(CONFIG);
    component.stage(&empty.context().await).await.unwrap();
}

/// A site with two volumes, and archives of so many empty directories for both.
fn two_empty(directories: u64) -> Site {
    let site = Site::new();
    let nothing = site.path("nothing");
    std::fs::create_dir(&nothing).unwrap();
    for number in 0..directories {
        // Names that do not shrink.
        let name = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        std::fs::create_dir(nothing.join(format!("{name:016x}"))).unwrap();
    }
    for name in ["one", "two"] {
        put(site.path(name).join("data"), "live");
        site.pack(&format!("volumes/{name}-{ID}.tar.gz"), &nothing, &["."]);
    }
    site.configure(
        "
        [site]
        name = 'empty'
        state = '@/state'
        safety_backup = false
        jobs = 1
        [stores.main]
        kind = 'directory'
        path = '@/backups'
        [volumes.one]
        path = '@/one'
        [volumes.two]
        path = '@/two'
        [components.one]
        kind = 'volume'
        volume = 'one'
        stops = []
        [components.two]
        kind = 'volume'
        volume = 'two'
        stops = []
        ",
    );
    site
}

/// Small archives are looked into by the plan, which tells all of them.
#[tokio::test]
async fn a_plan_tells_all_archives_without_files() {
    let site = two_empty(3);
    let opened = site.open().await;
    let backup = opened.backup(ID).await.unwrap();
    let told = async |request: PlanRequest| {
        let options = RunOptions::new();
        let plan = opened.plan_with(&backup, request, &options).await.unwrap();
        let empty = plan.findings.iter().filter(|it| {
            it.code == "volume.empty_archive" && it.severity == restore_core::Severity::Error
        });
        empty.map(|it| it.subject.clone()).collect::<Vec<_>>()
    };
    assert_eq!(told(PlanRequest::all()).await, ["one", "two"]);
    let said = PlanRequest::all().allow_empty(["one", "two"]);
    assert!(told(said).await.is_empty());
    // There is nothing to lose.
    std::fs::remove_dir_all(site.path("one")).unwrap();
    std::fs::create_dir(site.path("one")).unwrap();
    assert_eq!(told(PlanRequest::all()).await, ["two"]);
}

/// All that need a word are told by one run, where they are too large for the plan to look into them.
#[tokio::test]
async fn several_empty_archives_are_told_at_once() {
    let site = two_empty(4000);
    let size = std::fs::metadata(site.artifact(&format!("volumes/one-{ID}.tar.gz")));
    assert!(size.unwrap().len() > 16 * 1024);
    let opened = site.open().await;
    let backup = opened.backup(ID).await.unwrap();
    let run = async |request: PlanRequest| {
        let options = RunOptions::new();
        let plan = opened.plan_with(&backup, request, &options).await.unwrap();
        opened.run(plan, options).await
    };
    let refused = run(PlanRequest::all()).await.unwrap_err();
    assert_eq!(refused.code(), "volume.empty_archive");
    let hint = refused.hint_text().unwrap();
    let report = refused.report().unwrap();
    assert!(
        hint.contains("--allow-empty one,two "),
        "{hint} {report:#?}"
    );
    let told = report.findings.iter().map(|it| it.subject.as_str());
    assert!(
        told.clone().any(|it| it == "stage:two"),
        "{:?}",
        report.findings
    );
    let said = PlanRequest::all().allow_empty(["one", "two"]);
    run(said).await.unwrap();
}

/// Far less than is live takes its place only with a yes; of chosen paths nobody expects more.
#[tokio::test]
async fn an_archive_of_almost_nothing_asks() {
    let artifact = &both_names()[1];
    let (site, ..) = damaged(artifact);
    let component = site.component(CONFIG);
    let asks = |staged: &restore_core::component::Staged| {
        let mut findings = staged.findings.iter();
        findings.any(|it| it.code == "volume.far_smaller" && it.asks)
    };
    let cx = site.context().await;
    assert!(!asks(&component.stage(&cx).await.unwrap()));
    component.discard(&cx, Discard::Staged).await.unwrap();
    let large = vec![b'x'; 3 * 1024 * 1024];
    std::fs::write(site.path("volume/large"), large).unwrap();
    let staged = component.stage(&cx).await.unwrap();
    assert!(asks(&staged), "{:?}", staged.findings);
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert!(!asks(&component.stage(&cx.with_empty(true)).await.unwrap()));
}

/// Many small files are no less than a few large ones.
#[tokio::test]
async fn an_archive_of_far_fewer_files_asks() {
    let artifact = &both_names()[1];
    let (site, ..) = damaged(artifact);
    let component = site.component(CONFIG);
    let cx = site.context().await;
    for number in 0..300 {
        put(site.path(&format!("volume/many/{number}")), "x");
    }
    let staged = component.stage(&cx).await.unwrap();
    let asked = staged.findings.iter().find(|it| it.asks);
    let asked = asked.unwrap_or_else(|| panic!("{:?}", staged.findings));
    assert_eq!(asked.code, "volume.far_smaller");
    // With all that was live before.
    assert!(asked.message.contains(" in 31"), "{}", asked.message);
}

/// What is the compressed form of nothing is refused by the plan; damage is left to verification.
#[tokio::test]
async fn an_archive_that_is_nothing_at_all_is_refused_by_the_plan() {
    let artifact = &both_names()[1];
    let (site, ..) = damaged(artifact);
    let component = site.component(CONFIG);
    let told = async |site: &Site| {
        let cx = site.context().await;
        let inspection = component.inspect(&cx).await.unwrap();
        let found = inspection.findings.into_iter();
        found.map(|it| it.code).collect::<Vec<_>>()
    };
    assert!(!told(&site).await.contains(&"archive.truncated".to_owned()));
    std::fs::write(site.artifact(artifact), b"").unwrap();
    // Its manifest says that it was more.
    assert!(!told(&site).await.contains(&"archive.truncated".to_owned()));
    for nothing in [
        &b""[..],
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03\x03\0\0\0\0\0\0\0\0\0",
    ] {
        std::fs::write(site.artifact(artifact), nothing).unwrap();
        site.list();
        assert!(told(&site).await.contains(&"archive.truncated".to_owned()));
    }
}

/// A path that the archive lacks is refused by the plan, however it is named.
#[tokio::test]
async fn paths_that_are_missing_are_told_by_the_plan() {
    let site = two_empty(3);
    let opened = site.open().await;
    let backup = opened.backup(ID).await.unwrap();
    let live = site.path("one").display().to_string();
    for path in ["one/nosuch".to_owned(), format!("{live}/nosuch")] {
        let (request, options) = (PlanRequest::all().paths([&path]), RunOptions::new());
        let plan = opened.plan_with(&backup, request, &options).await.unwrap();
        let mut found = plan.findings.iter();
        assert!(found.any(|it| it.code == "plan.path_missing"), "{path}");
    }
}

/// Which of several is the volume's, nobody knows: the first by name may be another one's.
#[tokio::test]
async fn a_pattern_that_fits_several_archives_restores_none() {
    let (site, _, bad) = damaged("volumes/a.tar.gz");
    let copy = site.artifact("volumes/b.tar.gz");
    std::fs::copy(site.artifact("volumes/a.tar.gz"), copy).unwrap();
    site.list();
    let component = site.component(&format!("{CONFIG}\narchive = ['volumes/*.tar.gz']"));
    let cx = site.context().await;
    let inspection = component.inspect(&cx).await.unwrap();
    let mut told = inspection.findings.iter();
    let finding = told.find(|it| it.code == "archive.ambiguous").unwrap();
    for name in ["volumes/a.tar.gz", "volumes/b.tar.gz"] {
        assert!(finding.message.contains(name), "{finding:?}");
    }
    assert_eq!(code(component.stage(&cx).await), "archive.ambiguous");
    assert_eq!(fingerprint(&site.path("volume")), bad);
}

/// Another tool has one archive of all volumes, and one pattern finds it for each: of their safety backup each
/// has its own all the same.
#[tokio::test]
async fn volumes_of_one_pattern_are_backed_up_apart_and_come_back() {
    let site = Site::new();
    let mut config = "
        [site]
        name = 'several'
        state = '@/state'
        [stores.main]
        kind = 'directory'
        path = '@/backups'
        "
    .to_owned();
    for name in ["one", "two"] {
        put(site.path(name).join("data"), name);
        let made = site.path("made/backup").join(name).join("data");
        put(made, &format!("good {name}"));
        config += &format!(
            "
        [volumes.{name}]
        path = '@/{name}'
        [components.{name}]
        kind = 'volume'
        volume = '{name}'
        stops = []
        archive = ['backup-*.tar.gz']
        prefix = 'backup/{name}'
        "
        );
    }
    site.pack("backup-2024.tar.gz", &site.path("made"), &["backup"]);
    site.configure(&config);
    let opened = site.open().await;
    let run = async |id: &str| {
        let (backup, options) = (opened.backup(id).await.unwrap(), RunOptions::new());
        let plan = opened
            .plan_with(&backup, PlanRequest::all(), &options)
            .await;
        let report = opened.run(plan.unwrap(), options).await.unwrap();
        opened.confirm(None, RunOptions::new()).await.unwrap();
        report
    };
    let live = || {
        ["one", "two"].map(|name| std::fs::read_to_string(site.path(name).join("data")).unwrap())
    };
    let safety = run(ID).await.safety.clone().unwrap();
    assert_eq!(live(), ["good one", "good two"]);
    assert!(safety.missing.is_empty(), "{:?}", safety.missing);
    run(safety.id.as_str()).await;
    assert_eq!(live(), ["one", "two"]);
}

/// A backup may have files of users whom the service does not run as: seen once they are unpacked, and told
/// before anybody is turned away.
#[tokio::test]
async fn files_that_the_service_can_neither_read_nor_write_are_told() {
    let artifact = &both_names()[0];
    let config = CONFIG.replace(
        "[components.it]",
        "[services.app]\ncommand = ['true']\nuser = 'www-data'\n[components.it]\nservice = 'app'",
    );
    for (owner, keys, codes) in [
        (0, "", &["volume.foreign_owner"][..]),
        (33, "", &[][..]),
        (0, "owners = 'volume'", &[][..]),
        (0, "user = 33\ngroup = 33", &[][..]),
    ] {
        let site = Site::new();
        let volume = site.path("volume");
        put(volume.join("live"), "live");
        let made = site.path("made");
        put(made.join("kept/secret"), "1");
        let private = |path: &Path, mode: u32| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
            chown(path, Some(owner), Some(owner)).unwrap();
        };
        private(&made.join("kept/secret"), 0o600);
        private(&made.join("kept"), 0o700);
        chown(&volume, Some(33), Some(33)).unwrap();
        site.pack(artifact, &made, &["."]);
        let component = site.component(&format!("{config}\n{keys}"));
        let cx = site.context().await;
        let staged = component.stage(&cx).await.unwrap();
        let found: Vec<&str> = staged.findings.iter().map(|it| it.code.as_str()).collect();
        assert_eq!(found, codes, "{owner} {keys:?}");
        for finding in &staged.findings {
            let told = "www-data, whom app runs as, cannot read 2 of ";
            assert!(finding.message.contains(told), "{}", finding.message);
        }
    }
}
