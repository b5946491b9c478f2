//! The content of a volume: staged from plain archives, swapped, taken back, given up.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

use restore_core::ErrorKind;
use restore_core::platform::Discard;
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

/// Trap 31.
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

/// Trap 33.
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

/// Trap 34.
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
