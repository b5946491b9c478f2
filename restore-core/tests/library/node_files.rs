//! A tree of files of another node: all that is done with it is done there.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use restore_core::component::{Registry, SharedComponent};
use restore_core::config::SiteConfig;
use restore_core::maintenance::FILE_NAME;
use restore_core::platform::{Discard, local};
use restore_core::run::{Boundary, Outcome};
use restore_core::{ErrorKind, PlanRequest, RunOptions, Severity};
use restore_testing::archives::{ID, Site, code, put};
use restore_testing::nodes::TwoNodes;
use restore_testing::trees::fingerprint;

const CONFIG: &str = "
    [components.it]
    kind = 'files'
    archive = ['configs/app-{id}.tar.gz']
    root = '@/host'
    tree = 'srv/app'
    exclude = ['cache']
    node = 'worker'
";

type Tree = BTreeMap<String, String>;

fn on_two_nodes(site: &Site, config: &str) -> restore_core::Result<SharedComponent> {
    site.component_on(config, |host| TwoNodes::made(host, &["worker"]))
}

/// A tree with a backup of it, damaged since: the site, the tree at backup time and now.
fn damaged() -> (Site, Tree, Tree) {
    let site = Site::new();
    let tree = site.path("host/srv/app");
    put(tree.join("app.conf"), "good");
    put(tree.join("conf.d/api.conf"), "good api");
    put(tree.join("ssl/key.pem"), "good key");
    chown(tree.join("ssl/key.pem"), Some(33), Some(33)).unwrap();
    std::fs::set_permissions(tree.join("ssl/key.pem"), PermissionsExt::from_mode(0o400)).unwrap();
    // Into the tree by the path that it has on its node, not by the agent's.
    symlink(tree.join("conf.d"), tree.join("enabled")).unwrap();
    let good = fingerprint(&tree);
    put(tree.join("cache/old"), "cache");
    put(tree.join("conf.d").join(FILE_NAME), "old page");
    site.pack(
        &format!("configs/app-{ID}.tar.gz"),
        &site.path("host"),
        &["srv/app"],
    );
    std::fs::remove_dir_all(tree.join("cache")).unwrap();
    std::fs::remove_file(tree.join("conf.d").join(FILE_NAME)).unwrap();

    put(tree.join("app.conf"), "damaged");
    put(tree.join("stray/file"), "not in the backup");
    std::fs::remove_dir_all(tree.join("ssl")).unwrap();
    let bad = fingerprint(&tree);
    (site, good, bad)
}

#[tokio::test]
async fn a_tree_is_restored_on_its_node_and_taken_back() {
    let (site, good, bad) = damaged();
    let tree = site.path("host/srv/app");
    let other = tree.join(".restore-20240101-000000-abcd");
    std::fs::create_dir(&other).unwrap();
    let component = on_two_nodes(&site, CONFIG).unwrap();
    let cx = site.context().await;

    let inspection = component.inspect(&cx).await.unwrap();
    let codes: Vec<&str> = inspection.findings.iter().map(|it| &*it.code).collect();
    assert_eq!(codes, ["volume.other_run"], "{:?}", inspection.findings);
    for text in [
        &inspection.staged_at,
        &inspection.summary,
        &inspection.findings[0].subject,
    ] {
        assert!(text.contains("node worker"), "{text}");
    }
    assert!(inspection.needs[0].space.file_system.contains("worker"));
    assert!(component.live_bytes().await.unwrap() > 0);

    let staged = component.stage(&cx).await.unwrap();
    let codes: Vec<&str> = staged.findings.iter().map(|it| &*it.code).collect();
    assert_eq!(codes, ["files.old_maintenance_page", "files.excluded"]);
    assert_eq!(fingerprint(&tree), bad);
    component.cut_over(&cx).await.unwrap();
    assert_eq!(fingerprint(&tree), good);
    let outcome = &component.check(&cx).await.unwrap()[0];
    assert!(outcome.passed, "{}", outcome.detail);
    let replaced = component.replaced_at(&cx).await.unwrap().unwrap();
    assert!(replaced.contains("node worker"), "{replaced}");
    component.undo(&cx).await.unwrap();
    assert_eq!(fingerprint(&tree), bad);
    component.discard(&cx, Discard::Staged).await.unwrap();

    let cx = cx.with_paths(vec![tree.join("ssl").display().to_string()]);
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    let live = fingerprint(&tree);
    assert_eq!(live["ssl/key.pem"], good["ssl/key.pem"]);
    assert_eq!(live["app.conf"], bad["app.conf"]);
    component.discard(&cx, Discard::Replaced).await.unwrap();
    assert!(!tree.join(site.run.folder()).exists());
    assert!(other.exists());
}

