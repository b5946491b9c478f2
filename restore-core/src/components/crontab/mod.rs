//! A crontab: text, and nothing to swap by rename.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::archive;
use crate::archive::{Digest, Source};
use crate::contract::{
    BackedUp, Backup, BackupWriter, Component, ComponentDeps, Contents, Create, CutOver,
    Inspection, NeedsAWord, RunContext, SharedComponent, Staged, Table as ConfigTable, Target,
    parse_section,
};
use crate::model::{CheckOutcome, Error, ErrorKind, Finding, Result, RunId};
use crate::swap::scope::{Discard, SwapScope};
use crate::sys::space::Space;

mod absent;
mod contents;
mod syntax;
mod table;

use table::{Judgement, Table, blocking, judged_by_cron};

/// The fact whether there was a crontab before the cut-over; its text is in a file of its own.
const HAD: &str = "had_crontab";
/// The fact which crontab was replaced.
const PLACE: &str = "place";
/// The fact which file was written, whatever links led there.
const LED_TO: &str = "led_to";
/// More than any cron reads.
const LARGEST: u64 = 4 * 1024 * 1024;

/// A crontab, of a user or in a file.
///
/// Its jobs begin to fire as soon as cron runs after the cut-over. So that neither the old nor
/// the restored ones fire in the middle of a restore, name cron's own service in `stops`: it
/// is down while data is swapped and up again with all others. Without that, make the crontab
/// the last component of the site, as cut-overs follow their order there: the restored jobs
/// then at least find restored data.
pub struct Crontab {
    name: String,
    artifact: Vec<String>,
    stops: Vec<String>,
    table: Table,
    /// Texts are kept here rather than in facts: crontabs hold passwords.
    scratch: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    #[serde(default)]
    artifact: Vec<String>,
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    file: Option<PathBuf>,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    stops: Vec<String>,
}

impl Crontab {
    /// The component `name` from its table in the configuration.
    pub fn from_table(
        name: &str,
        table: ConfigTable,
        parts: &ComponentDeps,
    ) -> Result<SharedComponent> {
        let place = format!("components.{name}");
        let section: Section = parse_section(&place, table)?;
        let table = match (section.user, section.file) {
            (Some(user), None) if !user.is_empty() && !user.starts_with('-') => Table::User(user),
            (None, Some(file)) => Table::File {
                path: parts.path(file),
                follow: section.follow,
            },
            _ => {
                return Err(Error::new(
                    ErrorKind::Config,
                    "crontab.which",
                    format!("[{place}] needs either `user` or `file`"),
                )
                .hint("user = \"root\" for the crontab of root, file = \"/path\" for a file"));
            }
        };
        let mut artifact = section.artifact;
        if artifact.is_empty() {
            artifact = vec!["configs/crontab-{id}.txt".to_owned()];
        }
        Ok(Arc::new(Self {
            name: name.to_owned(),
            artifact,
            stops: section.stops,
            table,
            scratch: parts.scratch.clone(),
        }))
    }

    /// Where this run keeps a text.
    fn kept(&self, run: &RunId, which: &str) -> PathBuf {
        self.scratch
            .join(run.as_str())
            .join(format!("{}.crontab.{which}", self.name))
    }

    async fn keep(&self, run: &RunId, which: &str, text: Vec<u8>) -> Result<()> {
        Self::put(self.kept(run, which), run, text).await
    }

    async fn put(path: PathBuf, run: &RunId, text: Vec<u8>) -> Result<()> {
        let run = run.clone();
        blocking(move || {
            if let Some(parent) = path.parent() {
                use std::os::unix::fs::DirBuilderExt;
                std::fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(parent)
                    .map_err(|e| Error::io(format!("make {}", parent.display()), e))?;
            }
            table::replace(&path, &run, &text)
        })
        .await
    }

