//! Values as text for people: no colours, no terminal, nothing but strings.

mod backup;
mod config_check;
mod difference;
mod fetch;
mod making;
mod members;
mod plan;
mod prune;
mod recovery;
mod run;
mod status;

pub(crate) use backup::{FileRow, backups, show, verification};
pub(crate) use config_check::config_check;
pub(crate) use difference::difference;
pub(crate) use fetch::fetched;
pub(crate) use making::backed_up;
pub(crate) use members::{got, member, member_heading, members};
pub(crate) use plan::{plan, plan_with, refused};
pub(crate) use prune::{prune_plan, pruned};
pub(crate) use recovery::recoverable;
pub(crate) use run::{
    abandon_question, checks, confirm_question, done_line, found, history, noticed,
    rollback_question,
};
pub(crate) use status::status;

use restore_core::Finding;

use crate::progress::finding_line;

/// Findings under a heading; nothing where there are none.
pub(crate) fn findings(title: &str, findings: &[Finding]) -> String {
    if findings.is_empty() {
        return String::new();
    }
    let mut out = format!("\n{title}\n");
    // What stops a run is what a tired person must not have to look for.
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    for finding in sorted {
        for line in finding_line(finding).lines() {
            out += &format!("  {line}\n");
        }
    }
    out
}
