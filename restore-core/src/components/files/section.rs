//! The configuration of a file tree, and the paths that people name in it.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::deploy::Deployment;
use crate::archive::Owners;
use crate::archive::path_set::{PathSet, relative as tree_path};
use crate::components::members::{Links, MemberKeys};
use crate::contract::nodes::no_nodes;
use crate::contract::{ComponentDeps, Table, parse_section};
use crate::model::{Error, ErrorKind, Result};

/// Pages that an old runbook put up by hand: one in a backup would take the site down again.
const OLD_PAGES: &str = "**/conf.d/maintenance.conf";

/// `[components.NAME]` with `kind = "files"`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Section {
    #[serde(default)]
    pub(super) archive: Vec<String>,
    root: PathBuf,
    tree: String,
    /// The node of which `root` is a directory; `None`: of this host.
    #[serde(default)]
    pub(super) node: Option<String>,
    /// Use the tree whoever could lead its path elsewhere, and where it leads now.
    #[serde(default)]
    pub(super) follow: bool,
    #[serde(default)]
    pub(super) stops: Vec<String>,
    #[serde(default)]
    pub(super) test: Vec<String>,
    #[serde(default)]
    pub(super) reload: Vec<String>,
    #[serde(default)]
    pub(super) service: Option<String>,
    /// Neither restored nor removed.
    #[serde(default)]
    pub(super) exclude: Vec<String>,
    #[serde(default)]
    pub(super) prefix: Option<String>,
    #[serde(default)]
    pub(super) strip: u32,
    #[serde(default)]
    pub(super) owners: Owners,
    #[serde(default)]
    pub(super) user: Option<u32>,
    #[serde(default)]
    pub(super) group: Option<u32>,
    #[serde(default)]
    pub(super) links: Option<Links>,
    #[serde(default)]
    pub(super) allow_links: Vec<PathBuf>,
    #[serde(default)]
    pub(super) allow_setuid: bool,
    #[serde(default)]
    pub(super) max_members: u64,
    #[serde(default)]
    pub(super) max_bytes: u64,
    #[serde(default)]
    redeploy: bool,
    #[serde(default)]
    stack: Option<String>,
    #[serde(default)]
    compose: Vec<String>,
    /// What the three above come to.
    #[serde(skip)]
    pub(super) deployment: Option<Deployment>,
}

impl Section {
    pub(super) fn parse(name: &str, table: Table, parts: &ComponentDeps) -> Result<Self> {
        let place = format!("components.{name}");
        let mut section: Self = parse_section(&place, table)?;
        if section.archive.is_empty() {
            section.archive = vec![
                format!("configs/{name}-{{id}}.tar.gz"),
                format!("app/{name}-{{id}}.tar.gz"),
            ];
        }
        match &section.node {
            Some(node) => section.check_node(&place, node, parts)?,
            None => section.root = parts.path(&section.root),
        }
        section.tree = tree_path(&section.tree)
            .map_err(|e| e.context(format!("[{place}] tree")))?
            .to_string_lossy()
            .into_owned();
        section.members().check(&place)?;
        section.deployment = section.deployment(&place)?;
        PathSet::new(&section.exclude).map_err(|e| e.context(format!("[{place}] exclude")))?;
        Ok(section)
    }

