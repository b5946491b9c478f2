//! What a server's log says about data that it did not load.

use super::scratch::{FORBIDDEN, SCRIPTS};
use crate::model::{Error, ErrorKind};

/// A line of the log that tells why, and what it means.
struct Cause {
    says: &'static str,
    kind: ErrorKind,
    code: &'static str,
    hint: &'static str,
}

const DAMAGED: &str = "the file is damaged: verify the backup, use another one, or the other kind of file (prefer = \"rdb\" or \"aof\")";

const CAUSES: &[Cause] = &[
    Cause {
        says: "Can't handle RDB format version",
        kind: ErrorKind::Verification,
        code: "redis.newer_rdb",
        hint: "a newer Redis wrote it: upgrade the server first, or restore from an AOF",
    },
    Cause {
        says: "module data I can't load",
        kind: ErrorKind::Verification,
        code: "redis.module_missing",
        hint: "load the same modules in the server, and where the plan has a finding redis.modules_untrusted, name them as `modules` of the component; then try again",
    },
    Cause {
        says: "configured to handle more than",
        kind: ErrorKind::Preflight,
        code: "redis.databases",
        hint: "raise `databases` in the server's configuration, restart it, then try again",
    },
    Cause {
        says: "Unexpected end of file reading the append only file",
        kind: ErrorKind::Verification,
        code: TRUNCATED,
        hint: DAMAGED,
    },
    Cause {
        says: "Wrong RDB checksum",
        kind: ErrorKind::Verification,
        code: "redis.damaged",
        hint: DAMAGED,
    },
    Cause {
        says: "Internal error in RDB reading",
        kind: ErrorKind::Verification,
        code: "redis.damaged",
        hint: DAMAGED,
    },
    Cause {
        says: "Wrong signature trying to load DB",
        kind: ErrorKind::Verification,
        code: "redis.damaged",
        hint: DAMAGED,
    },
    Cause {
        says: "Bad file format reading the append only file",
        kind: ErrorKind::Verification,
        code: "redis.damaged",
        hint: DAMAGED,
    },
    Cause {
        says: "Unknown command",
        kind: ErrorKind::Verification,
        code: "redis.unknown_command",
        hint: "a newer Redis wrote it: upgrade the server first, or restore from the RDB",
    },
    Cause {
        says: "Short read or OOM",
        kind: ErrorKind::Verification,
        code: "redis.damaged",
        hint: DAMAGED,
    },
    Cause {
        says: "reading the append only file",
        kind: ErrorKind::Verification,
        code: "redis.damaged",
        hint: DAMAGED,
    },
    Cause {
        // Some damage is only noticed by an assertion.
        says: "REDIS BUG REPORT",
        kind: ErrorKind::Verification,
        code: "redis.damaged",
        hint: DAMAGED,
    },
    Cause {
        says: "AOF manifest",
        kind: ErrorKind::Verification,
        code: "redis.damaged",
        hint: DAMAGED,
    },
];

/// Lines that say more than the one that tells the cause.
const DETAILS: [&str; 4] = [
    "Wrong RDB checksum",
    "Guru Meditation",
    "ASSERTION FAILED",
    "crashed by signal",
];

/// The code of an AOF that ends in the middle of a command, as one that was copied from a
/// server at work may.
pub(super) const TRUNCATED: &str = "redis.aof_truncated";

/// Why a scratch server ended, as far as anything is decided by it: the reason of the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The AOF ends in the middle of a command.
    Truncated,
    /// The data is at fault in another way.
    Otherwise,
    /// No line tells that the data is at fault.
    Unexplained,
}

/// Why a scratch server of `version` ended instead of loading `label`, with its own words.
pub(super) fn explain(label: &str, version: &str, log: &str) -> Error {
    let lines: Vec<&str> = log.lines().map(bare).filter(|line| told(line)).collect();
    if let Some((line, command)) = lines.iter().find_map(|line| forbidden(line)) {
        let error = Error::new(
            ErrorKind::Verification,
            "redis.forbidden_command",
            format!("{label} holds the command {command}, which no server writes into it: {line}"),
        );
        if FORBIDDEN.contains(&(command, SCRIPTS)) {
            return error.hint("a server before 7.0 writes that, and no later one: if such a server has, load the file into one and have it save a dump (`BGSAVE`); else somebody has changed it: find out who can write to the store");
        }
        return error.hint("somebody has changed it: choose another backup, and find out who can write to the store");
    }
    let cause = CAUSES
        .iter()
        .find(|cause| lines.iter().any(|line| line.contains(cause.says)));
    let words = match cause {
        Some(cause) => {
            let detail = |line: &&&str| DETAILS.iter().any(|detail| line.contains(detail));
            let telling = lines.iter().find(detail);
            let line = telling.or_else(|| lines.iter().find(|line| line.contains(cause.says)));
            line.copied().unwrap_or_default().to_owned()
        }
        None => {
            let last: Vec<&str> = lines.iter().rev().take(4).rev().copied().collect();
            last.join("; ")
        }
    };
    let words = if words.is_empty() {
        "it ended and printed nothing".to_owned()
    } else {
        words
    };
    match cause {
        Some(cause) => Error::new(
            cause.kind,
            cause.code,
            format!("{label} does not load into Redis {version}: {words}"),
        )
        .because(match cause.code {
            TRUNCATED => Ended::Truncated,
            _ => Ended::Otherwise,
        })
        .hint(cause.hint),
        None => Error::new(
            ErrorKind::Failed,
            "redis.scratch_failed",
            format!("the scratch server for {label} did not start: {words}"),
        )
        .because(Ended::Unexplained)
        .hint("mend what it says, then try again; live data is untouched"),
    }
}

