//! What a site tells of its runs: reports, and what is found without a journal.

use super::runs::SEARCH;
use super::*;
use crate::contract::KeptByRun;
use crate::engine::run::LostRun;

/// Data that a run keeps beside the live data of a component, found by looking.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FoundData {
    /// The component that found it.
    pub component: String,
    /// How its run ended; `None`: no journal of the site tells of it.
    pub outcome: Option<crate::model::Outcome>,
    /// Whether no verb deals with it any more: its run is over and settled, or its journal is lost or
    /// cannot be read. It is put back, or deleted, by hand.
    #[serde(default)]
    pub by_hand: bool,
    /// What was found; `None` where the component could not look.
    pub kept: Option<KeptByRun>,
    /// Why it could not look.
    pub error: Option<String>,
}

impl Site {
    /// What runs keep beside the live data, found by looking at the components: also what no journal
    /// tells of any more. Changes nothing.
    pub async fn search(&self) -> Result<Vec<FoundData>> {
        let known = Journal::all(&self.runs()).await?;
        let mut found = Vec::new();
        for component in &self.components {
            let kept = match component.kept_by_runs().await {
                Ok(kept) => kept,
                Err(error) => {
                    found.push(FoundData {
                        component: component.name().to_owned(),
                        outcome: None,
                        by_hand: false,
                        kept: None,
                        error: Some(error.message().to_owned()),
                    });
                    continue;
                }
            };
            for kept in kept {
                let state = known.iter().find(|state| state.run == kept.run);
                found.push(FoundData {
                    component: component.name().to_owned(),
                    outcome: state.map(|state| state.outcome),
                    by_hand: state
                        .is_none_or(|state| state.damaged.is_some() || state.is_settled()),
                    kept: Some(kept),
                    error: None,
                });
            }
        }
        Ok(found)
    }

    /// The reports of all runs, oldest first; of one whose journal is lost the report that it left.
    pub async fn history(&self) -> Result<Vec<Report>> {
        let mut reports = Vec::new();
        for lost in Journal::lost(&self.runs()).await? {
            reports.extend(report_left(&lost).await);
        }
        for state in Journal::all(&self.runs()).await? {
            reports.push(self.told(&state).await);
        }
        Ok(reports)
    }

    /// The runs that have left neither a journal that can be read nor a report, each as a warning: nothing of
    /// them is in the [history](Self::history), and they may have ended in the middle.
    pub async fn unread_runs(&self) -> Result<Vec<Finding>> {
        let unread = Journal::unread(&self.runs()).await?;
        let unread = unread.into_iter().filter(|it| it.report.is_none());
        let told = unread.map(|lost| {
            let message = match lost.never_began() {
                true => "its journal is empty or gone: it was killed as it began, or nobody knows any more what it did".to_owned(),
                false => lost.error.message().to_owned(),
            };
            Finding::warning("run.unread", lost.run.as_str(), message).hint(format!(
                "{SEARCH}; `restore page off` lets users in where its page is still up; once nothing of it is needed, delete {}",
                self.runs().join(lost.run.as_str()).display()
            ))
        });
        Ok(told.collect())
    }

    /// The report of a run (`None`: the newest).
    pub async fn report(&self, run: Option<RunId>) -> Result<Report> {
        let state = match run {
            Some(run) => match Journal::peek_at(&self.runs(), &run).await {
                Ok(state) => state,
                Err(error) => {
                    let lost = Journal::lost(&self.runs()).await?;
                    let left = lost.iter().find(|known| known.run == run);
                    return match left {
                        Some(lost) => report_left(lost).await.ok_or(error),
                        None => Err(error),
                    };
                }
            },
            None => self.newest(|_| true).await?.ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "run.none", "there is no run yet")
                    .hint("`restore run latest` makes one, after it has shown what it would do")
            })?,
        };
        Ok(self.told(&state).await)
    }

    /// The report of a run, with who is at work on it.
    async fn told(&self, state: &RunState) -> Report {
        let mut report = report_of(self, state).await;
        if let Some(pid) = state.pid
            && (state.outcome == crate::model::Outcome::Unfinished || state.is_half_confirmed())
        {
            report.under_way = SiteLock::held_by(&self.state, pid).await;
            if report.under_way.is_some() {
                report.next =
                    vec!["restore history    shows whether it has ended; wait for that".to_owned()];
            }
        }
        report
    }
}

/// The report that a run left whose journal is lost.
pub(super) async fn report_left(lost: &LostRun) -> Option<Report> {
    let (run, path) = (&lost.run, lost.report.as_deref()?);
    let bytes = tokio::fs::read(path).await.ok()?;
    let mut report: Report = serde_json::from_slice(&bytes).ok()?;
    report.damaged = Some(format!(
        "the journal of run {run} is lost; this is the report in {}",
        path.display()
    ));
    report.next = vec![SEARCH.to_owned()];
    Some(report)
}
