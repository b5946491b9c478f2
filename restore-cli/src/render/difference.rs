//! What a restore would change.

use restore_core::component::{Changes, Difference};
use restore_core::site::{ComponentDifference, SiteDifference};

use crate::human;

/// A heading and a paragraph for each component.
pub(crate) fn difference(found: &SiteDifference) -> String {
    let mut out = "\nWhat would change:\n".to_owned();
    if found.components.is_empty() {
        out += "  nothing: the backup has nothing for what was asked for\n";
    }
    for component in &found.components {
        out += &of_component(component);
    }
    out
}

fn of_component(found: &ComponentDifference) -> String {
    let mut out = String::new();
    if let Some(unknown) = &found.unknown {
        out += &format!("  {}: not compared: {}\n", found.name, unknown.message);
        if let Some(hint) = &unknown.hint {
            out += &format!("    hint: {hint}\n");
        }
    }
    for difference in &found.differences {
        out += &format!("  {}: {}\n", found.name, counts(difference));
        for (mark, changes) in [
            ('+', &difference.added),
            ('~', &difference.changed),
            ('-', &difference.removed),
        ] {
            out += &names(mark, changes);
        }
    }
    out
}

/// `files: 3 added, 1 changed, 2 removed (12 in the backup, 11 live)`.
fn counts(found: &Difference) -> String {
    let about = if found.estimated { "about " } else { "" };
    let backup = found.backup.map(|count| format!("{count} in the backup"));
    let live = found.live.map(|count| format!("{about}{count} live"));
    let both: Vec<String> = backup.into_iter().chain(live).collect();
    let both = both.join(", ");
    if found.counted_only {
        return format!("{}: {both}", found.of);
    }
    let changes = [
        (&found.added, "added"),
        (&found.changed, "changed"),
        (&found.removed, "removed"),
    ];
    let changes: Vec<String> = changes
        .iter()
        .filter(|(changes, _)| changes.count > 0)
        .map(|(changes, word)| format!("{} {word}", changes.count))
        .collect();
    let known = found.backup.is_some() && found.live.is_some();
    if changes.is_empty() && (found.estimated || !known) {
        return format!("{}: {both}", found.of);
    }
    let changes = match changes.is_empty() {
        true => "nothing changes".to_owned(),
        false => changes.join(", "),
    };
    match both.is_empty() {
        true => format!("{}: {changes}", found.of),
        false => format!("{}: {changes} ({both})", found.of),
    }
}

fn names(mark: char, changes: &Changes) -> String {
    let mut out = String::new();
    for name in &changes.names {
        out += &format!("    {mark} {}\n", human::quoted(name));
    }
    let told = u64::try_from(changes.names.len()).unwrap_or(u64::MAX);
    match changes.count.saturating_sub(told) {
        0 => out,
        more => format!("{out}    {mark} … and {more} more\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counts_and_the_first_names() {
        let none = json!({"count": 0, "names": []});
        let value = json!({
            "backup": "20240215-020000",
            "components": [
                {"name": "uploads", "unknown": null, "differences": [{
                    "of": "files", "backup": 12, "live": 11, "estimated": false, "counted_only": false,
                    "added": {"count": 3, "names": ["a\nb"]}, "changed": none,
                    "removed": {"count": 1, "names": ["stray"]},
                }]},
                {"name": "redis", "unknown": null, "differences": [{
                    "of": "keys", "backup": 5, "live": 7, "estimated": false, "counted_only": true,
                    "added": none, "changed": none, "removed": none,
                }]},
                {"name": "images", "differences": [], "unknown": {
                    "severity": "info", "code": "diff.unknown", "subject": "images",
                    "message": "nothing compares it",
                }},
            ],
        });
        assert_eq!(
            difference(&serde_json::from_value(value).unwrap()),
            "
What would change:
  uploads: files: 3 added, 1 removed (12 in the backup, 11 live)
    + \"a\\nb\"
    + … and 2 more
    - stray
  redis: keys: 5 in the backup, 7 live
  images: not compared: nothing compares it
"
        );
    }
}