    /// The keys about the members of its archive.
    pub(super) fn members(&self) -> MemberKeys<'_> {
        MemberKeys {
            prefix: self.prefix.as_deref(),
            strip: self.strip,
            owners: self.owners,
            user: self.user,
            group: self.group,
            links: self.links,
            allow_links: &self.allow_links,
            allow_setuid: self.allow_setuid,
            max_members: self.max_members,
            max_bytes: self.max_bytes,
        }
    }

    /// Whether the tree can be one of a node.
    fn check_node(&self, place: &str, node: &str, parts: &ComponentDeps) -> Result<()> {
        let bad = |what: &str| Error::new(ErrorKind::Config, "config.bad_value", what);
        if parts.platform.nodes().is_none() {
            return Err(no_nodes(&format!("[{place}] node = {node:?}"), "key"));
        }
        if node.is_empty() {
            return Err(bad(&format!("[{place}] node names no node")).hint(
                "`docker node ls` shows their names; a tree of this host needs no such key",
            ));
        }
        if !self.root.is_absolute() {
            return Err(bad(&format!(
                "[{place}] root = {:?} is no absolute path of the node {node}",
                self.root.display().to_string()
            ))
            .hint("paths of other machines begin with a slash"));
        }
        if self.redeploy {
            return Err(bad(&format!(
                "[{place}] a stack cannot be deployed from files of the node {node}: that takes them on this host"
            ))
            .hint("take out `node` where the compose files are on this host, else set redeploy = false"));
        }
        let hooks = [("test", &self.test), ("reload", &self.reload)];
        let hook = hooks.into_iter().find(|(_, argv)| !argv.is_empty());
        if let (Some((hook, _)), None) = (hook, &self.service) {
            return Err(Error::new(
                ErrorKind::Config,
                "config.missing_key",
                format!("[{place}] {hook} needs `service`: without it, it would run on this host, which does not have the tree of the node {node}"),
            )
            .hint("name the service that uses the tree"));
        }
        Ok(())
    }

    /// What is deployed after a restore; `stack` and `compose` may stand there unused.
    fn deployment(&self, place: &str) -> Result<Option<Deployment>> {
        if !self.redeploy {
            return Ok(None);
        }
        let missing = |what: &str| {
            Error::new(
                ErrorKind::Config,
                "config.missing_key",
                format!("[{place}] redeploy = true needs {what}"),
            )
        };
        let stack = self.stack.as_deref().filter(|it| !it.is_empty());
        let stack =
            stack.ok_or_else(|| missing("`stack`, the name that `docker stack ls` shows"))?;
        if stack.starts_with('-') {
            return Err(Error::new(
                ErrorKind::Config,
                "config.bad_value",
                format!("[{place}] {stack:?} cannot name a stack"),
            ));
        }
        if self.compose.is_empty() {
            return Err(missing("`compose`, its files relative to the tree"));
        }
        let compose = self
            .compose
            .iter()
            .map(|file| tree_path(file).map_err(|e| e.context(format!("[{place}] compose"))));
        Ok(Some(Deployment {
            stack: stack.to_owned(),
            compose: compose.collect::<Result<_>>()?,
        }))
    }

    /// The part of the archive that is restored, as its members are named.
    pub(super) fn tree(&self) -> &str {
        &self.tree
    }

    /// Where the tree is on its machine.
    pub(super) fn live(&self) -> PathBuf {
        self.root.join(&self.tree)
    }

    /// Where the tree is, for people, with the node.
    pub(super) fn place(&self) -> String {
        let live = self.live().display().to_string();
        match &self.node {
            Some(node) => format!("{live} of the node {node}"),
            None => live,
        }
    }

    /// What is neither restored nor removed.
    pub(super) fn kept(&self) -> Vec<String> {
        let mut kept = self.exclude.clone();
        kept.push(OLD_PAGES.to_owned());
        kept
    }

    /// A path relative to the tree, empty for the tree itself; `None` where it lies elsewhere. It may be
    /// named as in the archive, as on the machine, or below the component's `name`.
    pub(super) fn relative(&self, name: &str, path: &str) -> Result<Option<PathBuf>> {
        let path = Path::new(path);
        Ok(match path.is_absolute() {
            true => path.strip_prefix(self.live()).ok().map(PathBuf::from),
            false => {
                let path = tree_path(&path.to_string_lossy())?;
                let below = path.strip_prefix(&self.tree).or(path.strip_prefix(name));
                below.ok().map(PathBuf::from)
            }
        })
    }

    /// The paths of a run relative to the tree; none: the whole tree. They may be named as in
    /// the archive (`mnt/nfs/nginx/conf.d`) or as on the machine (`/mnt/nfs/nginx/conf.d`).
    pub(super) fn paths(&self, name: &str, paths: &[String]) -> Result<Vec<String>> {
        let kept = PathSet::new(self.kept())?;
        let mut inside = Vec::new();
        for path in paths {
            let relative = self.relative(name, path)?;
            let Some(relative) = relative else {
                return Err(Error::new(
                    ErrorKind::Config,
                    "files.path_outside",
                    format!(
                        "{path} is not below {}, the tree of component {name}",
                        self.tree
                    ),
                )
                .hint(format!(
                    "name it as the archive does, {}/…, or choose another component with --only",
                    self.tree
                )));
            };
            if relative.as_os_str().is_empty() {
                return Ok(Vec::new());
            }
            let relative = relative.to_string_lossy().into_owned();
            let relative_path = tree_path(&relative)?;
            if relative_path.ancestors().any(|above| kept.holds(above)) {
                return Err(Error::new(
                    ErrorKind::Config,
                    "files.path_excluded",
                    format!("{path} is excluded from component {name} and never restored"),
                )
                .hint(format!(
                    "see `exclude` of [components.{name}]; old maintenance pages always are"
                )));
            }
            inside.push(relative);
        }
        Ok(inside)
    }
}
