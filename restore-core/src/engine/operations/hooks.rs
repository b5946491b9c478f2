//! The hooks of what is no run: a backup, and what ends before a run has begun.

use super::*;
use crate::contract::{HookMoment, HookSubject};
use crate::engine::hooks::{Told, call_at_end};
use crate::model::BackupReport;

impl Site {
    /// Calls the hooks of a backup's end; those that failed are told in its report.
    pub(super) async fn after_backup(
        &self,
        made: Result<BackupReport>,
        options: &RunOptions,
    ) -> Result<BackupReport> {
        let when = match &made {
            Ok(_) => HookMoment::OnSuccess,
            Err(_) => HookMoment::OnFailure,
        };
        let told = Told {
            site: self.name(),
            subject: HookSubject::Backup,
            report: None,
            backup: made.as_ref().ok(),
            error: made.as_ref().err(),
        };
        let watching = (options.events.as_ref(), &options.cancel);
        let findings = call_at_end(&self.hooks, &told, when, watching).await;
        made.map(|mut report| {
            report.findings.extend(findings);
            report
        })
    }

    /// Calls the hooks of a drill that ended before it had begun, as there is no backup, say: nobody watches
    /// those that a timer makes. [`run`](Self::run), and [`PlanBuilder::run`](crate::run::PlanBuilder::run), do
    /// this themselves; whoever chooses the backup or makes the plan does it where that fails.
    pub async fn tell_refused_drill(&self, error: &Error, options: &RunOptions) {
        let told = Told {
            site: self.name(),
            subject: HookSubject::Drill,
            report: None,
            backup: None,
            error: Some(error),
        };
        let watching = (options.events.as_ref(), &options.cancel);
        call_at_end(&self.hooks, &told, HookMoment::OnFailure, watching).await;
    }
}
