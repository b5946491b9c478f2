//! What is wrong with a configuration.

use restore_core::site::ConfigCheck;

use crate::human;
use crate::progress::finding_line;

/// Each finding behind its file and line, as compilers write them; then what they come to.
pub(crate) fn config_check(check: &ConfigCheck) -> String {
    let file = check.file.display();
    let mut out = String::new();
    for found in &check.findings {
        out += &match found.line {
            Some(line) => format!("{file}:{line}:\n"),
            None => format!("{file}:\n"),
        };
        for line in finding_line(&found.finding).lines() {
            out += &format!("  {line}\n");
        }
    }
    if check.sound {
        let warnings = check.findings.len();
        out += &match warnings {
            0 => format!("{file} is sound.\n"),
            _ => format!(
                "{file} is sound, with {}.\n",
                human::count(warnings, "warning")
            ),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_finding_has_its_line() {
        let mut value = json!({"file": "/etc/restore.toml", "sound": false, "findings": [
            {"line": 12, "severity": "error", "code": "config.unknown_key",
             "subject": "[components.redis]", "message": "unknown key `sevice`",
             "hint": "did you mean `service`?"},
            {"line": null, "severity": "warning", "code": "a.b", "subject": "the file", "message": "m"},
        ]});
        let shown = |value: &serde_json::Value| {
            config_check(&serde_json::from_value(value.clone()).unwrap())
        };
        assert_eq!(
            shown(&value),
            "\
/etc/restore.toml:12:
  error: [components.redis]: unknown key `sevice`
    hint: did you mean `service`?
/etc/restore.toml:
  warning: the file: m
"
        );
        value["sound"] = true.into();
        assert!(shown(&value).ends_with("/etc/restore.toml is sound, with 2 warnings.\n"));
        value["findings"] = json!([]);
        assert_eq!(shown(&value), "/etc/restore.toml is sound.\n");
    }
}
