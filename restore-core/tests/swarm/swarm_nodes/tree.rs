//! A tree of files that only worker1 has.

use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use restore_core::run::Outcome;
use restore_core::{BackupRequest, Plan, PlanRequest, RunOptions, Severity, Site};
use restore_testing::trees::fingerprint;

use super::ground::Ground;

/// Below what is worker1's own: on this host there is no such directory.
const ROOT: &str = "/var/lib/restore-far";

/// The root of a worker's file systems, as this host sees it.
fn root_of(ground: &Ground, number: u32) -> PathBuf {
    let socket = format!("unix://{}", ground.swarm.worker_socket(number).display());
    let mut processes = std::fs::read_dir("/proc").unwrap();
    let engine = processes.find_map(|entry| {
        let folder = entry.unwrap().path();
        let words = std::fs::read_to_string(folder.join("cmdline")).ok()?;
        let mut words = words.split('\0');
        (words.next()?.ends_with("dockerd") && words.any(|word| word == socket))
            .then(|| folder.join("root"))
    });
    engine.expect("a worker's engine")
}

fn put(path: &Path, content: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
    // Archives know whole seconds.
    let second = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + content.len() as u64);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(second).unwrap();
}

fn component(node: &str) -> String {
    format!(
        "[components.far]\nkind = 'files'\narchive = ['configs/far-{{id}}.tar.gz']\nroot = '{ROOT}'\n\
         tree = 'srv/far'\nexclude = ['cache']\nservice = 'grafana'\ntest = ['test', '-e', '/bin/sh']\n\
         reload = ['true']\n{node}\n"
    )
}

async fn planned(site: &Site, id: &str, request: PlanRequest) -> Plan {
    let backup = site.backup(id).await.unwrap();
    let request = request.only(["far"]).no_safety_backup(true);
    site.plan_with(&backup, request, &RunOptions::new())
        .await
        .unwrap()
}

pub async fn a_tree_elsewhere(ground: &Ground) {
    let with_nodes = |node: &str| format!("{}\n{}", ground.nodes(), component(node));
    let site = ground.site("tree", &with_nodes("node = 'worker1'")).await;
    let there = root_of(ground, 1).join(ROOT.trim_start_matches('/'));
    assert!(!Path::new(ROOT).exists());
    let tree = there.join("srv/far");
    put(&tree.join("app.conf"), "good");
    put(&tree.join("conf.d/api.conf"), "good api");
    put(&tree.join("ssl/key.pem"), "good key");
    let key = tree.join("ssl/key.pem");
    std::os::unix::fs::chown(&key, Some(33), Some(34)).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o400);
    std::fs::set_permissions(&key, mode).unwrap();
    std::os::unix::fs::symlink(format!("{ROOT}/srv/far/conf.d"), tree.join("enabled")).unwrap();
    what_is_not_there(ground, &site).await;
    let good = fingerprint(&tree);

    let made = site
        .back_up(BackupRequest::all().only(["far"]), RunOptions::new())
        .await
        .unwrap();
    let id = made.id.as_str();
    std::fs::remove_dir_all(tree.join("ssl")).unwrap();
    put(&tree.join("app.conf"), "damaged");
    put(&tree.join("stray/file"), "not in the backup");
    put(&tree.join("cache/file"), "never restored");
    let bad = fingerprint(&tree);

    // All of it, and back.
    let plan = planned(&site, id, PlanRequest::all()).await;
    assert!(plan.refusal().is_none(), "{:#?}", plan.findings);
    let report = site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    let kept = report.components[0].kept_at.clone().unwrap();
    assert!(kept.contains("of the node worker1"), "{kept}");
    let mut restored = good.clone();
    for path in ["cache", "cache/file"] {
        restored.insert(path.to_owned(), bad[path].clone());
    }
    assert_eq!(fingerprint(&tree), restored);
    let report = site.rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    assert_eq!(fingerprint(&tree), bad);
    ground.confirm(&site).await;
    assert_eq!(fingerprint(&tree), bad);

    // One path of it, for good.
    let request = PlanRequest::all().paths(["srv/far/ssl"]);
    let plan = planned(&site, id, request).await;
    assert!(plan.refusal().is_none(), "{:#?}", plan.findings);
    let report = site.run(plan, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    ground.confirm(&site).await;
    let mut one = bad.clone();
    for path in ["ssl", "ssl/key.pem"] {
        one.insert(path.to_owned(), good[path].clone());
    }
    assert_eq!(fingerprint(&tree), one);
    let names = std::fs::read_dir(&tree).unwrap();
    let mut names = names.map(|entry| entry.unwrap().file_name());
    assert!(names.all(|name| !name.to_string_lossy().starts_with(".restore-")));

    // A site that does not say whose it is.
    let ours = ground.site("tree", &with_nodes("")).await;
    refused(&ours, id, "files.elsewhere", "node = \"worker1\"").await;
    assert!(!Path::new(ROOT).exists());

    // A node that lacks it.
    let away = there.with_extension("away");
    std::fs::rename(&there, &away).unwrap();
    let site = ground.site("tree", &with_nodes("node = 'worker1'")).await;
    refused(&site, id, "platform.no_tree", "mount its file system").await;
    assert!(!there.exists());
    std::fs::remove_dir_all(away).unwrap();
    drop((site, ours));
    std::fs::remove_dir_all(ground.swarm.backup_folder(id)).unwrap();
    ground.nothing_left().await;
}

