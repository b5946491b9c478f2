//! How a crontab of a backup differs from the live one.

use std::collections::HashMap;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::{Crontab, text_of};
use crate::contract::{Backup, Contents, RunContext};
use crate::model::{Difference, Result};

#[async_trait]
impl Contents for Crontab {
    async fn examine(
        &self,
        backup: &Backup,
        artifact: &str,
        cancel: &CancellationToken,
    ) -> Result<()> {
        let source = backup.source(artifact)?.cancelled_by(cancel.clone());
        let text = text_of(source).await?;
        self.judged(artifact, text).map(|_| ())
    }

    async fn compare(&self, cx: &RunContext, most: usize) -> Result<Vec<Difference>> {
        let compared = async {
            let (_, text) = self.fetch(cx).await?;
            let live = self.table.read().await?.unwrap_or_default();
            Ok(vec![compare(&text, &live, most)])
        };
        compared
            .await
            .map_err(|error: crate::model::Error| error.in_component(&self.name))
    }
}

/// The lines that only one of both has, as often as it has them more.
fn compare(backup: &[u8], live: &[u8], most: usize) -> Difference {
    let mut difference = Difference::new("lines");
    let count = |text: &[u8]| u64::try_from(lines(text).count()).ok();
    difference.backup = count(backup);
    difference.live = count(live);
    for (number, line) in only_in(backup, live) {
        difference.added.add(shown(number, line), most);
    }
    for (number, line) in only_in(live, backup) {
        difference.removed.add(shown(number, line), most);
    }
    difference
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = text
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii_end);
    lines.filter(|line| !line.is_empty())
}

/// The lines of one text that another does not have, or not so often, with their numbers.
fn only_in<'a>(text: &'a [u8], other: &[u8]) -> Vec<(usize, &'a [u8])> {
    let mut known: HashMap<&[u8], usize> = HashMap::new();
    for line in lines(other) {
        *known.entry(line).or_default() += 1;
    }
    let numbered = text
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii_end);
    let mut only = Vec::new();
    for (at, line) in numbered.enumerate().filter(|(_, line)| !line.is_empty()) {
        match known.get_mut(line) {
            Some(count) if *count > 0 => *count -= 1,
            _ => only.push((at + 1, line)),
        }
    }
    only
}

/// A line as far as it holds no secret: crontabs have passwords in assignments and arguments.
fn shown(number: usize, line: &[u8]) -> String {
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace().peekable();
    let first = words.peek().copied().unwrap_or_default();
    let schedule = |word: &str| word.starts_with(|c: char| c.is_ascii_digit() || c == '*');
    let what = if first.starts_with('#') {
        "a comment".to_owned()
    } else if let Some((name, _)) = line
        .split_once('=')
        .filter(|_| !schedule(first) && !first.starts_with('@'))
    {
        format!("{} = …", name.trim())
    } else {
        let length = if first.starts_with('@') { 1 } else { 5 };
        let mut kept: Vec<&str> = words.by_ref().take(length).collect();
        let more = words.clone().count() > 1;
        match words.next() {
            Some(word) if !word.contains('=') => {
                kept.push(word);
                if more {
                    kept.push("…");
                }
            }
            Some(_) => kept.push("…"),
            None => {}
        }
        kept.join(" ")
    };
    format!("line {number}: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_told_without_what_may_be_secret() {
        let backup = b"MAILTO=root\n1 2 * * * /bin/dump -psecret db\n\n@daily PGPASSWORD=secret /bin/x\n@daily /bin/y\n# was: secret\nx\nx\n";
        let live = b"MAILTO=root\r\n1 2 * * * /bin/dump -pother db\nPASSWORD = secret\nx\n";
        let difference = compare(backup, live, 10);
        assert_eq!((difference.backup, difference.live), (Some(7), Some(4)));
        assert_eq!(
            difference.added.names,
            [
                "line 2: 1 2 * * * /bin/dump …",
                "line 4: @daily …",
                "line 5: @daily /bin/y",
                "line 6: a comment",
                "line 8: x"
            ]
        );
        assert_eq!(
            difference.removed.names,
            ["line 2: 1 2 * * * /bin/dump …", "line 3: PASSWORD = …"]
        );
        assert!(compare(backup, backup, 10).is_empty());
        let few = compare(backup, b"", 2);
        assert_eq!((few.added.count, few.added.names.len()), (7, 2));
    }
}
