//! A server that a run stops and that no component restores: a queue, a cache. Without save points it
//! throws away what it holds when it is stopped, and no backup has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;

use super::client::{Client, Info, Refusal};
use super::durable::{AofFiles, SOON, STOPS};
use super::restart::{self, ensure_loads_what_it_writes, is_server, may_load_others};
use super::starts::{Sound, Start};
use crate::contract::{Platform, SecretSource, SiteConfig, StopGuard, Table};
use crate::model::{Error, ErrorKind, Finding, Result, Severity};
use crate::sys::connect;
use crate::sys::connect::{Mode, Tls, TlsKeys};
use crate::sys::retry::Retry;

/// How long its data may take to be written.
const SAVES: Duration = Duration::from_secs(10 * 60);

/// How long it may take to answer anything else.
const ANSWERS: Duration = Duration::from_secs(30);

/// How often it is asked again while it saves by itself.
const AGAIN: Duration = Duration::from_millis(100);

/// The code of what is told of such a server.
const UNLISTED: &str = "redis.unlisted";
const WRITES: &str = "no component restores it: it is made to write its data before it is stopped";
const MAY_BE_LOST: &str = "no component restores it, and it cannot be made to write its data before it is stopped: what it holds may be lost then";

/// How a check of the same server signs in.
#[derive(Debug, Default, Deserialize)]
struct SignIn {
    username: Option<String>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    tls: Option<Mode>,
    ca_file: Option<PathBuf>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

/// A server of this kind that no component restores.
pub(crate) struct Unlisted {
    service: String,
    username: Option<String>,
    password: SecretSource,
    tls: Tls,
    platform: Arc<dyn Platform>,
    sound: Sound,
}

/// The servers among a site's services that no component of this kind restores. A check of one says how
/// to sign in there.
pub(crate) fn unlisted(
    config: &SiteConfig,
    platform: &Arc<dyn Platform>,
    base: &Path,
) -> Vec<Arc<dyn StopGuard>> {
    let of_redis = |table: &Table, service: &str| {
        let is = |key: &str, wanted: &str| {
            table.get(key).and_then(serde_json::Value::as_str) == Some(wanted)
        };
        is("kind", "redis") && is("service", service)
    };
    let listed = |service: &str| {
        let mut components = config.components.values();
        components.any(|it| it.as_object().is_some_and(|it| of_redis(it, service)))
    };
    let is_redis = |service: &str| {
        let programs = platform.programs(service);
        programs.iter().any(|it| is_server(&it.program))
    };
    // One that a unit, a script or a container starts is known by a check of it.
    let check_of = |service: &str| {
        let mut checks = config.checks.iter();
        checks.find_map(|(name, it)| {
            let table = it.as_object().filter(|it| of_redis(it, service))?;
            Some((format!("checks.{name}"), table.clone()))
        })
    };
    let services = config.services.keys();
    let found = services.filter(|it| (is_redis(it) || check_of(it).is_some()) && !listed(it));
    found
        .map(|service| {
            let check = check_of(service);
            let made: Arc<dyn StopGuard> =
                Arc::new(Unlisted::new(service, check, platform.clone(), base));
            made
        })
        .collect()
}

impl Unlisted {
    fn new(
        service: &str,
        check: Option<(String, Table)>,
        platform: Arc<dyn Platform>,
        base: &Path,
    ) -> Self {
        let (place, table) = check.unwrap_or_default();
        // What is wrong with it the check itself says.
        let sign_in: SignIn =
            serde_json::from_value(serde_json::Value::Object(table)).unwrap_or_default();
        let tls = TlsKeys {
            tls: sign_in.tls,
            ca_file: sign_in.ca_file,
            cert_file: sign_in.cert_file,
            key_file: sign_in.key_file,
        };
        let file = sign_in.password_file.map(|file| base.join(file));
        Self {
            service: service.to_owned(),
            username: sign_in.username,
            password: SecretSource::new(&place, file, sign_in.password_env).unwrap_or_default(),
            tls: tls.read(&place, base).unwrap_or_default(),
            platform,
            sound: Sound::default(),
        }
    }

