//! What is in a backup's artifacts, a line each, and what was brought out of them.

use restore_core::backup::{BackupMember, MemberKind};
use restore_core::site::{GetReport, MembersReport};

use super::findings;
use crate::human;

/// The artifact that the lines below are of.
pub(crate) fn member_heading(member: &BackupMember, first: bool) -> String {
    let above = if first { "" } else { "\n" };
    format!("{above}{}\n", human::quoted(&member.artifact))
}

/// One member of an artifact.
pub(crate) fn member(member: &BackupMember) -> String {
    let named = |name: &str| human::quoted(name).into_owned();
    match member.kind {
        MemberKind::Table => {
            let rows = member
                .rows
                .map_or_else(|| "-".to_owned(), |rows| human::number(rows, "row"));
            return format!("  table  {rows:>16}  {}\n", named(&member.name));
        }
        MemberKind::Artifact => {
            let size = member.size.map_or_else(|| "-".to_owned(), human::bytes);
            return format!("  the artifact itself, {size}\n");
        }
        _ => {}
    }
    let mode = mode(member.kind, member.mode.unwrap_or(0));
    let (user, group) = member.owner.unwrap_or_default();
    let owner = format!("{user}/{group}");
    let size = member.size.map_or_else(|| "-".to_owned(), human::bytes);
    let modified = member
        .modified
        .map_or_else(String::new, |time| human::moment(&time.to_string()));
    let name = named(member.path.as_deref().unwrap_or(&member.name));
    let target = match (&member.target, member.kind) {
        (Some(target), MemberKind::HardLink) => format!(" = {}", named(target)),
        (Some(target), _) => format!(" -> {}", named(target)),
        (None, _) => String::new(),
    };
    let nobody = match member.path {
        Some(_) => "",
        None => "  (restored by no component)",
    };
    format!("  {mode}  {owner:>11}  {size:>10}  {modified:19}  {name}{target}{nobody}\n")
}

/// As `ls -l` writes it.
fn mode(kind: MemberKind, mode: u32) -> String {
    let first = match kind {
        MemberKind::Directory => 'd',
        MemberKind::Symlink => 'l',
        MemberKind::HardLink => 'h',
        MemberKind::Fifo => 'p',
        MemberKind::Device => 'b',
        MemberKind::File => '-',
        _ => '?',
    };
    let mut out = String::from(first);
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        out.push(if bits & 4 == 0 { '-' } else { 'r' });
        out.push(if bits & 2 == 0 { '-' } else { 'w' });
        out.push(match (mode & special != 0, bits & 1 != 0) {
            (false, false) => '-',
            (false, true) => 'x',
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
        });
    }
    out
}

/// What stands below all members.
pub(crate) fn members(report: &MembersReport, pattern: Option<&str>) -> String {
    let mut out = String::new();
    if report.members == 0 {
        out += &match pattern {
            Some(pattern) => format!(
                "Nothing in it is called {}: there are {} other things.\n",
                human::quoted(pattern),
                report.total
            ),
            None => "There is nothing in it.\n".to_owned(),
        };
    }
    out + &findings("Findings:", &report.findings)
}

/// What was brought out of a backup.
pub(crate) fn got(report: &GetReport) -> String {
    let mut out = format!(
        "Brought out of backup {} into {}:\n",
        report.backup,
        human::quoted(&report.to.display().to_string())
    );
    for taken in &report.taken {
        let paths: Vec<String> = match taken.paths.is_empty() {
            true => vec![taken.at.clone()],
            false => {
                let below = |path: &String| format!("{}/{path}", taken.at);
                taken.paths.iter().map(below).collect()
            }
        };
        for path in paths {
            let from = match path == taken.artifact {
                true => "as it is".to_owned(),
                false => format!("from {}", human::quoted(&taken.artifact)),
            };
            out += &format!("  {}  {from}\n", human::quoted(&path));
        }
    }
    let verified = match report.verified {
        true => "verified",
        false => "NOT verified",
    };
    out += &format!(
        "{}, {}, {}: {}, {verified}.\n",
        human::number(report.files, "file"),
        human::number_of(report.directories, "directory", "directories"),
        human::number(report.links, "link"),
        human::bytes(report.bytes),
    );
    out + &findings("Findings:", &report.findings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_cannot_pass_for_lines_of_ours() {
        let mut value = json!({
            "artifact": "volumes/a.tar.gz", "component": "a", "path": "a/x\n  y\u{1b}[2J",
            "name": "./x", "kind": "file", "size": 2048, "target": null, "mode": 0o4755,
            "owner": [0, 33], "modified": "2024-02-15T02:00:00.000Z", "rows": null,
        });
        let line =
            |value: &serde_json::Value| member(&serde_json::from_value(value.clone()).unwrap());
        assert_eq!(
            line(&value),
            "  -rwsr-xr-x         0/33     2.0 KiB  2024-02-15 02:00:00  \"a/x\\n  y\\u{1b}[2J\"\n"
        );
        value["kind"] = "symlink".into();
        value["path"] = "a/current".into();
        value["target"] = "/srv/a -> b".into();
        value["size"] = json!(null);
        let text = line(&value);
        assert!(text.ends_with("  a/current -> \"/srv/a -> b\"\n"), "{text}");
        value["path"] = json!(null);
        value["target"] = json!(null);
        value["kind"] = "directory".into();
        let text = line(&value);
        assert!(
            text.ends_with("  ./x  (restored by no component)\n"),
            "{text}"
        );
        value["kind"] = "table".into();
        value["rows"] = json!(3);
        assert_eq!(line(&value), "  table            3 rows  ./x\n");
    }
}
