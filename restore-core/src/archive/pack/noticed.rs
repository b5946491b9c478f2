//! What is noticed of a live tree while it is packed.

use crate::model::Finding;

/// How many are named of each kind.
const NAMED: usize = 5;
/// A name that is longer is shown in part.
const LONG: usize = 200;

/// Names, the first few, and how many there are.
#[derive(Debug, Default)]
pub(super) struct NameSample {
    first: Vec<String>,
    count: u64,
}

impl NameSample {
    pub(super) fn add(&mut self, name: &[u8]) {
        self.count += 1;
        if self.first.len() < NAMED {
            let text = String::from_utf8_lossy(name);
            self.first.push(match text.char_indices().nth(LONG) {
                Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
                None => text.into_owned(),
            });
        }
    }

    fn finding(&self, make: fn(&str, &str, String) -> Finding, kind: &Kind) -> Option<Finding> {
        if self.count == 0 {
            return None;
        }
        let verb = if self.count == 1 { kind.one } else { kind.many };
        let more = match self.count.saturating_sub(self.first.len() as u64) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let text = format!("{} {verb}: {}{more}", self.count, self.first.join(", "));
        let finding = make(kind.code, kind.label, text);
        Some(match kind.hint {
            "" => finding,
            hint => finding.hint(hint),
        })
    }
}

struct Kind<'a> {
    code: &'a str,
    label: &'a str,
    one: &'a str,
    many: &'a str,
    hint: &'a str,
}

/// Everything noticed of one tree.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    /// Files that were written to while they were read.
    pub(super) changed: NameSample,
    /// Files that only became longer, as logs do.
    pub(super) grown: NameSample,
    /// What was there when the directory was listed and not any more when it was to be read.
    pub(super) vanished: NameSample,
    /// What lies too deep for any archive.
    pub(super) deep: NameSample,
    pub(super) sockets: NameSample,
    pub(super) devices: NameSample,
    /// What has extended attributes that no archive of ours holds.
    pub(super) attributes: NameSample,
    /// What has a label of SELinux.
    pub(super) labels: NameSample,
    /// What a restore would refuse: the first refusal in words, and how many there are.
    refused: Vec<(String, Option<String>)>,
    refusals: u64,
}

impl Noticed {
    pub(super) fn refusal(&mut self, error: &crate::model::Error) {
        self.refusals += 1;
        if self.refused.is_empty() {
            let hint = error.hint_text().map(str::to_owned);
            self.refused.push((error.message().to_owned(), hint));
        }
    }

    /// In words, the worst first; `label` is the archive's.
    pub(super) fn findings(&self, label: &str) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (message, hint) in &self.refused {
            // Which archive it is stands before the finding already.
            let message = message
                .strip_prefix(label)
                .and_then(|rest| rest.strip_prefix(": "))
                .unwrap_or(message);
            let others = match self.refusals {
                0 | 1 => String::new(),
                many => format!(" (and {} more)", many - 1),
            };
            let finding = Finding::warning(
                "pack.restore_refuses",
                label,
                format!("a restore would refuse this archive: {message}{others}"),
            );
            findings.push(match hint {
                Some(hint) => finding.hint(hint.clone()),
                None => finding,
            });
        }
        let kind = |code, one, many, hint| Kind {
            code,
            label,
            one,
            many,
            hint,
        };
        let warning = |code: &str, label: &str, text: String| Finding::warning(code, label, text);
        let info = |code: &str, label: &str, text: String| Finding::info(code, label, text);
        findings.extend(self.changed.finding(
            warning,
            &kind(
                "pack.changed",
                "file changed while it was read and may hold parts of two states",
                "files changed while they were read and may hold parts of two states",
                "back up while nothing writes to them, or back them up by their own means",
            ),
        ));
        findings.extend(self.deep.finding(
            warning,
            &kind(
                "pack.too_deep",
                "entry was left out, whose path is longer than 4095 bytes, with all below it",
                "entries were left out, whose paths are longer than 4095 bytes, with all below them",
                "no archive holds such names: see who makes directories within directories without end",
            ),
        ));
        findings.extend(self.devices.finding(
            warning,
            &kind(
                "pack.devices",
                "device was left out",
                "devices were left out",
                "no restore makes devices; whatever needs them has to",
            ),
        ));
        findings.extend(self.vanished.finding(
            info,
            &kind(
                "pack.vanished",
                "entry vanished before it could be read",
                "entries vanished before they could be read",
                "",
            ),
        ));
        findings.extend(self.grown.finding(
            info,
            &kind(
                "pack.grown",
                "file grew while it was read; the backup has what was there at first",
                "files grew while they were read; the backup has what was there at first",
                "",
            ),
        ));
        findings.extend(self.attributes.finding(
            info,
            &kind(
                "pack.attributes",
                "entry has extended attributes of this system that are not backed up",
                "entries have extended attributes of this system that are not backed up",
                "",
            ),
        ));
        findings.extend(self.labels.finding(
            info,
            &kind(
                "pack.labels",
                "entry has a label of SELinux, which is not backed up",
                "entries have labels of SELinux, which are not backed up",
                "after a restore `restorecon -R` labels them as the policy of the machine says",
            ),
        ));
        findings.extend(self.sockets.finding(
            info,
            &kind(
                "pack.sockets",
                "socket was left out",
                "sockets were left out",
                "",
            ),
        ));
        findings
    }
}