    async fn client(&self, patience: Duration) -> Result<Client> {
        let endpoint = self.platform.endpoint(&self.service).await?;
        let server = connect::Redis {
            endpoint,
            username: self.username.clone(),
            password: self.password.read()?,
            tls: self.tls.clone(),
            patience,
        };
        Ok(Client::new(server, format!("the service {}", self.service)))
    }

    /// The server, once it has let us in.
    async fn signed_in(&self) -> Result<(Client, Info)> {
        let client = self.client(ANSWERS).await?;
        let info = client.info().await?;
        Ok((client, info))
    }

    /// Whether it throws its data away when it is stopped, as far as it or its configuration tells: nothing
    /// is kept of what is not saved.
    async fn forgets(&self, asked: Option<&(Client, Info)>) -> bool {
        if let Some((client, info)) = asked
            && let Ok(Some(points)) = client.setting("save").await
        {
            return points.is_empty() && info.number("aof_enabled") != Some(1);
        }
        let programs = self.platform.programs(&self.service);
        let servers = programs.iter().filter(|it| is_server(&it.program));
        for server in servers {
            if restart::saves_when_stopped(&server.arguments).await == Some(true) {
                return false;
            }
        }
        true
    }

    /// Has an append-only file written anew that was deleted or overwritten beneath it: that is what it loads.
    async fn ensure_has_its_files(&self, client: &Client, info: &Info) -> Result<()> {
        if !self.platform.runs_here(&self.service) {
            return Ok(());
        }
        let dir = client.setting("dir").await.ok().flatten();
        let Some(dir) = dir.filter(|dir| dir.starts_with('/')) else {
            return Ok(());
        };
        let files = AofFiles::Here(PathBuf::from(dir));
        match files.are_lost(client, info).await {
            true => files.rewrite(client, &self.service, SAVES).await,
            false => Ok(()),
        }
    }

    /// SAVE, after whatever else it saves; in the background where only that is allowed.
    async fn save(&self) -> Result<()> {
        let client = self.client(SAVES).await?;
        let retry = Retry::within(SAVES, AGAIN);
        loop {
            let error = match client.save().await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if error.is(&Refusal::Permission) || error.is(&Refusal::UnknownCommand) {
                return self.save_beside(&client, retry, error).await;
            }
            if !error.is(&Refusal::Busy) || retry.is_over() {
                return Err(error);
            }
            retry.pause().await;
        }
    }

    /// Has it save in the background, and waits for the end of that; `refused` is why it does not otherwise.
    async fn save_beside(&self, client: &Client, retry: Retry, refused: Error) -> Result<()> {
        let mut asked = false;
        while !retry.is_over() {
            let info = client.info().await?;
            let idle = info.number("rdb_bgsave_in_progress") != Some(1);
            match (asked, idle) {
                (false, true) => match client.bgsave().await {
                    Ok(begun) => asked = begun,
                    Err(_) => return Err(refused),
                },
                (true, true) if info.text("rdb_last_bgsave_status") != Some("ok") => break,
                // All writers are gone: nothing changes any more.
                (true, true) if info.number("rdb_changes_since_last_save") == Some(0) => {
                    return Ok(());
                }
                (true, true) => asked = false,
                (_, false) => {}
            }
            retry.pause().await;
        }
        Err(refused)
    }