/// What another node lacks may only not be mounted there: it is never made.
#[tokio::test]
async fn a_tree_that_is_absent_there_is_refused_and_not_made() {
    let (site, _, _) = damaged();
    let tree = site.path("host/srv/app");
    std::fs::rename(&tree, site.path("away")).unwrap();
    let component = on_two_nodes(&site, CONFIG).unwrap();
    let cx = site.context().await;
    let findings = component.inspect(&cx).await.unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].severity, Severity::Error);
    assert_eq!(findings[0].code, "platform.no_tree");
    let error = component.stage(&cx).await.unwrap_err();
    assert_eq!(error.code(), "platform.no_tree");
    component.undo(&cx).await.unwrap();
    component.discard(&cx, Discard::Staged).await.unwrap();
    assert_eq!(component.replaced_at(&cx).await.unwrap(), None);
    assert!(!tree.exists());

    // Lost after the swap, nothing is taken for undone.
    std::fs::rename(site.path("away"), &tree).unwrap();
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    std::fs::rename(&tree, site.path("away")).unwrap();
    let error = component.undo(&cx).await.unwrap_err();
    assert_eq!(error.code(), "volume.run_folder_missing");
    assert!(error.message().contains("node worker"), "{error}");
}

/// The tree of a service that runs on another node is not to be made here.
#[tokio::test]
async fn a_tree_that_belongs_to_another_node_is_not_made_here() {
    let (site, _, _) = damaged();
    let tree = site.path("host/srv/app");
    std::fs::remove_dir_all(&tree).unwrap();
    let config = CONFIG.replace("node = 'worker'", "service = 'app'");
    let cx = site.context().await;
    for (runs_on, expected, severity) in [
        (&["worker"][..], "files.elsewhere", Severity::Error),
        (&[], "files.tree_absent", Severity::Warning),
    ] {
        let component = site.component_on(&config, |host| TwoNodes::made(host, runs_on));
        let findings = component.unwrap().inspect(&cx).await.unwrap().findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].code, expected);
        assert_eq!(findings[0].severity, severity);
        let hint = findings[0].hint.as_deref().unwrap();
        let names = hint.contains("node = \"worker\" to [components.it]");
        assert_eq!(names, !runs_on.is_empty(), "{hint}");
    }
    assert!(!tree.exists());
}

#[tokio::test]
async fn what_cannot_be_done_on_another_node_is_refused_at_once() {
    let site = Site::new();
    let error = site.try_component(CONFIG).err().unwrap();
    assert_eq!(error.code(), "config.no_nodes");
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.message().contains("components.it"), "{error}");
    for (from, to, expected) in [
        ("'worker'", "''", "config.bad_value"),
        ("'@/host'", "'host'", "config.bad_value"),
        (
            "kind",
            "redeploy = true\nstack = 'x'\ncompose = ['x']\nkind",
            "config.bad_value",
        ),
        ("kind", "test = ['true']\nkind", "config.missing_key"),
        ("kind", "reload = ['true']\nkind", "config.missing_key"),
        ("kind", "service = 'x'\nreload = ['true']\nkind", "no error"),
    ] {
        let config = CONFIG.replacen(from, to, 1);
        assert_eq!(code(on_two_nodes(&site, &config)), expected, "{config}");
    }
}

/// What lies where on a node is known by its paths alone: enough to see that two could not be undone one by one.
#[tokio::test]
async fn trees_of_one_node_that_overlap_are_refused() {
    let site = Site::new();
    put(site.path("host/srv/app/kept"), "live");
    put(site.path("host/srv/app/data/x"), "live");
    site.pack(
        &format!("configs/app-{ID}.tar.gz"),
        &site.path("host"),
        &["srv/app"],
    );
    let backups = site.path("backups");
    let here = backups.parent().unwrap();
    let overlaps = async |exclude: &str, node: &str| -> Vec<String> {
        let text = format!(
            "
            [site]
            name = 'test'
            state = '@/state'
            [stores.main]
            kind = 'directory'
            path = '@/backups'
            [components.app]
            kind = 'files'
            root = '@/host'
            tree = 'srv/app'
            node = 'worker'
            exclude = [{exclude}]
            [components.data]
            kind = 'files'
            root = '@/host/srv/app'
            tree = 'data'
            optional = true
            {node}
            "
        );
        let text = text.replace('@', here.to_str().unwrap());
        let config = SiteConfig::from_toml(&text).unwrap();
        let host = local::make(&config, here, &site.path("state")).unwrap();
        let platform = TwoNodes::made(host, &["worker"]);
        let registry = Registry::default();
        let opened = restore_core::Site::with_platform(config, here, &registry, platform).unwrap();
        let backup = opened.backup(ID).await.unwrap();
        let plan = opened
            .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
            .await
            .unwrap();
        let findings = plan.findings.into_iter();
        let told = findings.filter(|it| it.code == "plan.overlap");
        told.map(|it| it.message).collect()
    };
    let app = site.path("host/srv/app");
    let (app, data) = (app.display(), app.join("data"));
    assert_eq!(
        overlaps("", "node = 'worker'").await,
        [format!(
            "{} of the node worker, which the component data restores, lies in {app} of the node worker, which the \
             run replaces for app: neither could be undone without the other",
            data.display()
        )]
    );
    assert!(overlaps("'data'", "node = 'worker'").await.is_empty());
    assert!(overlaps("", "").await.is_empty(), "on two machines");
}

