//! Volumes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Kept, broken, crash, given, holds, must, tar};
use crate::archive::{Digest, Source, UnpackPolicy, hash_file};
use crate::contract::Volume;
use crate::model::{Error, ErrorKind, Progress, Result, RunId};
use crate::swap::scope::{Discard, SwapScope, SwapState};

/// What a volume holds: contents by path, without directories and without what is hidden in
/// `.restore-*` at the top.
pub type Files = BTreeMap<String, String>;

/// A volume of one's own, and a way behind its back.
#[async_trait]
pub trait VolumeUnderTest: Send + Sync {
    /// The volume, made anew as another process would.
    async fn volume(&self) -> Result<Arc<dyn Volume>>;

    /// Makes the volume hold exactly these files (and, of runs, nothing).
    async fn fill(&self, files: &Files) -> Result<()>;

    /// What the volume holds now.
    async fn files(&self) -> Result<Files>;

    /// The names at the top of the volume that begin with `.restore-`.
    async fn hidden(&self) -> Result<Vec<String>>;
}

/// How soon something that was cancelled has to end.
const SOON: Duration = Duration::from_secs(20);

const STAGED: [(&str, &str); 5] = [
    ("app.db", "restored"),
    (".hidden/state", "restored"),
    ("deep/er/file", "restored"),
    ("deep/only-staged", "new"),
    (".dot", "restored"),
];

