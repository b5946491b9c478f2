//! A server that cannot be reached: whether it has a cluster at all, and whether a run makes one for it.

use super::anew::ClusterPlace;
use super::inspect::{Inspect, UNPACKED};
use super::new_cluster::{self, NewCluster, Site};
use super::{Artifacts, Postgres};
use crate::components::place;
use crate::contract::SpaceNeed;
use crate::model::{Error, ErrorKind, Finding, Result};
use crate::sys::blocking::blocking;
use crate::sys::process::account::Account;
use crate::sys::space::Space;

/// What a cluster has before anything is in it: its catalogs, and the first of its log.
const EMPTY: u64 = 64 << 20;

impl Inspect<'_> {
    /// The server does not let us in, as `error` says. One that has no cluster at all gets one from a run
    /// that may create what is absent, where the backup has only dumps.
    pub(super) async fn unreachable(&mut self, error: Error, artifacts: &Artifacts) -> Result<()> {
        let service = &self.pg.config.service;
        let state = self.pg.platform.service(service).await;
        if error.kind() == ErrorKind::Interrupted || state.is_ok_and(|state| state.running > 0) {
            self.error(&error);
            return Ok(());
        }
        let found = match self.base_backup().await? {
            true => None,
            false => NewCluster::planned(self.pg, self.cx).await?,
        };
        match found {
            // Tables are left beside live ones, and a new cluster has none.
            Some(Ok(_)) if self.cx.may_create() && !self.cx.tables().is_empty() => {
                self.database_there(false);
                self.error(&error);
                Ok(())
            }
            Some(Ok(cluster)) if self.cx.may_create() => self.made_anew(&cluster, artifacts).await,
            Some(Ok(cluster)) => {
                // That it does not run, and answers nobody, follows from that.
                self.out.starts.push(service.clone());
                self.refuse(
                    "postgres.no_cluster",
                    format!("{service} does not run, and {}", cluster.place.state()),
                    "is its disk mounted? if its data is really gone, `restore run ID --create` makes a new cluster there, and restores the roles and databases that the backup has into it; --only restores other components meanwhile",
                );
                Ok(())
            }
            found => {
                self.error(&error);
                let why = found.and_then(std::result::Result::err);
                self.no_cluster(why).await;
                Ok(())
            }
        }
    }

    /// Whether the backup has a base backup of the cluster: then it is recovered from that.
    async fn base_backup(&self) -> Result<bool> {
        let Some(cluster) = &self.pg.cluster else {
            return Ok(false);
        };
        // A base backup that cannot be read is one all the same.
        Ok(!matches!(
            crate::contract::Component::base_ended(cluster, self.cx.backup()).await,
            Ok(None)
        ))
    }

    /// Says that the cluster will be made, and looks at what the dump needs of it.
    async fn made_anew(&mut self, cluster: &NewCluster<'_>, artifacts: &Artifacts) -> Result<()> {
        let server = match cluster.major().await {
            Ok(server) => server,
            Err(error) => {
                self.error(&error);
                return Ok(());
            }
        };
        let bytes = self.out.read_bytes.saturating_mul(UNPACKED) + EMPTY;
        let space = match &cluster.site {
            Site::Absent(at) => place::announce(at, &mut self.out).await?,
            Site::Empty => {
                let data = cluster.place.data.clone();
                blocking(move || Space::of(&data)).await.map(Some)?
            }
        };
        if let Some(space) = space {
            self.out.needs.push(SpaceNeed {
                space,
                bytes,
                inodes: 3000,
            });
        }
        let data = cluster.place.data.display();
        let (service, user) = (&self.pg.config.service, &self.pg.config.user);
        self.out.create_first = true;
        self.out.starts.push(service.clone());
        self.out
            .creates
            .push(new_cluster::words(&cluster.place.data));
        self.out.creates.push(self.pg.database_words(self.cx));
        self.out.summary += ", which does not exist yet";
        self.out.findings.push(
            Finding::warning(
                "postgres.cluster_anew",
                &self.pg.name,
                format!(
                    "{service} has no cluster ({}): a new one of PostgreSQL {server} is made in {data}, with {user} as its superuser, the time zone UTC, and the locale C for databases whose dump names no other; its settings and its rules of who may connect (postgresql.conf, pg_hba.conf), and databases that are no component, are in no dump",
                    cluster.place.state()
                ),
            )
            .hint("is its disk mounted? if it should be, mount it first"),
        );
        self.fact("superuser", serde_json::json!(true));
        self.fact("database_exists", serde_json::json!(false));
        self.dump((None, server), artifacts, None).await?;
        self.power();
        Ok(())
    }

    /// That none is made, why, and how one is made by hand.
    async fn no_cluster(&mut self, why: Option<String>) {
        if !self.cx.may_create() {
            return;
        }
        let service = &self.pg.config.service;
        let place = ClusterPlace::of(&self.pg.platform.start_command(service));
        let state = place
            .as_ref()
            .map(|place| format!(", and {}", place.state()));
        let message = format!(
            "{service} does not run{}: --create makes no cluster for it{}",
            state.unwrap_or_default(),
            why.map(|why| format!(", because {why}"))
                .unwrap_or_default()
        );
        let anew = match &place {
            Some(place) => format!(
                "{}`{}` as root makes an empty one; then `restore run ID --create` starts it, and makes the roles and {} in it; other databases that were in it are no part of that",
                place
                    .doubt()
                    .map(|doubt| format!("{doubt}; "))
                    .unwrap_or_default(),
                commands(self.pg, place).await,
                self.pg.database_words(self.cx)
            ),
            None => format!(
                "make one as the service's user with `initdb` of its version and {} as its superuser (an image of PostgreSQL makes one itself where it starts on an empty volume: move aside what is in it), start {service}, and plan again",
                self.pg.config.user
            ),
        };
        let hint = match &self.pg.config.cluster {
            Some(cluster) => format!(
                "where its data directory is gone or damaged, recover it from a base backup first (`restore run ID --create --only {cluster}`); where there are only dumps: {anew}"
            ),
            None => format!("where its data directory is gone or damaged beyond repair: {anew}"),
        };
        let mut finding = Finding::error("postgres.no_cluster", &self.pg.name, message).hint(hint);
        // One that looks whole may only be stopped: whether it starts is for the run to find out.
        if place.as_ref().is_none_or(ClusterPlace::looks_whole) {
            finding = finding.of_kind(ErrorKind::Failed);
        }
        self.out.findings.push(finding);
    }
}

/// How a cluster is made there by hand.
async fn commands(pg: &Postgres, place: &ClusterPlace) -> String {
    let service = &pg.config.service;
    let owner = pg.platform.owner(service).await.ok().flatten();
    // No server runs as root.
    let account = owner.filter(|(uid, _)| *uid != 0).map_or_else(
        || "postgres".to_owned(),
        |(uid, gid)| Account::of(uid, gid).name,
    );
    let endpoint = pg.platform.endpoint(service).await.ok();
    place.commands(
        &account,
        &pg.config.user,
        pg.config.password.file(),
        endpoint.as_ref(),
    )
}
