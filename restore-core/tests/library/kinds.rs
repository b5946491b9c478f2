//! Kinds of an embedder's own, by their names in `restore.toml`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use restore_core::check::{Check, RetryMode, When};
use restore_core::component::{CheckOutcome, Registry};
use restore_core::config::{SiteConfig, Table, parse_section};
use restore_core::hook::{HookCalls, HookMoment, HookSubject};
use restore_core::maintenance::Maintenance;
use restore_core::platform::local;
use restore_core::store::{BackupStore, DirectoryStore};
use restore_core::{Finding, Result, RunId, RunOptions, Site, Timestamp};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    says: String,
}

struct Said {
    name: String,
    section: Section,
}

#[async_trait]
impl Check for Said {
    fn name(&self) -> &str {
        &self.name
    }
    fn when(&self) -> When {
        When::BeforeTraffic
    }
    async fn run(&self, _since: Timestamp, _tries: RetryMode) -> CheckOutcome {
        CheckOutcome::new(&self.name, true, &self.section.says)
    }
}

struct Sign;

#[async_trait]
impl Maintenance for Sign {
    async fn inspect(&self) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }
    async fn on(&self, _run: &RunId, _since: Timestamp) -> Result<()> {
        Ok(())
    }
    async fn off(&self, _run: &RunId) -> Result<()> {
        Ok(())
    }
}

const SITE: &str = r#"
[site]
name = "shop"
state = "state"
[platform]
kind = "mine"
[components]
[stores.main]
kind = "shelf"
says = "backups"
passphrase_env = "SHELF_PASSPHRASE"
[checks.hello]
kind = "said"
says = "all is well"
[maintenance]
kind = "sign"
"#;

fn registry(asked: &Arc<AtomicBool>) -> Registry {
    let asked = asked.clone();
    Registry::default()
        .with_platform(
            "mine",
            Arc::new(move |config, base, state| {
                asked.store(true, Ordering::Relaxed);
                let mut config = config.clone();
                config.platform = Table::new();
                local::make(&config, base, state)
            }),
        )
        .with_store(
            "shelf",
            Arc::new(|name, table, base| {
                let section: Section = parse_section(&format!("stores.{name}"), table)?;
                let store: Arc<dyn BackupStore> =
                    Arc::new(DirectoryStore::new(base.join(section.says)));
                Ok(store)
            }),
        )
        .with_check(
            "said",
            Arc::new(|name, table, _parts| {
                let section: Section = parse_section(&format!("checks.{name}"), table)?;
                let check: Arc<dyn Check> = Arc::new(Said {
                    name: name.to_owned(),
                    section,
                });
                Ok(check)
            }),
        )
        .with_maintenance(
            "sign",
            Arc::new(|_table, _parts| {
                let sign: Arc<dyn Maintenance> = Arc::new(Sign);
                Ok(sign)
            }),
        )
}

#[tokio::test]
async fn kinds_of_all_five_sorts_work_from_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let config = SiteConfig::from_toml(SITE).unwrap();
    let asked = Arc::default();
    let site = Site::from_config(config, dir.path(), &registry(&asked)).unwrap();
    assert!(asked.load(Ordering::Relaxed));
    let (name, store) = &site.stores()[0];
    assert_eq!(name, "main");
    assert_eq!(
        store.directory(),
        Some(dir.path().join("backups").as_path())
    );
    let outcomes = site.check(&RunOptions::default()).await.unwrap();
    assert_eq!(outcomes[0].detail, "all is well");
}

/// What hooks of every kind have is read by the library, for kinds of embedders' own too.
#[test]
fn keys_of_all_hooks_are_taken_out_of_the_table_of_one() {
    let table = |toml: &str| -> Table { toml::from_str(toml).unwrap() };
    let mut section =
        table("when = ['on-failure']\nfor = ['drill']\ntimeout = '2m'\nfile = 'diary'");
    let calls = HookCalls::take("diary", &mut section).unwrap();
    assert_eq!(section.keys().collect::<Vec<_>>(), ["file"]);
    assert_eq!(calls.timeout().as_secs(), 120);
    assert!(calls.has(HookMoment::OnFailure, HookSubject::Drill));
    assert!(!calls.has(HookMoment::OnFailure, HookSubject::Run));
    assert!(!calls.has(HookMoment::OnSuccess, HookSubject::Drill));
    for (toml, code) in [
        ("file = 'diary'", "config.missing_key"),
        ("when = []", "config.bad_value"),
        ("when = ['never']", "config.bad_value"),
        (
            "when = ['after-swap']\nfor = ['backup']",
            "config.bad_value",
        ),
    ] {
        let error = HookCalls::take("diary", &mut table(toml)).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains("[hooks.diary]"), "{error}");
    }
}

#[test]
fn a_kind_that_nobody_knows_is_told_with_those_that_somebody_does() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Arc::default();
    for (kind, known) in [
        ("mine", "local, mine, swarm"),
        ("shelf", "azure, directory, gcs, s3, shelf, ssh"),
        ("said", "command, http, log, process, redis, said, sql"),
        ("sign", "nginx, sign"),
    ] {
        let toml = SITE.replace(&format!("kind = {kind:?}"), "kind = \"odd\"");
        let config = SiteConfig::from_toml(&toml).unwrap();
        let opened = Site::from_config(config, dir.path(), &registry(&asked));
        let error = opened.err().unwrap();
        let text = format!("{error} {}", error.hint_text().unwrap_or_default());
        assert!(text.contains(known), "{kind}: {text}");
    }
    // A key that the kind does not know is an error, as everywhere; those of all stores are not.
    let toml = SITE.replace("says = \"backups\"", "says = \"backups\"\nshelves = 3");
    let config = SiteConfig::from_toml(&toml).unwrap();
    let error = Site::from_config(config, dir.path(), &registry(&asked)).err();
    assert!(error.unwrap().to_string().contains("shelves"));
}
