//! Which entries of a dump are left out: what the site names, and what cannot or must not be made in
//! a database that stands beside another.

/// What is left out, by the texts of entries: "KIND SCHEMA NAME" as `pg_restore --list` shows them,
/// with `-` where there is no schema.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Skip {
    /// What the site names; `*` stands for anything.
    pub(in super::super) patterns: Vec<String>,
    /// Also what no staged database should have: subscriptions, which would take the slots of the
    /// live one's, and what is about the database itself.
    pub(in super::super) unfit: bool,
    /// Filling materialized views, which is done when everything else is there.
    pub(in super::super) views: bool,
    /// Comments on extensions, which belong to whoever made these.
    pub(in super::super) extension_comments: bool,
}

/// How the text of an entry begins that fills a materialized view.
pub(in super::super) const VIEW_DATA: &str = "MATERIALIZED VIEW DATA ";

/// How that of a subscription begins.
pub(in super::super) const SUBSCRIPTION: &str = "SUBSCRIPTION ";

/// How many words the name of a kind may have: "SUBSCRIPTION TABLE", "FOREIGN DATA WRAPPER".
const WORDS: usize = 5;

/// Why an entry is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Out {
    /// The site names it: the pattern of this number.
    Named(usize),
    /// It cannot be in a staged database, or is made by us.
    Ours,
    /// It is a subscription, which would take the slot of the live one.
    Subscription,
    /// It fills a materialized view.
    View,
}

impl Skip {
    /// Whether and why the entry of this text is left out.
    pub(in super::super) fn of(&self, text: &str) -> Option<Out> {
        if let Some(at) = self.named(text) {
            return Some(Out::Named(at));
        }
        if let Some(at) = about(text).find_map(|object| self.named(&object)) {
            return Some(Out::Named(at));
        }
        if self.extension_comments && text.starts_with("COMMENT - EXTENSION ") {
            return Some(Out::Ours);
        }
        if self.views && text.starts_with(VIEW_DATA) {
            return Some(Out::View);
        }
        if !self.unfit {
            return None;
        }
        if text.starts_with(SUBSCRIPTION) {
            return Some(Out::Subscription);
        }
        let about = ["COMMENT - SUBSCRIPTION ", "SECURITY LABEL - SUBSCRIPTION "];
        let about = about.iter().any(|start| text.starts_with(start));
        about.then_some(Out::Ours)
    }

    /// The pattern that fits.
    pub(in super::super) fn named(&self, text: &str) -> Option<usize> {
        self.patterns
            .iter()
            .position(|pattern| fits(pattern.trim(), text))
    }
}

/// The texts of what a comment, a privilege or a label may be about: "COMMENT - EVENT TRIGGER x" is
/// about "EVENT TRIGGER - x".
fn about(text: &str) -> impl Iterator<Item = String> {
    let rest = ["COMMENT ", "ACL ", "SECURITY LABEL "]
        .iter()
        .find_map(|kind| text.strip_prefix(kind));
    let (schema, object) = rest
        .and_then(|rest| rest.split_once(' '))
        .unwrap_or_default();
    let is_kind = |kind: &str| {
        kind.bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte == b' ')
    };
    let kinds = object.match_indices(' ').take(WORDS);
    kinds
        .map(move |(at, _)| object.split_at(at))
        .take_while(move |(kind, _)| is_kind(kind))
        .map(move |(kind, name)| format!("{kind} {schema}{name}"))
}

/// Whether a text is as a pattern says, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_left_out_by_name_and_by_kind() {
        let skip = Skip {
            patterns: [
                "EXTENSION - pg_cron",
                "* cron *",
                "TABLE DATA public log_*_old",
                "EVENT TRIGGER - *",
            ]
            .map(str::to_owned)
            .to_vec(),
            unfit: true,
            views: true,
            extension_comments: false,
        };
        for (kind, schema, name, out) in [
            ("EXTENSION", "-", "pg_cron", Some(Out::Named(0))),
            ("COMMENT", "-", "EXTENSION pg_cron", Some(Out::Named(0))),
            ("COMMENT", "-", "EXTENSION citext", None),
            ("COMMENT", "-", "EVENT TRIGGER e x", Some(Out::Named(3))),
            ("ACL", "public", "TABLE t", None),
            ("TABLE DATA", "cron", "job", Some(Out::Named(1))),
            ("SEQUENCE SET", "cron", "jobid_seq", Some(Out::Named(1))),
            ("TABLE DATA", "public", "log_7_old", Some(Out::Named(2))),
            ("TABLE DATA", "public", "log_7_olden", None),
            ("TABLE", "public", "cron", None),
            ("SUBSCRIPTION", "-", "s", Some(Out::Subscription)),
            ("COMMENT", "-", "SUBSCRIPTION s", Some(Out::Ours)),
            ("MATERIALIZED VIEW DATA", "public", "m", Some(Out::View)),
            ("MATERIALIZED VIEW", "public", "m", None),
        ] {
            let text = format!("{kind} {schema} {name}");
            assert_eq!(skip.of(&text), out, "{text}");
        }
    }
}
