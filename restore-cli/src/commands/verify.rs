//! `restore verify ID [--deep]`.

use std::sync::Arc;

use restore_core::backup::{BackupId, ManifestIssue, Verdict, Verification, VerifyOptions};
use restore_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::Context;
use crate::printer::Answer;
use crate::{exit, human, render};

/// Reads a backup through. What could not be proven is not passed off as proven: a backup without
/// checksums ends well only when it was read deeply, and deep verification only when it was
/// complete.
pub(super) async fn verify(cx: &Context, id: &str, deep: bool) -> Result<Answer> {
    let site = cx.site().await?;
    let backup = site.backup(id).await?;
    let mut options = VerifyOptions::default();
    options.deep = deep;
    let events = Arc::new(cx.stderr.clone());
    let result = site
        .verify(&backup, options, events, cx.signals.token())
        .await?;
    let text = render::verification(&result);
    // A nightly check must not end well by passing over the backup of that night.
    let newer = match id {
        "latest" => site.newer_damaged(backup.id()).await.pop_last(),
        _ => None,
    };
    let error = result
        .clone()
        .into_result()
        .err()
        .or_else(|| unproven(&result))
        .or_else(|| newer.map(|(newer, wrong)| passed_over(&result.id, &newer, &wrong)));
    let code = error.as_ref().map_or(exit::DONE, exit::of_error);
    Ok(Answer::new("verification", &value(&result), text)?.failed(error, code))
}

/// `latest` is an older backup, as the newest is damaged.
fn passed_over(latest: &BackupId, newer: &BackupId, wrong: &str) -> Error {
    let message = format!("{newer} is newer than {latest}, the latest sound backup: {wrong}");
    Error::new(ErrorKind::Verification, "verify.newer_damaged", message).hint(format!(
        "`restore verify {newer}` says all that is wrong with it"
    ))
}

fn unproven(result: &Verification) -> Option<Error> {
    if result.deeply_verified() {
        return None;
    }
    if result.verdict() == Verdict::Unverifiable && !result.deep {
        let message = format!("backup {} has no checksums: it is not verified", result.id);
        return Some(
            Error::new(ErrorKind::Verification, "verify.unverifiable", message).hint(format!(
                "`restore verify {} --deep` reads every file to its end",
                result.id
            )),
        );
    }
    if !result.deep {
        return None;
    }
    let unread = result
        .remarks
        .iter()
        .filter(|remark| matches!(remark, ManifestIssue::NotDeep { .. }))
        .count();
    let message = format!(
        "backup {}: {} could not be read to the end as what it is",
        result.id,
        human::count(unread, "file")
    );
    Some(
        Error::new(ErrorKind::Failed, "verify.not_deep", message)
            .hint("the findings say what is missing; install it and verify again"),
    )
}

/// The result, with what follows from it spelled out for programs.
fn value(result: &Verification) -> Value {
    let files: Vec<Value> = result
        .files
        .iter()
        .map(|(path, status)| json!({ "path": path, "status": status }))
        .collect();
    json!({
        "backup": result.id, "generation": result.generation, "verdict": result.verdict(),
        "deep": result.deep, "deeply_verified": result.deeply_verified(), "bytes": result.bytes,
        "files": files, "findings": result.findings(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(generation: &str, deep: bool, remarks: Value) -> Verification {
        let status = if generation == "a" {
            "verified"
        } else {
            "unverifiable"
        };
        serde_json::from_value(json!({
            "id": "20240215-020000", "generation": generation, "deep": deep,
            "files": [["a", status]], "remarks": remarks, "bytes": 0,
        }))
        .unwrap()
    }

    #[test]
    fn only_what_was_proven_ends_well() {
        let kind = |result: Verification| unproven(&result).map(|error| error.kind());
        let unread = json!([{"not_deep": {"path": "a", "reason": "no tool", "package": "x"}}]);
        assert_eq!(kind(result("a", false, json!([]))), None);
        assert_eq!(kind(result("a", true, json!([]))), None);
        assert_eq!(
            kind(result("a", true, unread.clone())),
            Some(ErrorKind::Failed)
        );
        assert_eq!(
            kind(result("b", false, json!([]))),
            Some(ErrorKind::Verification)
        );
        assert_eq!(kind(result("b", true, json!([]))), None);
        assert_eq!(kind(result("b", true, unread)), Some(ErrorKind::Failed));
    }
}