async fn refused(site: &Site, id: &str, code: &str, hint: &str) {
    let plan = planned(site, id, PlanRequest::all()).await;
    assert!(plan.refusal().is_some());
    let found = plan.findings.iter().find(|finding| finding.code == code);
    let found = found.unwrap_or_else(|| panic!("no {code}: {:#?}", plan.findings));
    assert_eq!(found.severity, Severity::Error);
    assert!(found.hint.as_ref().unwrap().contains(hint), "{found:?}");
}

/// Looking makes nothing, on any node.
async fn what_is_not_there(ground: &Ground, site: &Site) {
    let nodes = site.platform().nodes().unwrap();
    let far = Path::new(ROOT).join("srv/far");
    let volume = nodes.tree("worker1", &far).await.unwrap();
    assert_eq!(volume.path(), None);
    let place = format!("directory {ROOT}/srv/far of the node worker1");
    assert_eq!(volume.describe(), place);
    assert!(volume.free_space().await.unwrap().free_bytes > 0);
    // This node's own are used as they are.
    let own = ground
        .swarm
        .docker(&["info", "--format", "{{.Swarm.NodeID}}"]);
    let here = nodes.tree(&own, ground.swarm.root()).await.unwrap();
    assert_eq!(here.path().as_deref(), Some(ground.swarm.root()));

    let none = far.join("none");
    for (node, path, code) in [
        ("worker1", &none, "platform.no_tree"),
        ("worker2", &far, "platform.no_tree"),
        (own.as_str(), &far, "platform.no_tree"),
        ("nobody", &far, "swarm.no_node"),
    ] {
        let error = nodes.tree(node, path).await.err().unwrap();
        assert_eq!(error.code(), code, "{node}: {error}");
        assert!(error.message().contains(&path.display().to_string()));
        assert!(error.message().contains(node) || node == own, "{error}");
        assert!(error.hint_text().is_some());
    }
    assert!(
        !root_of(ground, 1)
            .join(&none.to_str().unwrap()[1..])
            .exists()
    );
    assert!(!root_of(ground, 2).join(&ROOT[1..]).exists());
    assert!(!Path::new(ROOT).exists());

    let alone = ground.site("tree", "").await;
    let nodes = alone.platform().nodes().unwrap();
    let error = nodes.tree("worker1", &far).await.err().unwrap();
    assert_eq!(error.code(), "swarm.no_endpoint", "{error}");
    assert_eq!(nodes.elsewhere("grafana").await.unwrap(), ["worker1"]);
    let here = nodes.elsewhere("hosting_postgres").await.unwrap();
    assert!(here.is_empty(), "{here:?}");
}
