//! Groups of services that are described in files and deployed as one.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Prerequisite, SecretFiles};
use crate::model::{Finding, Result, RunId};

/// What a stack is made from where nothing of it is there.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StackSource {
    /// The run that makes it: what is made outside of the stack's own files is marked with it.
    pub run: RunId,
    /// Its compose files, in their order: where they are when it is deployed, and what is in them.
    pub compose: Vec<(PathBuf, String)>,
    /// The directory of the tree that these belong to: what lies in it is there when it is deployed.
    pub tree: PathBuf,
    /// The files of the backup that [`Stacks::reads`] names, by their paths.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Where the values of secrets are.
    pub secrets: SecretFiles,
    /// The nodes that have taken the place of others which its files name, by the names of those.
    pub nodes: BTreeMap<String, String>,
}

impl StackSource {
    /// That of a run whose tree is this directory, with nothing in it yet.
    pub fn new(run: RunId, tree: impl Into<PathBuf>) -> Self {
        Self {
            run,
            compose: Vec::new(),
            tree: tree.into(),
            files: BTreeMap::new(),
            secrets: SecretFiles::default(),
            nodes: BTreeMap::new(),
        }
    }
}

/// One thing that is made with a stack: `network web`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StackPart {
    /// What it is, in a word.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Whether the stack's files say that it is made elsewhere: then it is made before they are deployed.
    #[serde(default)]
    pub external: bool,
}

impl StackPart {
    /// A part that deploying the files makes.
    pub fn new(kind: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            kind: kind.into(),
            name: name.into(),
            external: false,
        }
    }

    /// The same part, made before the files are deployed.
    #[must_use]
    pub fn external(mut self) -> Self {
        self.external = true;
        self
    }
}

impl fmt::Display for StackPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What making a stack comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StackPlan {
    /// All that would be made, in the order of making.
    pub parts: Vec<StackPart>,
    /// What speaks against it, or is worth knowing.
    pub findings: Vec<Finding>,
    /// What its services need and do not find, and a component of the run may bring.
    pub prerequisites: Vec<Prerequisite>,
    /// The services of the site that are not there and come with it, by the site's names, where others of its
    /// services are there.
    pub services: Vec<String>,
    /// The nodes that its services are bound to, as its files call them.
    pub nodes: Vec<String>,
}

