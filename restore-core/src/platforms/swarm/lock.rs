//! The lock of a site for the whole swarm: a config object, which only one process can make.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use crate::contract::PlatformLock;
use crate::model::{Error, ErrorKind, Result, Timestamp};
use crate::platforms::docker::engine::{Engine, Refused};
use crate::platforms::docker::json::{encoded, text};
use crate::platforms::docker::process_identity::{Liveness, ProcessIdentity};

/// How often the holder says that it still works.
const BEAT: Duration = Duration::from_secs(15);

const ACTION: &str = "restore.action";
const SINCE: &str = "restore.since";
const SEEN: &str = "restore.seen";

/// A lock that somebody holds.
struct Held {
    id: String,
    labels: HashMap<String, String>,
}

impl Held {
    fn who(&self) -> Option<ProcessIdentity> {
        ProcessIdentity::read(&self.labels)
    }

    fn label(&self, key: &str) -> &str {
        self.labels.get(key).map_or("?", String::as_str)
    }

    /// How long its holder has not been heard of.
    fn silence(&self) -> Option<Duration> {
        let seen: jiff::Timestamp = self.label(SEEN).parse().ok()?;
        Duration::try_from(jiff::Timestamp::now().duration_since(seen)).ok()
    }

    fn describe(&self) -> String {
        let (host, pid) = match self.who() {
            Some(who) => (who.host, who.pid.to_string()),
            None => ("?".to_owned(), "?".to_owned()),
        };
        let heard = match self.silence() {
            Some(silence) if silence > BEAT * 3 => {
                format!(", and has not been heard of for {} s", silence.as_secs())
            }
            _ => String::new(),
        };
        format!(
            "a {} is under way on {host} since {} (process {pid}){heard}",
            self.label(ACTION),
            self.label(SINCE)
        )
    }

    fn locked(&self, name: &str) -> Error {
        Error::new(
            ErrorKind::Locked,
            "site.locked",
            format!("{}; the lock is the swarm's config {name}", self.describe()),
        )
        .hint("wait until it ends; if that host or process is gone for good, `restore unlock` takes its lock away")
        .retryable()
    }
}

/// The name of a site's lock, within what the engine takes for a name.
fn name_of(site: &str) -> String {
    use sha2::Digest as _;
    let plain: String = site
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(32)
        .collect();
    let hash = sha2::Sha256::digest(site.as_bytes());
    let hash: String = hash
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("restore-lock-{plain}-{hash}")
}

/// Whether a config is a site's lock.
pub(super) fn is_any(config: &Value) -> bool {
    let labels = config.pointer("/Spec/Labels");
    labels.is_some_and(|labels| labels.get(ACTION).is_some())
}

/// Whether a config is the lock of this site.
pub(super) fn is_of(site: &str, config: &Value) -> bool {
    is_any(config) && text(config, "/Spec/Name") == Some(name_of(site))
}

async fn look(engine: &Engine, name: &str) -> Result<Option<(Held, Value)>> {
    engine
        .patiently(|| async {
            engine.docker().await?;
            let found = engine
                .get(
                    "look at the swarm's lock",
                    &format!("/configs/{}", encoded(name)),
                )
                .await;
            let found = match found {
                // Of an engine that is in no swarm only its own host makes one.
                Err(e) if e.is(&Refused::NotFound) || e.is(&Refused::NoSwarm) => return Ok(None),
                found => found?,
            };
            // The engine also takes the beginnings of ids for names.
            if text(&found, "/Spec/Name").as_deref() != Some(name) {
                return Ok(None);
            }
            let labels = found.pointer("/Spec/Labels").and_then(Value::as_object);
            let labels = labels.into_iter().flatten();
            let held = Held {
                id: text(&found, "/ID").unwrap_or_default(),
                labels: labels
                    .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                    .collect(),
            };
            Ok(Some((held, found)))
        })
        .await
}

async fn delete(engine: &Engine, id: &str) -> Result<()> {
    engine
        .patiently(|| async {
            let what = "give the swarm's lock back";
            match engine.delete(what, &format!("/configs/{id}")).await {
                // With the swarm its configs are gone.
                Err(e) if e.is(&Refused::NotFound) || e.is(&Refused::NoSwarm) => Ok(()),
                done => done,
            }
        })
        .await
}

/// Says who holds the lock, where somebody does; changes nothing.
pub(super) async fn probe(engine: &Engine, site: &str) -> Result<()> {
    let name = name_of(site);
    match look(engine, &name).await? {
        Some((held, _)) if held.who().map(|who| who.fate()) != Some(Liveness::Gone) => {
            Err(held.locked(&name))
        }
        _ => Ok(()),
    }
}