    async fn kept_text(&self, run: &RunId, which: &str) -> Result<Option<Vec<u8>>> {
        Table::kept(self.kept(run, which)).read().await
    }

    /// Keeps what the table has become since the restore, durably: whoever edited it then finds
    /// it there. No earlier such text is replaced.
    async fn keep_since(&self, cx: &RunContext, text: Vec<u8>) -> Result<()> {
        let folder = self.scratch.join(cx.run().as_str());
        let mut n = 1_u32;
        let path = loop {
            let name = match n {
                1 => format!("crontab.{}.since", self.name),
                n => format!("crontab.{}.since-{n}", self.name),
            };
            let path = folder.join(name);
            match Table::kept(path.clone()).read().await? {
                Some(there) if there != text => n = n.saturating_add(1),
                Some(_) => break path,
                None => {
                    Self::put(path.clone(), cx.run(), text).await?;
                    break path;
                }
            }
        };
        cx.notice(
            Finding::warning(
                "crontab.edited_since",
                &self.name,
                format!(
                    "{} was changed after the restore: that text is kept in {}",
                    self.table.describe(),
                    path.display()
                ),
            )
            .hint("take over from it what should stay, then delete it: crontabs hold passwords"),
        );
        Ok(())
    }

    /// The backup's text, verified.
    async fn fetch(&self, cx: &RunContext) -> Result<(String, Vec<u8>)> {
        let found = archive::find(cx.backup(), &self.name, &self.artifact)?;
        let text = text_of(cx.source(&found)?).await?;
        Ok((found, text))
    }

    async fn write_out(&self, writer: &BackupWriter) -> Result<BackedUp> {
        let mut done = BackedUp::default();
        let Some(text) = self.table.read().await? else {
            done.findings.push(Finding::info(
                "crontab.none",
                &self.name,
                format!(
                    "{} does not exist: there is nothing to back up",
                    self.table.describe()
                ),
            ));
            return Ok(done);
        };
        let path = writer.name(&self.artifact)?;
        // Jobs that cannot be read back are backed up as they are: that is for a person to mend.
        match syntax::jobs(&text, &path) {
            Ok(jobs) => {
                done.facts.insert("jobs".to_owned(), json!(jobs));
            }
            Err(error) => {
                let mut finding = Finding::warning(error.code(), &self.name, error.message());
                finding.hint = error.hint_text().map(str::to_owned);
                done.findings.push(finding);
            }
        }
        // Private: crontabs hold passwords.
        let artifact = writer.private_artifact(&path).await?;
        artifact.put(text).await?.finish().await?;
        Ok(done)
    }

    async fn look(&self, cx: &RunContext) -> Result<Inspection> {
        let mut inspection = Inspection::default();
        let finding = |error: &Error| Finding::from_error(&self.name, error);
        match archive::find(cx.backup(), &self.name, &self.artifact) {
            Ok(found) => {
                inspection.read_bytes = cx.backup().file(&found).map_or(0, |file| file.size);
                inspection.summary = self.table.describe();
                inspection.artifacts = vec![found];
                // It is small: what cron would refuse is known before anything is touched.
                match self.to_install(cx).await {
                    Ok((_, _, findings)) => inspection.findings.extend(findings),
                    Err(error) => inspection.findings.push(finding(&error)),
                }
            }
            Err(error) => inspection.findings.push(finding(&error)),
        }
        inspection.staged_at = self.kept(cx.run(), "new").display().to_string();
        if self.table.is_of_root() {
            inspection.obeyed.push(self.table.describe());
        }
        match self.table.read().await {
            Ok(text) => {
                self.look_at_absent(cx, text.is_some(), &mut inspection)
                    .await?;
                let lines = text.map(|text| text.split(|byte| *byte == b'\n').count() - 1);
                inspection.facts.insert("lines".to_owned(), json!(lines));
            }
            Err(error) => inspection.findings.push(finding(&error)),
        }
        if self.stops.is_empty() && matches!(self.table, Table::User(_)) {
            inspection.findings.push(
                Finding::warning(
                    "crontab.fires",
                    &self.name,
                    "cron goes on during the restore: old jobs, and then restored ones, may fire in its middle",
                )
                .hint(format!(
                    "make cron a service of the site (systemctl start, stop and is-active) and name it in `stops` of [components.{}]",
                    self.name
                )),
            );
        }
        Ok(inspection)
    }

