//! A swarm on an engine that is in none: begun, and left again where nothing is in it.

use std::time::Duration;

use serde_json::{Value, json};

use super::lock;
use super::{SwarmPlatform, stacks};
use crate::model::{Error, ErrorKind, Result};
use crate::platforms::docker::engine::{Engine, Refused};
use crate::platforms::docker::json::{encoded, text};
use crate::sys::retry::Retry;

/// How long a new swarm may take until its first node can be given tasks.
const BEGIN: Duration = Duration::from_secs(60);

/// How often it is asked.
const LOOK: Duration = Duration::from_millis(200);

/// Where a new swarm listens for other nodes, as Docker's own command has it.
pub(super) const LISTEN: &str = "0.0.0.0:2377";

impl Engine {
    /// Whether the engine is in no swarm at all.
    pub(super) async fn is_in_no_swarm(&self) -> Result<bool> {
        self.patiently(|| async {
            self.docker().await?;
            let info = self.get("ask the engine for its swarm", "/info").await?;
            Ok(text(&info, "/Swarm/LocalNodeState").as_deref() == Some("inactive"))
        })
        .await
    }

    /// What the engine lists; nothing where it is in no swarm.
    pub(super) async fn listed(&self, kind: &str) -> Result<Vec<Value>> {
        let what = format!("list the {kind}");
        let listed = self
            .patiently(|| async {
                self.docker().await?;
                self.get(&what, &format!("/{kind}")).await
            })
            .await;
        match listed {
            Err(e) if e.is(&Refused::NoSwarm) => Ok(Vec::new()),
            listed => Ok(listed?.as_array().cloned().unwrap_or_default()),
        }
    }

    /// Removes the containers of tasks, of an engine whose swarm has no services.
    async fn remove_task_containers(&self) -> Result<()> {
        let filter = encoded(r#"{"label":["com.docker.swarm.service.id"]}"#);
        let path = format!("/containers/json?all=1&filters={filter}");
        let left = self.get("list the containers of tasks", &path).await?;
        for id in left
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|it| text(it, "/Id"))
        {
            let path = format!("/containers/{id}?force=true");
            match self
                .delete("remove the container of a task that has ended", &path)
                .await
            {
                Err(e) if e.is(&Refused::NotFound) || e.is(&Refused::Leaving) => {}
                done => done?,
            }
        }
        Ok(())
    }

    /// Begins a swarm.
    async fn begin_swarm(&self, advertise: &str, listen: &str) -> Result<()> {
        let spec = json!({"AdvertiseAddr": advertise, "ListenAddr": listen, "Spec": {}});
        let begun = self.post("begin a swarm", "/swarm/init", &spec).await;
        begun.map(drop).map_err(|e| {
            e.hint("correct `advertise` (an address or interface of this host) and `listen` of [platform]; `docker swarm init` says more")
        })
    }

    /// Whether anything is in the swarm that stays until somebody removes it: besides one node, networks and the
    /// lock of the site.
    async fn is_used(&self, site: &str) -> Result<bool> {
        if self.listed("nodes").await?.len() != 1 {
            return Ok(true);
        }
        let foreign = |config: &Value| !lock::is_of(site, config);
        Ok(!self.listed("services").await?.is_empty()
            || !self.listed("secrets").await?.is_empty()
            || self.listed("configs").await?.iter().any(foreign))
    }

    /// Whether the swarm has networks besides its own.
    async fn has_networks(&self) -> Result<bool> {
        let networks = self.listed("networks").await?;
        let of_swarm = |network: &Value| {
            text(network, "/Scope").as_deref() == Some("swarm")
                && network.get("Ingress") != Some(&Value::Bool(true))
        };
        Ok(networks.iter().any(of_swarm))
    }
}

impl SwarmPlatform {
    /// See [`Stacks::foundation`](crate::contract::Stacks::foundation).
    pub(super) async fn absent_swarm(&self) -> Result<Option<String>> {
        let Some(advertise) = &self.config.advertise else {
            return Ok(None);
        };
        let none = self.engine.is_in_no_swarm().await?;
        Ok(none.then(|| format!("swarm at {advertise}")))
    }

    /// See [`Stacks::make_foundation`](crate::contract::Stacks::make_foundation).
    pub(super) async fn make_swarm(&self) -> Result<()> {
        if self.absent_swarm().await?.is_some() {
            let advertise = self.config.advertise.as_deref().unwrap_or_default();
            self.engine
                .begin_swarm(advertise, &self.config.listen)
                .await?;
        }
        let retry = Retry::within(BEGIN, LOOK);
        loop {
            let nodes = self.nodes.all().await?;
            if nodes.iter().any(super::nodes::Node::is_ready) {
                // The run that has begun it could take no lock before. From here on others can be in it.
                return match self.held() {
                    Some(held) => held.complete(&self.engine, &self.config.site).await,
                    None => Ok(()),
                };
            }
            if retry.is_over() {
                return Err(Error::new(
                    ErrorKind::Failed,
                    "swarm.not_ready",
                    format!(
                        "the new swarm has no node that is ready after {} s",
                        BEGIN.as_secs()
                    ),
                )
                .hint("`docker node ls` and the engine's own log say why"));
            }
            retry.pause().await;
        }
    }