/// What a platform can deploy from compose files.
#[async_trait]
pub trait Stacks: Send + Sync {
    /// What it deploys, in a word before the name: `stack`.
    fn noun(&self) -> &'static str {
        "stack"
    }

    /// Whether nothing of the stack runs or is described, so that only a run makes it that may
    /// [create](super::RunContext::may_create).
    async fn is_absent(&self, _stack: &str) -> Result<bool> {
        Ok(false)
    }

    /// What all stacks need, is absent as a whole and can be made: in words (`swarm at 10.0.0.11`).
    async fn foundation(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Makes what [`foundation`](Self::foundation) tells, and returns once it can be used. Where it is
    /// there, nothing.
    async fn make_foundation(&self) -> Result<()> {
        Ok(())
    }

    /// Removes it again, unless something is in it: then `false`. May be called again.
    async fn remove_foundation(&self) -> Result<bool> {
        Ok(true)
    }

    /// The files of a backup that tell what stacks need besides their own files, as patterns of
    /// [`Backup::find`](super::Backup::find).
    fn reads(&self) -> &'static [&'static str] {
        &[]
    }

    /// What a backup keeps so that stacks can be made from nothing: files that [`reads`](Self::reads)
    /// finds, with their content. No values of secrets.
    async fn records(&self) -> Result<Vec<(String, Vec<u8>)>> {
        Ok(Vec::new())
    }

    /// What a backup keeps besides of one stack that is deployed from files of the site: files as those of
    /// [`records`](Self::records). By default nothing.
    async fn records_of(&self, _stack: &str) -> Result<Vec<(String, Vec<u8>)>> {
        Ok(Vec::new())
    }

    /// The [snapshot](Self::snapshot) of a stack that is absent, with how it ran when it was backed up as far as
    /// the files of the backup tell it that [`reads`](Self::reads) names: [`deploy`](Self::deploy) makes it run
    /// so. By default the snapshot as it is.
    fn as_backed_up(&self, _stack: &str, _source: &StackSource, snapshot: Value) -> Value {
        snapshot
    }

    /// What making an absent stack would make, and what is missing for it; changes nothing.
    async fn plan(&self, _stack: &str, _source: &StackSource) -> Result<StackPlan> {
        Ok(StackPlan::default())
    }

    /// Whether [`plan_missing`](Self::plan_missing) can say anything. Where it cannot, and by default, it is not
    /// called: what it is asked with, the compose files of the backup, takes reading an archive to its end.
    fn plans_missing(&self) -> bool {
        false
    }

    /// What deploying a stack that is there needs and does not make itself, as far as that is gone:
    /// [external](StackPart::external) parts only, and what speaks against it; changes nothing. By default nothing.
    async fn plan_missing(&self, _stack: &str, _source: &StackSource) -> Result<StackPlan> {
        Ok(StackPlan::default())
    }

    /// What is deployed of a compose file where other nodes have taken the place of those that it names: it binds
    /// services to them. By default the file as it is.
    ///
    /// # Errors
    ///
    /// Where the file names nodes in a way in which they cannot be replaced.
    fn placed(&self, compose: &str, _nodes: &BTreeMap<String, String>) -> Result<String> {
        Ok(compose.to_owned())
    }

    /// Makes the [external](StackPart::external) ones of these parts, which were absent, where they are
    /// not there yet. May be called again.
    async fn make_parts(&self, _source: &StackSource, _parts: &[StackPart]) -> Result<()> {
        Ok(())
    }

    /// Removes what is left of these parts of a stack that a run has made; returns those that stay. Those that may
    /// hold data stay unless `data` says otherwise, and what somebody else has made or uses does. May
    /// be called again.
    async fn remove_parts(
        &self,
        _stack: &str,
        _run: &RunId,
        parts: &[StackPart],
        _data: bool,
    ) -> Result<Vec<StackPart>> {
        Ok(parts.to_vec())
    }

    /// What [`deploy`](Self::deploy) has made since a [`snapshot`](Self::snapshot) and
    /// [`put_back`](Self::put_back) has left, as it may hold data: in words, parts of the [plan](Self::plan) in
    /// those of [`StackPart`].
    async fn left(&self, _stack: &str, _snapshot: &Value) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// What speaks against deploying the stack later; changes nothing.
    async fn inspect(&self, stack: &str) -> Result<Vec<Finding>>;

    /// How the stack is described now, wholly, and which of its services run so: what
    /// [`deploy`](Self::deploy) and [`put_back`](Self::put_back) need. It may hold secrets
    /// (environments), and belongs in no journal.
    async fn snapshot(&self, stack: &str) -> Result<Value>;

    /// Deploys the stack from these files of this host and returns once all its services run as
    /// described, but as many of each as ran at the [`snapshot`](Self::snapshot). May be called
    /// again, with the snapshot of before the first time. On failure the error carries the
    /// deploying program's own words, or those of the service that does not come up.
    async fn deploy(&self, stack: &str, files: &[PathBuf], snapshot: &Value) -> Result<()>;

    /// As [`deploy`](Self::deploy), where others could change the files meanwhile: `held` are those whose content
    /// counts, in the same order, and nobody else can change them; they are gone afterwards. What they name
    /// relative to themselves is meant relative to `files`. Where both are the same, and by default, deploys
    /// `files`.
    async fn deploy_held(
        &self,
        stack: &str,
        files: &[PathBuf],
        _held: &[PathBuf],
        snapshot: &Value,
    ) -> Result<()> {
        self.deploy(stack, files, snapshot).await
    }

    /// What a stack lacks that [`deploy`](Self::deploy) has made from nothing and the site, or the
    /// [backup](Self::as_backed_up), says it should have; empty where the snapshot is of one that was there.
    async fn shortfall(&self, _stack: &str, _snapshot: &Value) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    /// Makes the stack what it was at a [`snapshot`](Self::snapshot): services are described as
    /// they were, what was added goes, volumes excepted. Idempotent; changes nothing where nothing
    /// differs. Returns once the services that are to run do, those excepted that did not at the
    /// snapshot, and nothing runs any more of those that go, on any node.
    async fn put_back(&self, stack: &str, snapshot: &Value) -> Result<()>;
}