/// Of a node that is no more, and in a process that goes on with the run, which its journal alone tells.
#[tokio::test]
async fn a_run_goes_on_where_another_node_has_taken_the_place() {
    let (site, good, bad) = damaged();
    let tree = site.path("host/srv/app");
    let backups = site.path("backups");
    let here = backups.parent().unwrap();
    let store = "[stores.main]\nkind = 'directory'\npath = '@/backups'\n";
    let text = format!(
        "[site]\nname = 'test'\nstate = '@/state'\nsafety_backup = false\n{store}{}",
        CONFIG.replace("'worker'", "'lost'")
    );
    let text = text.replace('@', here.to_str().unwrap());
    let open = || {
        let config = SiteConfig::from_toml(&text).unwrap();
        let host = local::make(&config, here, &site.path("state")).unwrap();
        let platform = TwoNodes::made(host, &[]);
        let registry = Registry::default();
        restore_core::Site::with_platform(config, here, &registry, platform).unwrap()
    };
    let codes = async |request: PlanRequest| -> Vec<String> {
        let opened = open();
        let backup = opened.backup(ID).await.unwrap();
        let options = RunOptions::new();
        let plan = opened.plan_with(&backup, request, &options).await.unwrap();
        let errors = plan.errors();
        errors.map(|it| it.code.clone()).collect()
    };
    let refused = codes(PlanRequest::all()).await;
    assert!(refused.contains(&"swarm.no_node".to_owned()), "{refused:?}");
    let refused = codes(PlanRequest::all().nodes([("lost", "other")])).await;
    assert!(
        refused.contains(&"plan.node_absent".to_owned()),
        "{refused:?}"
    );
    let refused = codes(PlanRequest::all().nodes([("other", "worker")])).await;
    assert!(
        refused.contains(&"plan.node_unknown".to_owned()),
        "{refused:?}"
    );

    let opened = open();
    let backup = opened.backup(ID).await.unwrap();
    let request = PlanRequest::all().nodes([("lost", "worker")]);
    let is_taken_for = async || {
        let nodes = opened.platform().nodes().unwrap();
        nodes.name_of("lost").await.unwrap().unwrap()
    };
    let options = RunOptions::new();
    let compared = opened.difference(&backup, &request, 1, &options).await;
    assert_eq!(compared.unwrap().components.len(), 1);
    assert_eq!(is_taken_for().await, "worker");
    let plan = opened.plan_with(&backup, request, &options).await.unwrap();
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    // A plan without them, in the same process, is of the site as it is configured.
    let without = opened.plan_with(&backup, PlanRequest::all(), &options);
    assert!(without.await.unwrap().refusal().is_some());
    assert_eq!(is_taken_for().await, "lost");
    let dies = RunOptions::new().boundary(Arc::new(|boundary: &Boundary| {
        assert_ne!(boundary.record, "intent cut-over:it", "died");
        Ok(())
    }));
    let run = async { opened.run(plan, dies).await };
    assert!(AssertUnwindSafe(run).catch_unwind().await.is_err());
    drop(opened);
    assert_eq!(fingerprint(&tree), bad);
    let report = open().resume(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_eq!(fingerprint(&tree), good);
    let report = open().rollback(None, RunOptions::new()).await.unwrap();
    assert_eq!(report.outcome, Outcome::RolledBack, "{}", report.to_text());
    assert_eq!(fingerprint(&tree), bad);
}

#[tokio::test]
async fn what_is_replaced_on_a_node_is_none_of_this_host() {
    let site = Site::new();
    let component = on_two_nodes(&site, CONFIG).unwrap();
    assert!(component.targets(&[]).await.unwrap().is_empty());
    let told = component.targets_elsewhere(&[]).await.unwrap();
    let [(node, target)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(node, "worker");
    assert_eq!(target.path, site.path("host/srv/app"));
}