    /// See [`Stacks::remove_foundation`](crate::contract::Stacks::remove_foundation).
    pub(super) async fn leave_swarm(&self) -> Result<bool> {
        if self.engine.is_in_no_swarm().await? {
            return Ok(true);
        }
        // Networks are in use for a moment after their last containers are gone.
        let retry = Retry::within(stacks::RELEASE, LOOK);
        loop {
            if self.engine.is_used(&self.config.site).await? {
                return Ok(false);
            }
            if !self.engine.has_networks().await? {
                break;
            }
            if retry.is_over() {
                return Ok(false);
            }
            retry.pause().await;
        }
        // Of tasks that are no more: once the swarm is left, nobody removes them.
        self.engine.remove_task_containers().await?;
        let what = "leave the swarm that the run had begun";
        match self
            .engine
            .post(what, "/swarm/leave?force=true", &json!({}))
            .await
        {
            Err(e) if e.is(&Refused::NoSwarm) => Ok(true),
            left => left.map(|_| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;
    use crate::contract::SiteConfig;
    use crate::platforms::docker::address::Address;
    use crate::platforms::docker::fake::{FakeEngine, NO_MANAGER};
    use crate::platforms::swarm::make;

    /// Once there is a swarm, another host can work on the site as well.
    #[tokio::test]
    async fn a_run_that_begins_the_swarm_holds_its_lock_from_then_on() {
        let begun = AtomicBool::new(false);
        let fake = FakeEngine::new(move |request| {
            if request == "POST /swarm/init" {
                begun.store(true, Ordering::Relaxed);
                return (200, "\"node\"".to_owned());
            }
            let there = begun.load(Ordering::Relaxed);
            match (request, there) {
                ("GET /info", _) => {
                    let state = if there { "active" } else { "inactive" };
                    let swarm = json!({"LocalNodeState": state});
                    (200, json!({"Swarm": swarm}).to_string())
                }
                (_, false) => (503, NO_MANAGER.to_owned()),
                ("GET /nodes", _) => (
                    200,
                    r#"[{"ID": "node", "Status": {"State": "ready"}}]"#.to_owned(),
                ),
                ("POST /configs/create", _) => (201, r#"{"ID": "lock"}"#.to_owned()),
                ("DELETE /configs/lock", _) => (200, "{}".to_owned()),
                _ => (404, r#"{"message": "there is none"}"#.to_owned()),
            }
        });
        let dir = tempfile::tempdir().unwrap();
        let text = format!(
            "[site]\nname = 'tests'\nstate = 'state'\n[stores.main]\nkind = 'directory'\npath = 'backups'\n\
             [platform]\nkind = 'swarm'\nadvertise = '10.0.0.11'\nsocket = '{}'\n[components]\n",
            fake.socket().display()
        );
        let config = SiteConfig::from_toml(&text).unwrap();
        let platform = make(&config, dir.path(), Path::new("state")).unwrap();
        let asked = |wanted: &str| {
            let asked = fake.asked().into_iter();
            asked.filter(|(request, _)| request == wanted).count()
        };
        let lock = platform.lock("restore").await.unwrap();
        let lock = lock.expect("containers beside volumes end with it");
        let stacks = platform.stacks().unwrap();
        let before = asked("POST /configs/create");
        // A second time, as after a kill, the lock is there.
        for _ in 0..2 {
            stacks.make_foundation().await.unwrap();
            assert_eq!(asked("POST /configs/create"), before + 1);
        }
        assert_eq!(asked("DELETE /configs/lock"), 0);
        lock.release().await.unwrap();
        assert_eq!(asked("DELETE /configs/lock"), 1);
        // Nobody works any more for whom it would be held.
        stacks.make_foundation().await.unwrap();
        assert_eq!(asked("POST /configs/create"), before + 1);
    }

    #[tokio::test]
    async fn nothing_is_listed_only_where_there_is_no_swarm() {
        for (state, there) in [("inactive", 0), ("error", 1)] {
            let asked = AtomicUsize::new(0);
            let fake = FakeEngine::new(move |request| match request {
                "GET /info" => {
                    let swarm = json!({"LocalNodeState": state});
                    (200, json!({"Swarm": swarm}).to_string())
                }
                _ if asked.fetch_add(1, Ordering::Relaxed) < 2 => (503, NO_MANAGER.to_owned()),
                _ => (200, r#"[{"ID": "x"}]"#.to_owned()),
            });
            let engine = Engine::manager(Address::Unix(fake.socket()));
            assert_eq!(engine.listed("secrets").await.unwrap().len(), there);
            assert_eq!(engine.is_in_no_swarm().await.unwrap(), there == 0);
        }
    }
}