    /// What is installed of a text, and what is to be said of it.
    fn judged(&self, found: &str, text: Vec<u8>) -> Result<(Vec<u8>, u64, Vec<Finding>)> {
        let mut findings = Vec::new();
        let lines = text.windows(2).filter(|pair| pair == b"\r\n").count();
        let text = match lines {
            0 => text,
            _ => {
                findings.push(Finding::warning(
                    "crontab.crlf",
                    &self.name,
                    format!("{found} has the line ends of Windows (CR LF); plain line ends are installed, as cron would take the CR for the end of each command"),
                ));
                let mut plain = Vec::with_capacity(text.len());
                let mut bytes = text.iter().peekable();
                while let Some(byte) = bytes.next() {
                    if !(*byte == b'\r' && bytes.peek() == Some(&&b'\n')) {
                        plain.push(*byte);
                    }
                }
                plain
            }
        };
        let jobs = syntax::jobs(&text, found)?;
        if jobs == 0 {
            findings.push(Finding::warning(
                "crontab.no_jobs",
                &self.name,
                format!("{found} holds no job"),
            ));
        }
        Ok((text, jobs, findings))
    }

    /// The backup's text as it is installed, how many jobs it has, and what is to be said of it. What this host's
    /// cron would drop whole is refused where it would be given to it, and told of a file, which another cron
    /// may read; where nobody can be asked, what some crons drop is told.
    async fn to_install(&self, cx: &RunContext) -> Result<(Vec<u8>, u64, Vec<Finding>)> {
        let (found, text) = self.fetch(cx).await?;
        let (text, jobs, mut findings) = self.judged(&found, text)?;
        if jobs == 0 {
            self.allow_empty(cx, &found).await?;
        }
        match judged_by_cron(&text).await {
            Judgement::Takes => {}
            Judgement::Drops(why) => {
                let message =
                    format!("cron would not take {found}, and fire none of its jobs: {why}");
                let hint =
                    "mend the line in a copy of the backup, or leave the component out with --only";
                if let Table::User(_) = self.table {
                    let error = Error::new(ErrorKind::Verification, "crontab.dropped", message);
                    return Err(error.hint(hint));
                }
                findings.push(Finding::warning("crontab.dropped", &self.name, message).hint(hint));
            }
            Judgement::Unknown => {
                findings.extend(syntax::doubts(&text).into_iter().map(|doubt| {
                    let message =
                        format!("some crons would fire no job of {found} at all: {doubt}");
                    Finding::warning("crontab.dropped", &self.name, message)
                        .hint("see in cron's log, once it is restored, that it took the file")
                }));
            }
        }
        Ok((text, jobs, findings))
    }

