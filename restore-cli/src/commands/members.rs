//! `restore show ID --files [PATTERN]`.

use restore_core::backup::BackupMember;
use restore_core::site::MembersRequest;
use restore_core::{ErrorKind, Result};
use serde_json::json;

use super::Context;
use crate::args::ShowArgs;
use crate::printer::{Answer, Stream};
use crate::{exit, render};

/// Lists what is in a backup's artifacts, as it is read: there may be millions of them.
pub(super) async fn members(
    cx: &Context,
    args: &ShowArgs,
    pattern: Option<&str>,
) -> Result<Answer> {
    let site = cx.site().await?;
    let backup = super::run::bring(cx, &site, &args.backup.id).await?;
    let mut request = MembersRequest::all().pattern(pattern.map(str::to_owned));
    if !args.only.is_empty() {
        request = request.only(args.only.iter().map(|name| name.trim()));
    }
    let stop = cx.signals.token().child_token();
    let options = cx.reading().cancelled_by(stop.clone());
    let mut stream = Stream::begin(cx.json, "members");
    let mut artifact: Option<String> = None;
    let tell = |member: BackupMember| {
        match cx.json {
            true => stream.item(&member),
            false => {
                if artifact.as_ref() != Some(&member.artifact) {
                    stream.text(&render::member_heading(&member, artifact.is_none()));
                    artifact = Some(member.artifact.clone());
                }
                stream.text(&render::member(&member));
            }
        }
        // Whoever read has read enough.
        if stream.is_broken() {
            stop.cancel();
        }
    };
    let read = site.members(&backup, &request, &options, tell).await;
    stream.flush();
    let report = match read {
        Err(error) if error.kind() == ErrorKind::Interrupted && stream.is_broken() => {
            Default::default()
        }
        read => read?,
    };
    let error = report.refusal();
    let code = error.as_ref().map_or(exit::DONE, exit::of_error);
    let value = json!({
        "backup": backup.id(), "told": report.members, "total": report.total,
        "findings": report.findings,
    });
    let answer = Answer::new("members", &value, render::members(&report, pattern))?;
    Ok(answer.failed(error, code).streamed(stream))
}
