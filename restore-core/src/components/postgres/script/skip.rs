//! Which entries of a dump are left out: what the site names, and what cannot or must not be made in
//! a database that stands beside another.

use crate::model::glob;

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
    /// Rows of all tables but these ("TABLE DATA public orders"), and what rows of others are needed
    /// for; `None`: nothing of that.
    pub(in super::super) only_rows: Option<Vec<String>>,
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
        if self
            .only_rows
            .as_ref()
            .is_some_and(|only| is_of_others(only, text))
        {
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

    /// The entry of rows that are wanted which this one is. `rest` may have more behind it, as its owner is
    /// in a listing, whose name may have spaces.
    pub(in super::super) fn wanted(&self, rest: &str) -> Option<&str> {
        let only = self.only_rows.iter().flatten();
        let is_it = only.filter(|entry| {
            let more = rest.strip_prefix(entry.as_str());
            more.is_some_and(|more| more.is_empty() || more.starts_with(' '))
        });
        // A table's name may have spaces too.
        is_it.max_by_key(|entry| entry.len()).map(String::as_str)
    }

    /// The pattern that fits.
    pub(in super::super) fn named(&self, text: &str) -> Option<usize> {
        self.patterns
            .iter()
            .position(|pattern| glob::matches(pattern.trim().as_bytes(), text.as_bytes(), true))
    }
}

/// Whether an entry is rows of other tables, or needs such rows, or acts on its own.
fn is_of_others(only: &[String], text: &str) -> bool {
    // Comments, privileges and labels may be about any of these, and are not copied.
    const OTHERS: [&str; 9] = [
        VIEW_DATA,
        "FK CONSTRAINT ",
        "EVENT TRIGGER ",
        "PUBLICATION ",
        "BLOB",
        "COMMENT ",
        "ACL ",
        "DEFAULT ACL ",
        "SECURITY LABEL ",
    ];
    let others = OTHERS.iter().any(|start| text.starts_with(start));
    others || (text.starts_with("TABLE DATA ") && !only.iter().any(|it| it == text))
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
            only_rows: None,
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

    #[test]
    fn rows_of_some_tables_come_without_those_of_others() {
        let skip = Skip {
            only_rows: Some(vec!["TABLE DATA public orders".to_owned()]),
            ..Skip::default()
        };
        for (text, out) in [
            ("TABLE DATA public orders", false),
            ("TABLE DATA public users", true),
            ("TABLE public users", false),
            ("INDEX public users_email", false),
            ("SEQUENCE SET public orders_id_seq", false),
            ("FK CONSTRAINT public orders orders_user_id_fkey", true),
            ("MATERIALIZED VIEW DATA public m", true),
            ("MATERIALIZED VIEW public m", false),
            ("BLOBS - BLOBS", true),
            ("EVENT TRIGGER - e", true),
            ("COMMENT - LARGE OBJECT 4711", true),
            (
                "COMMENT public CONSTRAINT orders_user_id_fkey ON orders",
                true,
            ),
            ("ACL - LARGE OBJECT 4711", true),
        ] {
            assert_eq!(skip.of(text), out.then_some(Out::Ours), "{text}");
        }
        let orders = Some("TABLE DATA public orders");
        assert_eq!(skip.wanted("TABLE DATA public orders shop owner"), orders);
        assert_eq!(skip.wanted("TABLE DATA public orders"), orders);
        assert_eq!(skip.wanted("TABLE DATA public orders_old app"), None);
    }
}