    /// Refuses to put nothing in the place of live jobs, unless somebody said so.
    async fn allow_empty(&self, cx: &RunContext, found: &str) -> Result<()> {
        if cx.allows_empty() {
            return Ok(());
        }
        // What cannot be read is told for itself.
        let live = self.table.read().await.ok().flatten().unwrap_or_default();
        // What is no crontab is something all the same.
        let jobs = syntax::jobs(&live, "the live one").unwrap_or(1);
        if jobs == 0 {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Preflight,
            "crontab.no_jobs",
            format!(
                "{found} holds no job, and {} has {jobs}",
                self.table.describe()
            ),
        )
        .because(NeedsAWord)
        .hint(format!(
            "choose another backup; --allow-empty {} puts it in the place of the live jobs",
            self.name
        )))
    }

    async fn stage_text(&self, cx: &RunContext) -> Result<Staged> {
        let (text, jobs, findings) = self.to_install(cx).await?;
        let mut staged = Staged {
            bytes: text.len() as u64,
            findings,
            ..Staged::default()
        };
        staged.facts.insert("jobs".to_owned(), json!(jobs));
        self.keep(cx.run(), "new", text).await?;
        Ok(staged)
    }

    async fn install(&self, cx: &RunContext) -> Result<()> {
        let new = self.kept_text(cx.run(), "new").await?;
        let new = new.ok_or_else(|| nothing_staged(cx))?;
        archive::note_cutting(cx).await?;
        let present = self.table.read().await?;
        if cx.recall(HAD).is_none() {
            if let Some(old) = &present {
                self.keep(cx.run(), "old", old.clone()).await?;
            }
            cx.record(HAD, present.is_some()).await?;
            if present.is_none() {
                cx.record_made(&self.table.describe()).await?;
            }
        }
        // Whoever takes this back asks whether it is the same that is there.
        cx.record(PLACE, self.table.describe()).await?;
        if let Some(real) = self.table.leads_to().await? {
            cx.record(LED_TO, real.display().to_string()).await?;
        }
        if present.as_ref() == Some(&new) {
            return Ok(());
        }
        self.table.write(cx.run(), Some(new)).await
    }

    fn old_gone(&self, cx: &RunContext) -> Error {
        let path = self.kept(cx.run(), "old");
        Error::new(
            ErrorKind::Failed,
            "crontab.old_gone",
            format!("{} is gone, the text that was replaced", path.display()),
        )
        .hint("was the run confirmed? then there is no way back to it")
    }

    /// Refuses where the configuration names another crontab than the one that was replaced, or where its
    /// file has become a link since: what that leads to is nobody's to write to.
    async fn same_place(&self, cx: &RunContext) -> Result<()> {
        let now = self.table.describe();
        if let Some(Value::String(then)) = cx.recall(PLACE)
            && then != now
        {
            return Err(Error::new(
                ErrorKind::Failed,
                "crontab.other_place",
                format!("the run replaced {then}, and the configuration now says {now}"),
            )
            .hint("write what it was into the configuration until the run is finished"));
        }
        let Some(Value::String(then)) = cx.recall(LED_TO) else {
            return Ok(());
        };
        match self.table.leads_to().await? {
            Some(real) if real.display().to_string() != then => {
                let real = real.display();
                Err(Error::new(
                    ErrorKind::Failed,
                    "crontab.led_elsewhere",
                    format!("the run replaced the file {then}, and {now} now leads to {real}, which is left alone"),
                )
                .hint("see who has made that link, and put a file in its place again"))
            }
            _ => Ok(()),
        }
    }

    async fn put_back(&self, cx: &RunContext) -> Result<()> {
        self.same_place(cx).await?;
        let old = match cx.recall(HAD) {
            None => return Ok(()),
            Some(Value::Bool(false)) => None,
            Some(_) => match self.kept_text(cx.run(), "old").await? {
                Some(old) => Some(old),
                // It has done its service.
                None if archive::is_noted_undone(cx) => return Ok(()),
                None => return Err(self.old_gone(cx)),
            },
        };
        let present = self.table.read().await?;
        if present == old {
            if old.is_none() {
                cx.record_removed(&self.table.describe()).await;
            }
            return Ok(());
        }
        if let Some(present) = present
            && self.kept_text(cx.run(), "new").await?.as_ref() != Some(&present)
        {
            self.keep_since(cx, present).await?;
        }
        let made = old.is_none();
        self.table.write(cx.run(), old).await?;
        if made {
            cx.record_removed(&self.table.describe()).await;
        }
        Ok(())
    }

    async fn compare(&self, cx: &RunContext) -> Result<CheckOutcome> {
        let new = self.kept_text(cx.run(), "new").await?;
        let present = self.table.read().await?;
        let (passed, detail) = match (&new, &present) {
            (Some(new), Some(present)) if new == present => (
                true,
                format!("{} is the restored one", self.table.describe()),
            ),
            (_, None) => (false, format!("there is no {}", self.table.describe())),
            _ => (
                false,
                format!("{} is not the restored one", self.table.describe()),
            ),
        };
        Ok(CheckOutcome::new(
            format!("{}/text", self.name),
            passed,
            detail,
        ))
    }

    async fn throw_away(&self, cx: &RunContext, what: Discard) -> Result<()> {
        // The staged text is what the live one is compared with as long as it is live.
        let live = cx.recall(HAD).is_some() && self.compare(cx).await?.passed;
        let which: &[&str] = match what {
            // It is the live text that was kept: the copy, which may hold passwords, has done its
            // service.
            Discard::Staged if archive::is_noted_undone(cx) => &["new", "old"],
            Discard::Staged if live => &[],
            Discard::Staged => &["new"],
            Discard::Replaced => &["old", "new"],
        };
        let mut paths: Vec<PathBuf> = which.iter().map(|it| self.kept(cx.run(), it)).collect();
        // What a killed process was about to keep. Nothing is kept while this is at work.
        let kept = ["old", "new"].map(|it| self.kept(cx.run(), it));
        paths.extend(kept.iter().map(|it| table::beside(it, cx.run())));
        blocking(move || {
            for path in &paths {
                if path.parent().is_some_and(std::path::Path::is_dir) {
                    table::remove(path)?;
                    if let Some(parent) = path.parent() {
                        // Refused while other components keep something there.
                        let _ = std::fs::remove_dir(parent);
                    }
                }
            }
            Ok(())
        })
        .await
    }

    fn at(&self) -> impl Fn(Error) -> Error {
        let name = self.name.clone();
        move |error| error.in_component(&name)
    }
}