fn live() -> Files {
    [
        ("app.db", "old"),
        (".hidden/state", "old"),
        ("deep/er/file", "old"),
        ("deep/only-live", "old"),
        ("only-live", "old"),
        (".stray", "old"),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .into()
}

fn restored() -> Files {
    STAGED
        .map(|(path, text)| (path.to_owned(), text.to_owned()))
        .into()
}

/// Tries a volume.
///
/// # Errors
///
/// The first clause of the contract of [`Volume`] that is not kept.
pub async fn volume(under_test: Arc<dyn VolumeUnderTest>) -> Kept {
    let dir = given("a temporary directory", scratch()).map(Scratch)?;
    let archive = dir.0.join("archive.tar");
    let written = std::fs::write(&archive, tar::archive(&STAGED));
    given(
        "writing an archive",
        written.map_err(|e| Error::io(format!("write {}", archive.display()), e)),
    )?;
    let plain = Source::new(archive, "archive.tar", None, None);
    let digest = given("hashing", hash_file(&plain, Progress::hidden()).await)?;
    let trial = Trial {
        under_test,
        source: Source::new(plain.path(), "archive.tar", None, Some(digest)),
    };
    trial.describes().await?;
    trial.there_and_back().await?;
    trial.keeps_what_is_live().await?;
    trial.refuses().await?;
    trial.stops().await?;
    trial.leaves_other_runs_alone().await?;
    trial.swaps_parts().await?;
    trial.survives().await
}

/// A directory that is gone with the value.
struct Scratch(std::path::PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn scratch() -> Result<std::path::PathBuf> {
    let dir = std::env::temp_dir().join(format!("restore-conformance-{}", RunId::generate()));
    std::fs::create_dir(&dir).map_err(|e| Error::io(format!("make {}", dir.display()), e))?;
    Ok(dir)
}

struct Trial {
    under_test: Arc<dyn VolumeUnderTest>,
    source: Source,
}

impl Trial {
    async fn volume(&self) -> Kept<Arc<dyn Volume>> {
        given("volume", self.under_test.volume().await)
    }

    /// A volume as it was at the beginning, and a run of its own.
    async fn fresh(&self) -> Kept<(Arc<dyn Volume>, RunId)> {
        given("fill", self.under_test.fill(&live()).await)?;
        self.holds(
            "what the suite is given works: `fill`, then `files`",
            &live(),
        )
        .await?;
        Ok((self.volume().await?, RunId::generate()))
    }

    async fn holds(&self, clause: &str, wanted: &Files) -> Kept {
        let found = given("files", self.under_test.files().await)?;
        holds(clause, found == *wanted, format!("{found:?}"))
    }

    async fn hides(&self, clause: &str, wanted: &[String]) -> Kept {
        let found = given("hidden", self.under_test.hidden().await)?;
        holds(clause, found == wanted, format!("{found:?}"))
    }

    async fn is(&self, clause: &str, run: &RunId, wanted: SwapState) -> Kept {
        let volume = self.volume().await?;
        let found = must(clause, volume.state(run).await)?;
        holds(clause, found == wanted, format!("the state {found:?}"))
    }

    async fn unpack(&self, volume: &dyn Volume, run: &RunId, source: Source) -> Result<()> {
        let policy = UnpackPolicy::default();
        let unpacked = volume.unpack(run, source, &policy, Progress::hidden());
        unpacked.await.map(drop)
    }

    async fn stage(&self, volume: &dyn Volume, run: &RunId) -> Kept {
        let staged = self.unpack(volume, run, self.source.clone()).await;
        must("`unpack` stages an archive", staged)
    }

    async fn describes(&self) -> Kept {
        let (volume, run) = self.fresh().await?;
        let described = volume.describe();
        holds(
            "`describe` gives a few words in one line",
            !described.trim().is_empty() && !described.contains('\n'),
            format!("{described:?}"),
        )?;
        let space = must("`free_space` answers", volume.free_space().await)?;
        holds(
            "`free_space` names the file system and says that there is room",
            !space.file_system.is_empty() && space.free_bytes > 0,
            format!("{space:?}"),
        )?;
        self.is(
            "of a run that never was there is nothing",
            &run,
            SwapState::Nothing,
        )
        .await?;
        let clause = "where nothing is swapped, `unswap` and `discard` change nothing";
        must(clause, volume.unswap(&run).await)?;
        must(clause, volume.discard(&run, Discard::Staged).await)?;
        must(clause, volume.discard(&run, Discard::Replaced).await)?;
        self.holds(clause, &live()).await?;
        self.hides(clause, &[]).await
    }

    async fn there_and_back(&self) -> Kept {
        let (volume, run) = self.fresh().await?;
        let all = SwapScope::Everything;
        for _ in 0..2 {
            self.stage(volume.as_ref(), &run).await?;
            let clause = "what is staged leaves the live data alone, and may be staged again";
            self.holds(clause, &live()).await?;
            self.is(clause, &run, SwapState::Staged).await?;
        }
        self.hides(
            "a run stages into a hidden folder `.restore-RUN` of the volume",
            &[run.folder()],
        )
        .await?;
        for _ in 0..2 {
            let clause =
                "`swap` makes exactly what was staged live, dotfiles too; twice changes nothing";
            must(clause, self.volume().await?.swap(&run, &all).await)?;
            self.holds(clause, &restored()).await?;
            self.is(clause, &run, SwapState::Swapped).await?;
        }
        for _ in 0..2 {
            let clause = "`unswap` brings back exactly what was live; twice changes nothing";
            must(clause, self.volume().await?.unswap(&run).await)?;
            self.holds(clause, &live()).await?;
            self.is(clause, &run, SwapState::Staged).await?;
        }
        let clause = "after `unswap` the others are staged again";
        must(clause, volume.swap(&run, &all).await)?;
        self.holds(clause, &restored()).await?;
        must(clause, volume.unswap(&run).await)?;
        for _ in 0..2 {
            let clause =
                "`discard` of what is staged leaves nothing of the run; twice changes nothing";
            must(clause, volume.discard(&run, Discard::Staged).await)?;
            self.holds(clause, &live()).await?;
            self.is(clause, &run, SwapState::Nothing).await?;
            self.hides(clause, &[]).await?;
        }
        Ok(())
    }

    async fn keeps_what_is_live(&self) -> Kept {
        let (volume, run) = self.fresh().await?;
        self.stage(volume.as_ref(), &run).await?;
        let swapped = volume.swap(&run, &SwapScope::Everything).await;
        must("`swap` of what is staged", swapped)?;
        let clause = "`discard` of what is staged deletes nothing while it is live";
        must(clause, volume.discard(&run, Discard::Staged).await)?;
        self.holds(clause, &restored()).await?;
        self.is(clause, &run, SwapState::Swapped).await?;
        must(clause, volume.unswap(&run).await)?;
        self.holds(clause, &live()).await?;

        must(clause, volume.swap(&run, &SwapScope::Everything).await)?;
        let clause = "once what was replaced is discarded, only the live data is left; twice changes nothing";
        for _ in 0..2 {
            must(clause, volume.discard(&run, Discard::Replaced).await)?;
            must(clause, volume.discard(&run, Discard::Staged).await)?;
            self.holds(clause, &restored()).await?;
            self.hides(clause, &[]).await?;
        }
        Ok(())
    }

    async fn refuses(&self) -> Kept {
        let (volume, run) = self.fresh().await?;
        let clause = "a `swap` of which nothing is staged is an error, and changes nothing";
        let swapped = volume.swap(&run, &SwapScope::Everything).await;
        holds(clause, swapped.is_err(), "Ok")?;
        self.holds(clause, &live()).await?;

        let clause = "a wrong hash is an error, and nothing staged is left";
        let wrong = Source::new(
            self.source.path(),
            "archive.tar",
            None,
            Some(Digest([0; 32])),
        );
        match self.unpack(volume.as_ref(), &run, wrong).await {
            Err(error) if error.kind() == ErrorKind::Verification => {}
            Err(error) => return Err(broken(clause, format!("{:?}: {error}", error.kind()))),
            Ok(()) => return Err(broken(clause, "Ok")),
        }
        self.is(clause, &run, SwapState::Nothing).await?;
        self.hides(clause, &[]).await?;
        self.holds(clause, &live()).await?;

        self.stage(volume.as_ref(), &run).await?;
        let swapped = volume.swap(&run, &SwapScope::Everything).await;
        must("`swap` of what is staged", swapped)?;
        let clause = "staging is refused once a swap has begun";
        let again = self
            .unpack(volume.as_ref(), &run, self.source.clone())
            .await;
        holds(clause, again.is_err(), "`unpack` says Ok")?;
        holds(
            clause,
            volume.stage_dir(&run).await.is_err(),
            "`stage_dir` says Ok",
        )?;
        self.holds(clause, &restored()).await?;
        must(clause, volume.unswap(&run).await)?;
        self.holds(clause, &live()).await
    }

    /// Cancelled before and while it works.
    async fn stops(&self) -> Kept {
        let clause =
            "a cancelled `unpack` ends soon with `Interrupted`, and nothing staged is left";
        for at_once in [true, false] {
            let (volume, run) = self.fresh().await?;
            let cancel = CancellationToken::new();
            let source = self.source.clone().cancelled_by(cancel.clone());
            if at_once {
                cancel.cancel();
            }
            let work = self.unpack(volume.as_ref(), &run, source);
            let work = async {
                let mut work = std::pin::pin!(work);
                if let Some(done) = crash::polls(1, &mut work).await {
                    return done;
                }
                cancel.cancel();
                work.await
            };
            let done = tokio::time::timeout(SOON, work)
                .await
                .map_err(|_| broken(clause, format!("it goes on for {SOON:?}")))?;
            match done {
                Err(error) if error.kind() == ErrorKind::Interrupted => {
                    self.is(clause, &run, SwapState::Nothing).await?;
                    self.hides(clause, &[]).await?;
                }
                Err(error) => return Err(broken(clause, format!("{:?}: {error}", error.kind()))),
                Ok(()) if at_once => return Err(broken(clause, "Ok")),
                // It was faster.
                Ok(()) => {}
            }
            self.holds(clause, &live()).await?;
        }
        Ok(())
    }

    async fn leaves_other_runs_alone(&self) -> Kept {
        let clause = "folders of other runs are never touched";
        let (volume, one) = self.fresh().await?;
        let two = RunId::generate();
        self.stage(volume.as_ref(), &one).await?;
        must(clause, volume.swap(&one, &SwapScope::Everything).await)?;
        self.stage(volume.as_ref(), &two).await?;
        must(clause, volume.swap(&two, &SwapScope::Everything).await)?;
        must(clause, volume.unswap(&two).await)?;
        must(clause, volume.discard(&two, Discard::Staged).await)?;
        self.hides(clause, &[one.folder()]).await?;
        self.is(clause, &one, SwapState::Swapped).await?;
        must(clause, volume.unswap(&one).await)?;
        self.holds(clause, &live()).await
    }

    async fn swaps_parts(&self) -> Kept {
        let clause = "a swap of named entries leaves all others as they are";
        let (volume, run) = self.fresh().await?;
        self.stage(volume.as_ref(), &run).await?;
        let scope = SwapScope::Entries(vec!["app.db".to_owned(), "deep".to_owned()]);
        must(clause, volume.swap(&run, &scope).await)?;
        let mut wanted = live();
        wanted.retain(|path, _| !path.starts_with("deep/") && path != "app.db");
        wanted.extend(
            restored()
                .into_iter()
                .filter(|(path, _)| path.starts_with("deep/") || path == "app.db"),
        );
        self.holds(clause, &wanted).await?;
        must(clause, volume.unswap(&run).await)?;
        self.holds(clause, &live()).await?;
        must(clause, volume.discard(&run, Discard::Staged).await)?;

        let clause = "a swap of a tree leaves what is to be kept as it is, and replaces the rest";
        let (volume, run) = self.fresh().await?;
        self.stage(volume.as_ref(), &run).await?;
        let scope = SwapScope::Tree {
            keep: vec!["deep/er".to_owned(), "only-live".to_owned()],
        };
        must(clause, volume.swap(&run, &scope).await)?;
        let mut wanted = restored();
        for path in ["deep/er/file", "only-live"] {
            wanted.insert(path.to_owned(), "old".to_owned());
        }
        self.holds(clause, &wanted).await?;
        must(clause, volume.unswap(&run).await)?;
        self.holds(clause, &live()).await?;

        let clause = "a swap of paths replaces these and nothing else";
        let (volume, run) = self.fresh().await?;
        self.stage(volume.as_ref(), &run).await?;
        let scope = SwapScope::Paths {
            paths: vec!["deep/er/file".to_owned()],
            keep: Vec::new(),
        };
        must(clause, volume.swap(&run, &scope).await)?;
        let mut wanted = live();
        wanted.insert("deep/er/file".to_owned(), "restored".to_owned());
        self.holds(clause, &wanted).await?;
        must(clause, volume.unswap(&run).await)?;
        self.holds(clause, &live()).await
    }

    /// Killed in the middle of each method; another process goes on, or back.
    async fn survives(&self) -> Kept {
        let all = SwapScope::Everything;
        for forth in [true, false] {
            let mut over = [false; 3];
            for moment in crash::moments() {
                let (_, run) = self.fresh().await?;
                let run = &run;
                over[0] |= self.dies(Method::Unpack, run, moment, over[0]).await?;
                let clause = "`unpack`, killed in its middle, leaves the live data alone";
                self.holds(clause, &live()).await?;
                self.stage(self.volume().await?.as_ref(), run).await?;

                over[1] |= self.dies(Method::Swap, run, moment, over[1]).await?;
                if forth {
                    let clause = "another process finishes a `swap` that was killed";
                    must(clause, self.volume().await?.swap(run, &all).await)?;
                    self.holds(clause, &restored()).await?;
                }
                over[2] |= self.dies(Method::Unswap, run, moment, over[2]).await?;
                let volume = self.volume().await?;
                let clause = "another process takes back a `swap`, or an `unswap`, that was killed";
                must(clause, volume.unswap(run).await)?;
                self.holds(clause, &live()).await?;
                must(clause, volume.discard(run, Discard::Staged).await)?;
                must(clause, volume.discard(run, Discard::Replaced).await)?;
                self.holds(clause, &live()).await?;
                self.hides(clause, &[]).await?;
                if over == [true; 3] {
                    break;
                }
            }
        }
        Ok(())
    }

    /// A process that dies at the moment, or (where it had come to its end before, then) not;
    /// whether it came to its end.
    async fn dies(&self, method: Method, run: &RunId, moment: usize, never: bool) -> Kept<bool> {
        let so_often = if never { usize::MAX } else { moment };
        let (under_test, run, source) = (self.under_test.clone(), run.clone(), self.source.clone());
        crash::process(move || async move {
            let volume = given("volume", under_test.volume().await)?;
            let work = async {
                let policy = UnpackPolicy::default();
                match method {
                    Method::Unpack => {
                        let unpacked = volume.unpack(&run, source, &policy, Progress::hidden());
                        unpacked.await.map(drop)
                    }
                    Method::Swap => volume.swap(&run, &SwapScope::Everything).await,
                    Method::Unswap => volume.unswap(&run).await,
                }
            };
            match crash::polls(so_often, work).await {
                None => Ok(false),
                Some(done) => {
                    must(&format!("{method:?} after another was killed"), done).map(|()| true)
                }
            }
        })
        .await
    }
}

#[derive(Clone, Copy, Debug)]
enum Method {
    Unpack,
    Swap,
    Unswap,
}
