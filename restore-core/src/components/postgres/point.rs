//! One database out of its cluster, at a point in time: the cluster is recovered in scratch, the
//! database dumped there and restored beside the live one like any other dump. The rest of the
//! cluster keeps its present.

use super::Postgres;
use super::cluster::Cluster;
use super::inspect::Inspect;
use super::stage::{Loaded, Stage};
use crate::archive::Source;
use crate::contract::config::take_kind;
use crate::contract::{ComponentDeps, SpaceNeed};
use crate::model::{Error, ErrorKind, Finding, RecoveryTarget, Result};
use crate::swap::scope::Discard;

/// The cluster that the component `name` says that it is a database of.
pub(super) fn cluster_of(name: &str, cluster: &str, parts: &ComponentDeps) -> Result<Cluster> {
    let unknown = |why: &str| {
        Error::new(
            ErrorKind::Config,
            "config.bad_value",
            format!("[components.{name}] cluster = {cluster:?} {why}"),
        )
        .hint("name the component with kind = \"postgres_cluster\" that describes the server")
    };
    let section = parts.sections.get(cluster);
    let mut section = section
        .ok_or_else(|| unknown("names no component"))?
        .clone();
    let path = format!("components.{cluster}");
    take_kind(&path, &mut section, &["postgres_cluster"])
        .map_err(|_| unknown("names a component of another kind"))?;
    Cluster::new(cluster, section, parts)
}

impl Postgres {
    fn its_cluster(&self) -> Result<&Cluster> {
        self.cluster.as_ref().ok_or_else(|| {
            Error::new(
                ErrorKind::Config,
                "postgres.no_cluster",
                format!(
                    "the database {} cannot be recovered to a point in time: its component does not say which cluster it is in",
                    self.config.database
                ),
            )
            .hint("describe the server as a component with kind = \"postgres_cluster\" and name that as `cluster`")
        })
    }
}

impl Stage<'_> {
    /// Recovers the cluster beside everything, dumps the one database and loads it.
    pub(super) async fn load_recovered(&self, target: &RecoveryTarget) -> Result<Loaded> {
        let cluster = self.pg.its_cluster()?;
        let loaded = self.of_cluster(cluster, target).await;
        let cleared = cluster.clear(self.cx, Discard::Staged).await;
        let loaded = loaded?;
        cleared?;
        Ok(loaded)
    }

    async fn of_cluster(&self, cluster: &Cluster, target: &RecoveryTarget) -> Result<Loaded> {
        let database = &self.pg.config.database;
        let recovered = cluster.recover(self.cx).await?;
        if !recovered.reached.databases.contains(database) {
            return Err(Error::new(
                ErrorKind::Failed,
                "postgres.not_there_then",
                format!("there was no database {database} at {target}"),
            )
            .hint(format!(
                "there were {}",
                recovered.reached.databases.join(", ")
            )));
        }
        let (dump, file, reached) = recovered.dump(self.cx, database).await?;
        let size = file
            .metadata()
            .map_err(|e| Error::io(format!("look at {}", dump.display()), e))?
            .len();
        let label = format!("{} at {target}", reached.from);
        let source =
            Source::new(dump, label, Some(size), None).cancelled_by(self.cx.cancelled().clone());
        let input = self.pg.input(source.path()).await?.held(file);
        let mut loaded = self.load_archive(&source, &input, false).await?;
        let last = match reached.last_transaction {
            Some(time) => format!("the cluster's last transaction is of {}", time.precise()),
            None => "no transaction since the base backup".to_owned(),
        };
        loaded.findings.push(Finding::info(
            "cluster.reached",
            &self.pg.name,
            format!("recovered to {target}: {last}, at {}", reached.lsn),
        ));
        Ok(loaded)
    }
}

impl Inspect<'_> {
    /// What speaks for and against recovering the one database.
    pub(super) async fn recovery(&mut self) -> Result<()> {
        let cluster = match self.pg.its_cluster() {
            Ok(cluster) => cluster,
            Err(error) => {
                self.error(&error);
                return Ok(());
            }
        };
        match self.pg.maintenance().await {
            Ok(session) => {
                self.live(&session).await?;
                session.close().await;
            }
            Err(error) => self.error(&error),
        }
        let volume = cluster.volume().await?;
        let outlook = cluster.outlook(self.cx, volume.as_ref()).await?;
        self.out.summary += &outlook.way;
        self.out.artifacts.extend(outlook.artifact);
        self.out.read_bytes = outlook.read_bytes;
        // The dump lies beside the recovered cluster until it is loaded.
        let size = |facts: &serde_json::Map<String, serde_json::Value>, key: &str| {
            facts.get(key).and_then(serde_json::Value::as_u64)
        };
        let dump = match size(&self.out.facts, "database_bytes").filter(|bytes| *bytes > 0) {
            Some(bytes) => bytes,
            // It is not there, or nobody says how large it is; the copy made of it counts too.
            None => size(&outlook.facts, "bytes").unwrap_or(0).saturating_mul(2),
        };
        self.out.needs.extend(outlook.need.map(|need| SpaceNeed {
            bytes: need.bytes.saturating_add(dump),
            ..need
        }));
        self.out.findings.extend(outlook.findings);
        self.out.facts.extend(outlook.facts);
        self.out.unsigned.extend(outlook.unsigned);
        Ok(())
    }
}