fn nothing_staged(cx: &RunContext) -> Error {
    Error::new(
        ErrorKind::Failed,
        "crontab.nothing_staged",
        format!("no crontab is staged for run {}", cx.run()),
    )
    .hint("start a new run: it stages the backup again; nothing was changed")
}

/// The text of a backup's file, verified.
async fn text_of(source: Source) -> Result<Vec<u8>> {
    let (found, size) = (source.label(), source.size().unwrap_or(0));
    if size > LARGEST {
        return Err(Error::new(
            ErrorKind::Verification,
            "crontab.too_large",
            format!("{found} has {size} bytes: that is no crontab"),
        )
        .hint("look at what is in it; `artifact` of the component names another file"));
    }
    let opened = source.clone();
    let read = move || crate::sys::read_small_from(opened.open()?, LARGEST);
    let read = blocking(move || Ok(read())).await?;
    let mut text = read.map_err(|e| Error::io(format!("read {found}"), e))?;
    let digest = Digest(Sha256::digest(&text).into());
    if let Some(expected) = source.expected()
        && expected != digest
    {
        return Err(Error::new(
            ErrorKind::Verification,
            "hash.mismatch",
            format!("{found} has SHA-256 {digest}, the manifest says {expected}"),
        )
        .hint("the file was changed since it was backed up: choose another backup"));
    }
    // cron refuses a last line that does not end.
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    Ok(text)
}

#[async_trait]
impl Component for Crontab {
    fn name(&self) -> &str {
        &self.name
    }