/// Takes the lock. One whose holder was a process of this host that is gone is taken over. `None` where the
/// engine is in no swarm: only its own host works on it.
pub(super) async fn take(
    engine: &Arc<Engine>,
    site: &str,
    action: &str,
) -> Result<Option<Box<dyn PlatformLock>>> {
    let name = name_of(site);
    let own = ProcessIdentity::here();
    let mut labels = own.labels();
    let now = Timestamp::now().to_string();
    labels.extend([
        (ACTION.to_owned(), action.to_owned()),
        (SINCE.to_owned(), now.clone()),
        (SEEN.to_owned(), now),
    ]);
    // The engine wants some content; what there is to know is in the labels.
    let spec = json!({"Name": name, "Labels": labels, "Data": "bG9jaw=="});
    engine.docker().await?;
    for _ in 0..5 {
        let made = engine
            .patiently(|| engine.post("take the swarm's lock", "/configs/create", &spec))
            .await;
        let refused = match made {
            Ok(made) => {
                let id = text(&made, "/ID").unwrap_or_default();
                let lock = ConfigLock::new(engine.clone(), name, id);
                return Ok(Some(Box::new(lock)));
            }
            Err(e) if e.is(&Refused::NoSwarm) => return Ok(None),
            Err(e) => e,
        };
        if !refused.is(&Refused::Conflict) {
            return Err(refused);
        }
        let Some((held, _)) = look(engine, &name).await? else {
            continue;
        };
        match held.who() {
            // Ours: of work that was dropped half-way, or of an attempt whose answer was lost.
            // Work of this process that goes on holds the lock of this host, which we have.
            Some(who) if who == own => delete(engine, &held.id).await?,
            Some(who) if who.fate() == Liveness::Gone => delete(engine, &held.id).await?,
            _ => return Err(held.locked(&name)),
        }
    }
    Err(Error::new(
        ErrorKind::Locked,
        "site.locked",
        format!("the swarm's config {name}, which is the site's lock, comes and goes: others take it at the same time"),
    )
    .hint("try again")
    .retryable())
}

/// Who holds the lock, in words; `None`: nobody.
pub(super) async fn holder(engine: &Engine, site: &str) -> Result<Option<String>> {
    let held = look(engine, &name_of(site)).await?;
    Ok(held.map(|(held, _)| held.describe()))
}

/// Takes the lock away from whoever holds it.
pub(super) async fn break_open(engine: &Engine, site: &str) -> Result<()> {
    let name = name_of(site);
    let Some((held, _)) = look(engine, &name).await? else {
        return Ok(());
    };
    if held.who().map(|who| who.fate()) == Some(Liveness::Lives) {
        return Err(held
            .locked(&name)
            .hint("its process lives, on this very host: end it first, it undoes its run"));
    }
    delete(engine, &held.id).await
}

/// What is done under the lock of a site, and that lock: none as long as there is no swarm to have it.
pub(super) struct HeldLock {
    action: String,
    pub(super) lock: Mutex<Option<Box<dyn PlatformLock>>>,
}

impl HeldLock {
    /// Takes the lock, or what is to become it once there is a swarm.
    pub(super) async fn take(engine: &Arc<Engine>, site: &str, action: &str) -> Result<Self> {
        let lock = take(engine, site, action).await?;
        Ok(Self {
            action: action.to_owned(),
            lock: Mutex::new(lock),
        })
    }

    /// Takes the lock where that was not possible before, now that there is a swarm.
    pub(super) async fn complete(&self, engine: &Arc<Engine>, site: &str) -> Result<()> {
        let mut lock = self.lock.lock().await;
        if lock.is_none() {
            *lock = take(engine, site, &self.action).await?;
        }
        Ok(())
    }
}

/// The lock, held until released or until its process is gone.
struct ConfigLock {
    engine: Arc<Engine>,
    id: String,
    heart: JoinHandle<()>,
}

impl ConfigLock {
    fn new(engine: Arc<Engine>, name: String, id: String) -> Self {
        let heart = tokio::spawn(beat(engine.clone(), name, id.clone()));
        Self { engine, id, heart }
    }
}

/// Says again and again that the holder still works: another host cannot see its process.
async fn beat(engine: Arc<Engine>, name: String, id: String) {
    loop {
        tokio::time::sleep(BEAT).await;
        // A beat that fails is followed by another.
        let Ok(Some((held, mut found))) = look(&engine, &name).await else {
            continue;
        };
        if held.id != id {
            return;
        }
        let version = found.pointer("/Version/Index").and_then(Value::as_u64);
        let Some(spec) = found.get_mut("Spec") else {
            continue;
        };
        if let Some(labels) = spec.get_mut("Labels").and_then(Value::as_object_mut) {
            labels.insert(SEEN.to_owned(), json!(Timestamp::now().to_string()));
        }
        let path = format!("/configs/{id}/update?version={}", version.unwrap_or(0));
        let _ = engine.post("keep the swarm's lock", &path, spec).await;
    }
}

#[async_trait]
impl PlatformLock for ConfigLock {
    async fn release(self: Box<Self>) -> Result<()> {
        self.heart.abort();
        delete(&self.engine, &self.id).await
    }
}

impl Drop for ConfigLock {
    fn drop(&mut self) {
        self.heart.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::platforms::docker::address::Address;
    use crate::platforms::docker::fake::{FakeEngine, NO_MANAGER};

    /// While its part of the swarm is begun again, a manager answers as an engine does that is in none.
    #[tokio::test]
    async fn the_lock_of_a_manager_that_is_begun_again_is_waited_for() {
        let tries = AtomicUsize::new(0);
        let fake = FakeEngine::new(move |request| match request {
            "GET /info" => (
                200,
                r#"{"Swarm": {"LocalNodeState": "pending"}}"#.to_owned(),
            ),
            "POST /configs/create" if tries.fetch_add(1, Ordering::Relaxed) > 0 => {
                (201, r#"{"ID": "lock"}"#.to_owned())
            }
            "DELETE /configs/lock" => (200, "{}".to_owned()),
            _ => (503, NO_MANAGER.to_owned()),
        });
        let engine = Arc::new(Engine::manager(Address::Unix(fake.socket())));
        let lock = take(&engine, "shop", "restore").await.unwrap();
        lock.expect("it is taken").release().await.unwrap();
    }

    #[test]
    fn names_of_locks_fit_the_engine_and_differ() {
        let long = name_of(&"ü".repeat(200));
        assert!(long.len() <= 64 && long.is_ascii(), "{long}");
        assert_ne!(name_of("a b"), name_of("a-b"));
    }
}
