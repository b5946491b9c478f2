//! What a component is given while it works for a run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::{Backup, SecretFiles};
use crate::archive::Source;
use crate::model::{Error, Event, EventSink, Finding, Progress, RecoveryTarget, Result, RunId};

/// The reason of an error: what is empty would take the place of live data, which
/// [`allows_empty`](RunContext::allows_empty) allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeedsAWord;

/// Where facts survive a crash: the journal of a run.
#[async_trait]
pub trait FactStore: Send + Sync {
    /// Keeps `value` under `component` and `key`; durable once this returns. A key that is
    /// already there keeps its first value: what was true before the act is what undo needs.
    async fn record(&self, component: &str, key: &str, value: Value) -> Result<()>;

    /// The value kept, by this process or an earlier one.
    fn recall(&self, component: &str, key: &str) -> Option<Value>;
}

/// Facts that live as long as the value: for trying a component without a journal.
#[derive(Debug, Default)]
pub struct MemoryFacts(Mutex<BTreeMap<(String, String), Value>>);

impl FromIterator<((String, String), Value)> for MemoryFacts {
    /// Facts by component and key.
    fn from_iter<I: IntoIterator<Item = ((String, String), Value)>>(facts: I) -> Self {
        Self(Mutex::new(facts.into_iter().collect()))
    }
}

#[async_trait]
impl FactStore for MemoryFacts {
    async fn record(&self, component: &str, key: &str, value: Value) -> Result<()> {
        let mut facts = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        facts
            .entry((component.to_owned(), key.to_owned()))
            .or_insert(value);
        Ok(())
    }

    fn recall(&self, component: &str, key: &str) -> Option<Value> {
        let facts = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        facts.get(&(component.to_owned(), key.to_owned())).cloned()
    }
}

/// How the keys of the facts begin that a run makes something that was absent.
pub(crate) const MADE: &str = "made:";
/// What the facts begin with that tell what it has removed again.
pub(crate) const REMOVED: &str = "removed:";

/// How far the journal says that a component's cut-over has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CutOver {
    /// It was not begun, or nobody knows.
    #[default]
    NotBegun,
    /// It was begun: it may have done nothing, all, or anything in between.
    Begun,
    /// It was finished.
    Done,
    /// It was begun, and taken back wholly: what had been live in between is put aside.
    TakenBack,
}

impl CutOver {
    /// Whether anything of it may be live.
    pub fn is_begun(self) -> bool {
        matches!(self, Self::Begun | Self::Done)
    }
}

/// What a component is given while it works for a run: whose data, which run, where facts are
/// kept, who watches, and whether to stop.
#[derive(Clone)]
pub struct RunContext {
    run: RunId,
    component: String,
    backup: Arc<Backup>,
    paths: Vec<String>,
    maintenance: bool,
    target: Option<RecoveryTarget>,
    time_gap: bool,
    cut_over: CutOver,
    empty: bool,
    create: bool,
    restore_as: Option<String>,
    tables: Vec<String>,
    creates: Option<Arc<[String]>>,
    secrets: SecretFiles,
    nodes: BTreeMap<String, String>,
    facts: Arc<dyn FactStore>,
    events: Arc<dyn EventSink>,
    cancel: CancellationToken,
}