    /// Has it write its data before it is stopped, where it loses that otherwise. `agreed`: whoever has it
    /// stopped knows that it may be lost, so that what it would load by then holds nothing up.
    async fn write_out(&self, agreed: bool) -> Result<()> {
        let failed = |error: Error| {
            let code = "redis.not_durable";
            let message = format!(
                "{} cannot be made to write its data before it is stopped: {error}",
                self.service
            );
            Error::new(ErrorKind::Failed, code, message)
                .hint(format!(
                    "its data may be in its memory only. Put that right, or, if that data may be lost, stop the service {} yourself; then plan again",
                    self.service
                ))
                .source(error)
        };
        let asked = self.signed_in().await;
        if let Ok((client, info)) = &asked {
            if info.is_loading() {
                return Ok(());
            }
            if !agreed {
                let platform = self.platform.as_ref();
                ensure_loads_what_it_writes(platform, &self.service, client, info).await?;
            }
            // What is written between its save and its stop is lost. One that cannot keep it back is stopped all the
            // same.
            let _ = client.pause_writes(SAVES.saturating_add(STOPS)).await;
            if let Err(error) = self.ensure_has_its_files(client, info).await {
                self.not_stopped().await;
                return Err(failed(error));
            }
        }
        let forgets = self.forgets(asked.as_ref().ok()).await;
        let saved = match asked {
            Ok(_) => {
                let saved = self.save().await;
                if saved.is_err() && forgets {
                    self.not_stopped().await;
                }
                saved
            }
            Err(error) => Err(error),
        };
        match saved {
            Err(error) if forgets => Err(failed(error)),
            // It saves by itself when it is stopped.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Why it could not be started again, while it runs.
    async fn broken(&self, info: Option<&Info>) -> Option<Finding> {
        let state = self.platform.service(&self.service).await.ok()?;
        if state.running == 0 {
            return None;
        }
        let start = Start {
            platform: self.platform.as_ref(),
            service: &self.service,
            // Another program may not know its configuration.
            binary: None,
            info,
            sound: &self.sound,
        };
        let broken = start.broken().await?;
        Some(Finding::from_error(&self.service, &broken))
    }

    /// What a person must know who has it stopped although it cannot be made to save.
    fn may_be_lost(&self, why: &str) -> Finding {
        Finding::warning(
            UNLISTED,
            &self.service,
            format!("{MAY_BE_LOST}: {why}"),
        )
        .hint(format!(
            "add [components.{0}] with kind = \"redis\", service = \"{0}\", optional = true and how to sign in, or have it save first (`redis-cli SAVE`)",
            self.service
        ))
    }
}

#[async_trait]
impl StopGuard for Unlisted {
    fn service(&self) -> &str {
        &self.service
    }

    async fn look(&self) -> Vec<Finding> {
        let asked = self.signed_in().await;
        let info = asked.as_ref().ok().map(|(_, info)| info);
        if let Some(broken) = self.broken(info).await {
            return vec![broken];
        }
        let (client, info) = match &asked {
            Ok((client, info)) => (client, info),
            Err(error) if self.forgets(None).await => {
                return vec![self.may_be_lost(error.message())];
            }
            Err(_) => return Vec::new(),
        };
        let platform = self.platform.as_ref();
        if let Err(error) = ensure_loads_what_it_writes(platform, &self.service, client, info).await
        {
            return vec![Finding::from_error(&self.service, &error)];
        }
        let mut findings = Vec::new();
        findings.extend(may_load_others(platform, &self.service, client, info).await);
        if client.may_save().await {
            findings.push(Finding::info(UNLISTED, &self.service, WRITES));
        } else if self.forgets(asked.as_ref().ok()).await {
            let why = "the user that its check signs in as may neither SAVE nor BGSAVE";
            findings.push(self.may_be_lost(why));
        }
        findings
    }

    async fn before_stop(&self, planned: &[Finding]) -> Result<()> {
        let state = self.platform.service(&self.service).await?;
        let agreed = planned.iter().any(|it| {
            it.code == UNLISTED && it.subject == self.service && it.severity == Severity::Warning
        });
        if state.running == 0 {
            return Ok(());
        }
        match self.write_out(agreed).await {
            // It could not be asked for the plan, and may be able to save by now; where it is not, that was told.
            Err(_) if agreed => Ok(()),
            written => written,
        }
    }

    async fn not_stopped(&self) {
        if let Ok(client) = self.client(SOON).await {
            let _ = client.resume_writes().await;
        }
    }
}