/// The command of a line by which a scratch server refuses one that it was not given.
fn forbidden(line: &str) -> Option<(&str, &'static str)> {
    let (_, rest) = line.split_once("Unknown command '")?;
    let (found, _) = rest.split_once('\'')?;
    let mut commands = FORBIDDEN
        .iter()
        .map(|(command, _)| *command)
        .chain(["SHUTDOWN"]);
    let command = commands.find(|command| command.eq_ignore_ascii_case(found));
    command.map(|command| (line, command))
}

/// A line without its process id, role and time.
fn bare(line: &str) -> &str {
    line.split_once(" # ")
        .or_else(|| line.split_once(" * "))
        .map_or(line, |(_, said)| said)
        .trim()
}

/// Whether a line may tell why a server ended: neither its greeting nor the report of a crash.
fn told(line: &str) -> bool {
    const NOISE: &[&str] = &[
        "oO0OoO0OoO0Oo",
        "Redis version=",
        "Configuration loaded",
        "monotonic clock",
        "Running mode=",
        "Server initialized",
        "WARNING",
        "Loading RDB produced",
        "RDB age",
        "RDB memory usage",
        "Reading RDB base file",
    ];
    !line.is_empty()
        && !line.starts_with(['[', '-'])
        && !NOISE.iter().any(|noise| line.contains(noise))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(log: &str) -> Error {
        explain("redis/x.rdb", "7.0.15", log)
    }

    #[test]
    fn a_newer_format_is_named() {
        let error = of(
            "1:C 22 Nov 2026 18:55:05.475 # oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo\n1:M 22 Nov 2026 18:55:05.475 # Can't handle RDB format version 99\n1:M 22 Nov 2026 18:55:05.475 # Fatal error loading the DB: Invalid argument. Exiting.\n",
        );
        assert_eq!(
            error.to_string(),
            "redis/x.rdb does not load into Redis 7.0.15: Can't handle RDB format version 99"
        );
        assert_eq!(error.code(), "redis.newer_rdb");
        assert_eq!(error.kind(), ErrorKind::Verification);
    }

    #[test]
    fn a_changed_byte_is_named() {
        let error = of(
            "1:M 22 Nov 2026 18:55:05.424 # Wrong RDB checksum expected: (5f) but got (83). Aborting now.\n1:M 22 Nov 2026 18:55:05.424 # Internal error in RDB reading offset 0, function at rdb.c:3225 -> RDB CRC error\n[offset 0] Checking RDB file dump.rdb\n",
        );
        assert_eq!(error.code(), "redis.damaged");
        assert!(error.message().contains("Wrong RDB checksum"));
    }

    #[test]
    fn a_crash_while_loading_is_the_datas_fault() {
        let error = of(
            "=== REDIS BUG REPORT START: Cut & paste starting from here ===\n1:M 22 Nov 2026 19:28:23.385 # ------------------------------------------------\n1:M 22 Nov 2026 19:28:23.385 # Guru Meditation: Duplicated key found in RDB file #rdb.c:3184\n\n------ STACK TRACE ------\nredis-server(main+0x296)[0x55a18473e196]\n",
        );
        assert_eq!(error.code(), "redis.damaged");
        assert!(
            error
                .message()
                .ends_with("Guru Meditation: Duplicated key found in RDB file #rdb.c:3184")
        );
        // Only the end of a long report was kept.
        let error = of(
            "sanitize-dump-payload yes\n=== REDIS BUG REPORT END. Make sure to include from START to END. ===\n",
        );
        assert_eq!(error.code(), "redis.damaged");
    }

    #[test]
    fn a_command_that_no_server_writes_is_named() {
        for (command, words) in [
            ("CONFIG", "choose another backup"),
            ("eval", "a server before 7.0 writes that"),
        ] {
            let error = of(&format!(
                "1:M 1 Jan 2026 00:00:00.000 # Unknown command '{command}' reading the append only file\n"
            ));
            assert_eq!(error.code(), "redis.forbidden_command", "{error}");
            let name = command.to_uppercase();
            assert!(
                error
                    .message()
                    .contains(&format!("the command {name}, which"))
            );
            assert!(error.hint_text().unwrap().contains(words), "{error}");
        }
    }

    #[test]
    fn a_module_is_named() {
        let error = of(
            "1:M 1 Jan 2026 00:00:00.000 # The RDB file contains module data I can't load: no matching module type 'ReJSON-RL'",
        );
        assert_eq!(error.code(), "redis.module_missing");
    }

    #[test]
    fn other_ends_are_not_blamed_on_the_data() {
        let error = of(
            "*** FATAL CONFIG FILE ERROR (Redis 7.0.15) ***\nBad directive or wrong number of arguments\n",
        );
        assert_eq!(error.kind(), ErrorKind::Failed);
        assert!(error.message().contains("Bad directive"));
        assert!(of("").message().contains("printed nothing"));
    }
}