impl RunContext {
    /// A context of `run` over `backup` for the component of that name.
    pub fn new(
        run: RunId,
        component: impl Into<String>,
        backup: Arc<Backup>,
        facts: Arc<dyn FactStore>,
        events: Arc<dyn EventSink>,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            run,
            component: component.into(),
            backup,
            paths: Vec::new(),
            maintenance: false,
            target: None,
            time_gap: false,
            cut_over: CutOver::NotBegun,
            empty: false,
            create: false,
            restore_as: None,
            tables: Vec::new(),
            creates: None,
            secrets: SecretFiles::default(),
            nodes: BTreeMap::new(),
            facts,
            events,
            cancel,
        }
    }

    /// The same context, restricted to these paths (as the archive's members are named).
    #[must_use]
    pub fn with_paths(mut self, paths: Vec<String>) -> Self {
        self.paths = paths;
        self
    }

    /// The same context; says whether the web server shows the maintenance page during the
    /// cut-over, and will be reloaded when it is lifted.
    #[must_use]
    pub fn with_maintenance(mut self, maintenance: bool) -> Self {
        self.maintenance = maintenance;
        self
    }

    /// The same context with a moment to recover to.
    #[must_use]
    pub fn with_target(mut self, target: Option<RecoveryTarget>) -> Self {
        self.target = target;
        self
    }

    /// The moment to recover to; `None`: what the backup holds is restored.
    pub fn target(&self) -> Option<&RecoveryTarget> {
        self.target.as_ref()
    }

    /// The same context; says whether data of another time than the target's is let in.
    #[must_use]
    pub fn with_time_gap(mut self, allowed: bool) -> Self {
        self.time_gap = allowed;
        self
    }

    /// Whether data of another time than the target's is let in.
    pub fn allows_time_gap(&self) -> bool {
        self.time_gap
    }

    /// The same context; says how far the component's cut-over has come.
    #[must_use]
    pub fn with_cut_over(mut self, cut_over: CutOver) -> Self {
        self.cut_over = cut_over;
        self
    }

    /// How far the journal says that the component's cut-over has come. What really is there may be
    /// less: then somebody else has taken it away.
    pub fn cut_over(&self) -> CutOver {
        self.cut_over
    }

    /// The same context; says whether what is empty may take the place of live data.
    #[must_use]
    pub fn with_empty(mut self, allowed: bool) -> Self {
        self.empty = allowed;
        self
    }

    /// Whether what is empty (a dump without rows) may take the place of live data.
    pub fn allows_empty(&self) -> bool {
        self.empty
    }

    /// The same context; says whether what is absent of the live side may be made.
    #[must_use]
    pub fn with_create(mut self, allowed: bool) -> Self {
        self.create = allowed;
        self
    }

    /// Whether what is absent of the live side (a directory, a role) may be made.
    pub fn may_create(&self) -> bool {
        self.create
    }

    /// The same context; names what is restored beside what is live.
    #[must_use]
    pub fn with_restore_as(mut self, name: Option<String>) -> Self {
        self.restore_as = name;
        self
    }

    /// The name under which it is restored beside what is live, and left there; `None`: it replaces
    /// what is live.
    pub fn restore_as(&self) -> Option<&str> {
        self.restore_as.as_deref()
    }

    /// The same context, restricted to these tables (`public.orders`), which are left beside the
    /// live ones.
    #[must_use]
    pub fn with_tables(mut self, tables: Vec<String>) -> Self {
        self.tables = tables;
        self
    }

    /// The only tables to restore, beside the live ones; empty: everything.
    pub fn tables(&self) -> &[String] {
        &self.tables
    }

    /// The same context; says what was absent when the run was planned, of all components, in the words
    /// of [`Inspection::creates`](super::Inspection::creates).
    #[must_use]
    pub fn with_creates(mut self, absent: Vec<String>) -> Self {
        self.creates = Some(absent.into());
        self
    }

    /// The same context; says where the values of secrets are that are to be made.
    #[must_use]
    pub fn with_secrets(mut self, secrets: SecretFiles) -> Self {
        self.secrets = secrets;
        self
    }

    /// Where the values of secrets are that are to be made.
    pub fn secrets(&self) -> &SecretFiles {
        &self.secrets
    }

    /// The same context; says which nodes have taken the place of others that the backup names, by the names of
    /// those.
    #[must_use]
    pub fn with_nodes(mut self, nodes: BTreeMap<String, String>) -> Self {
        self.nodes = nodes;
        self
    }

    /// The nodes that have taken the place of others which the backup names, by the names of those.
    pub fn nodes(&self) -> &BTreeMap<String, String> {
        &self.nodes
    }

    /// Whether something that is absent now was so when the run was planned, or nobody knows. What is
    /// gone since is not made again: its disk may not be mounted.
    pub fn was_absent(&self, what: &str) -> bool {
        let known = self.creates.as_deref();
        known.is_none_or(|absent| absent.iter().any(|it| it == what))
    }

    /// Keeps that the run makes something that was absent, in a few words: `directory /srv/shop`.
    /// Called before it is made; durable once this returns. The report lists it.
    pub async fn record_made(&self, what: &str) -> Result<()> {
        self.record(&format!("{MADE}{what}"), true).await
    }

    /// Keeps that what was [made](Self::record_made) is removed again. It is, whether that can be
    /// written down or not.
    pub async fn record_removed(&self, what: &str) {
        if self.recall(&format!("{MADE}{what}")).is_some() {
            let _ = self.record(&format!("{REMOVED}{what}"), true).await;
        }
    }

    /// The run's id.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The name of the component that works.
    pub fn component(&self) -> &str {
        &self.component
    }

    /// The backup to restore from. While undoing and discarding, only its id is known.
    pub fn backup(&self) -> &Backup {
        &self.backup
    }

    /// The only paths to restore; empty: everything.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// Whether the maintenance page is up during the cut-over: whoever reloads the web server
    /// then leaves that to the end of the maintenance.
    pub fn maintenance(&self) -> bool {
        self.maintenance
    }

    /// A file of the backup, to be read once; its readers stop when the run is cancelled.
    pub fn source(&self, path: &str) -> Result<Source> {
        Ok(self.backup.source(path)?.cancelled_by(self.cancel.clone()))
    }

    /// Keeps a fact that the next act destroys, or that a later method needs; durable once this
    /// returns. The first value given for a key is kept, for the whole run: another one changes
    /// nothing and is no error. Keys are the component's own; secrets do not belong there.
    pub async fn record(&self, key: &str, value: impl Into<Value> + Send) -> Result<()> {
        self.facts.record(&self.component, key, value.into()).await
    }

    /// A fact kept by this run, in this process or an earlier one.
    pub fn recall(&self, key: &str) -> Option<Value> {
        self.facts.recall(&self.component, key)
    }

    /// Progress of doing `action` (a verb) for this component.
    pub fn progress(&self, action: &str, total: Option<u64>) -> Progress {
        Progress::new(self.events.clone(), self.component.clone(), action, total)
    }

    /// Tells whoever watches of something noticed.
    pub fn notice(&self, finding: Finding) {
        self.events.emit(&Event::Finding { finding });
    }

    /// Fires when the run is to stop.
    pub fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }

    /// `Err(Interrupted)` once the run is to stop.
    pub fn check_cancelled(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            Err(Error::interrupted())
        } else {
            Ok(())
        }
    }
}