    fn kind(&self) -> &'static str {
        "crontab"
    }

    fn stops(&self) -> Vec<String> {
        self.stops.clone()
    }

    async fn absent(&self) -> Result<Option<PathBuf>> {
        let absent = self.table.absent_directory().await.map_err(self.at())?;
        Ok(absent.map(|at| at.path().to_owned()))
    }

    fn comes_before_services(&self) -> bool {
        true
    }

    fn artifacts(&self, backup: &Backup) -> Vec<String> {
        backup.find_of(&self.name, &self.artifact)
    }

    async fn targets(&self, _paths: &[String]) -> Result<Vec<Target>> {
        let place = self.table.place().into_iter();
        Ok(place
            .map(|(directory, name)| Target::new(directory, SwapScope::Entries(vec![name])))
            .collect())
    }

    async fn back_up(&self, writer: &BackupWriter) -> Result<BackedUp> {
        self.write_out(writer).await.map_err(self.at())
    }

    fn contents(&self) -> Option<&dyn Contents> {
        Some(self)
    }

    async fn inspect(&self, cx: &RunContext) -> Result<Inspection> {
        self.look(cx).await.map_err(self.at())
    }

    fn creator(&self) -> Option<&dyn Create> {
        Some(self)
    }

    async fn stage(&self, cx: &RunContext) -> Result<Staged> {
        cx.check_cancelled()?;
        self.stage_text(cx).await.map_err(self.at())
    }

    async fn cut_over(&self, cx: &RunContext) -> Result<()> {
        self.install(cx).await.map_err(self.at())
    }

    async fn undo(&self, cx: &RunContext) -> Result<()> {
        self.put_back(cx).await.map_err(self.at())?;
        archive::note_undone(cx).await;
        Ok(())
    }

    async fn as_staged(&self, cx: &RunContext) -> Result<()> {
        match self.kept_text(cx.run(), "new").await? {
            Some(_) => Ok(()),
            None => Err(nothing_staged(cx)),
        }
    }

    async fn way_back(&self, cx: &RunContext) -> Result<()> {
        self.same_place(cx).await?;
        if cx.recall(HAD) != Some(Value::Bool(true)) {
            return Ok(());
        }
        match self.kept_text(cx.run(), "old").await? {
            Some(_) => Ok(()),
            None => Err(self.old_gone(cx)),
        }
    }

    async fn can_undo(&self, _cx: &RunContext) -> Result<()> {
        // Whatever has its name by now is looked at as the undo does.
        self.table.read().await?;
        self.table.ensure_replaceable().await?;
        let Some((directory, name)) = self.table.place() else {
            return Ok(());
        };
        // What cannot be measured is left to the undo.
        let measured = tokio::task::spawn_blocking(move || {
            Space::of(&directory).map(|space| (space, directory.join(name)))
        });
        match measured.await {
            Ok(Ok((space, file))) => archive::ensure_writable(&space, &file.display().to_string()),
            _ => Ok(()),
        }
    }

    async fn as_left(&self, cx: &RunContext) -> Result<()> {
        match cx.cut_over() {
            CutOver::Begun | CutOver::Done => self.way_back(cx).await,
            // The texts lie in the state directory: what is gone from there is gone, and a crontab is
            // deleted by no confirmation.
            CutOver::NotBegun | CutOver::TakenBack => Ok(()),
        }
    }

    async fn check(&self, cx: &RunContext) -> Result<Vec<CheckOutcome>> {
        Ok(vec![self.compare(cx).await.map_err(self.at())?])
    }

    async fn discard(&self, cx: &RunContext, what: Discard) -> Result<()> {
        self.throw_away(cx, what).await.map_err(self.at())
    }

    async fn replaced_at(&self, cx: &RunContext) -> Result<Option<String>> {
        let which = match (cx.cut_over(), cx.recall(HAD)) {
            (CutOver::TakenBack, _) => "new",
            (_, Some(Value::Bool(true))) => "old",
            _ => return Ok(None),
        };
        let kept = self.kept(cx.run(), which);
        Ok(tokio::fs::try_exists(&kept)
            .await
            .unwrap_or(false)
            .then(|| kept.display().to_string()))
    }
}

/// For `fuzz/`: a crontab.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let _ = syntax::jobs(bytes, "it");
}
