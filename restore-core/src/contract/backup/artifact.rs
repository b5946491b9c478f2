//! What a file of a backup is, told from its first bytes, then from its name.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// How to read a file to its end as what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Artifact {
    /// An archive of `pg_dump`, custom or tar.
    Dump,
    /// SQL of `pg_dump` or `pg_dumpall`.
    Sql,
    /// A snapshot of Redis.
    Rdb,
    /// A single-file log of Redis, which may begin with a snapshot.
    Aof,
    /// A snapshot of Valkey's own.
    ValkeyRdb,
    /// A log that begins with such a snapshot.
    ValkeyAof,
    /// A tar archive, plain or compressed.
    Archive,
    /// Anything else that is compressed.
    Packed,
    /// JSON.
    Json,
    /// Text, or nothing known: any bytes will do.
    Plain,
    /// Encrypted or compressed with something that is not read here.
    Opaque,
}

const HEAD: u64 = 4096;
const TAIL: u64 = 4096;
const CLUSTER_HEAD: &str = "-- PostgreSQL database cluster dump";
const DATABASE_HEAD: &str = "-- PostgreSQL database dump";

/// What the file is; `label` is its path inside the backup.
pub(crate) fn detect(file: File, label: &str) -> std::io::Result<Artifact> {
    let mut head = Vec::new();
    file.take(HEAD).read_to_end(&mut head)?;
    Ok(tell(&head, label))
}

fn tell(head: &[u8], label: &str) -> Artifact {
    let ends = |end: &str| label.ends_with(end);
    let archive = crate::archive::ARCHIVES.iter().any(|end| ends(end));
    let packed = crate::archive::is_compressed(head);
    match head {
        [b'P', b'G', b'D', b'M', b'P', ..] => return Artifact::Dump,
        [b'R', b'E', b'D', b'I', b'S', ..] if ends(".aof") => return Artifact::Aof,
        [b'R', b'E', b'D', b'I', b'S', ..] => return Artifact::Rdb,
        [b'V', b'A', b'L', b'K', b'E', b'Y', ..] if ends(".aof") => return Artifact::ValkeyAof,
        [b'V', b'A', b'L', b'K', b'E', b'Y', ..] => return Artifact::ValkeyRdb,
        _ if packed && archive => return Artifact::Archive,
        _ if packed => return Artifact::Packed,
        _ => {}
    }
    let text = String::from_utf8_lossy(head);
    if has_line(&text, CLUSTER_HEAD) || has_line(&text, DATABASE_HEAD) {
        return Artifact::Sql;
    }
    // Not what the name says: the reader for the name says what is wrong with it. SQL that no
    // tool of PostgreSQL wrote has no last line to look for, except where only theirs belongs.
    if archive {
        Artifact::Archive
    } else if [".gz", ".zst", ".bz2", ".xz", ".lz4"]
        .iter()
        .any(|end| ends(end))
    {
        Artifact::Packed
    } else if ends(".dump") {
        // Its folder, as pg_dump's directory format has it, in an archive.
        match head.get(257..262) == Some(b"ustar") && !head.starts_with(b"toc.dat\0") {
            true => Artifact::Archive,
            false => Artifact::Dump,
        }
    } else if ends(".sql") && label.starts_with("postgres/") {
        Artifact::Sql
    } else if ends(".rdb") {
        Artifact::Rdb
    } else if ends(".aof") {
        Artifact::Aof
    } else if ends(".json") {
        Artifact::Json
    } else if ends(".gpg") {
        Artifact::Opaque
    } else {
        Artifact::Plain
    }
}

fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|other| other.trim_end() == line)
}

/// Whether SQL of `pg_dump` or `pg_dumpall` has its last line; else why it has not.
///
/// psql runs a cut file to its end without an error, so that line is all there is to go by. The
/// dump of a whole cluster holds whole dumps of databases: its own last line must be there.
/// Since the releases of August 2025, `\unrestrict` follows the last line.
pub(crate) fn check_sql(mut file: File) -> std::io::Result<Result<(), String>> {
    let size = file.metadata()?.len();
    if size == 0 {
        return Ok(Err("it is empty".to_owned()));
    }
    let mut head = Vec::new();
    Read::by_ref(&mut file).take(HEAD).read_to_end(&mut head)?;
    let head = String::from_utf8_lossy(&head);
    let begin = if has_line(&head, CLUSTER_HEAD) {
        CLUSTER_HEAD
    } else if has_line(&head, DATABASE_HEAD) {
        DATABASE_HEAD
    } else {
        return Ok(Err(
            "it does not begin like a dump that pg_dump or pg_dumpall wrote".to_owned(),
        ));
    };
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let tail = String::from_utf8_lossy(&tail);
    let last = tail
        .lines()
        .rev()
        .map(str::trim_end)
        .find(|line| !(line.is_empty() || *line == "--" || line.starts_with("\\unrestrict ")));
    let end = format!("{begin} complete");
    if last == Some(end.as_str()) {
        return Ok(Ok(()));
    }
    Ok(Err(format!("it is cut: its last line is not \"{end}\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_comes_before_the_name() {
        for (head, label, want) in [
            (&b"PGDMP\x01"[..], "postgres/x.sql", Artifact::Dump),
            (b"REDIS0010", "redis/x.rdb", Artifact::Rdb),
            (b"REDIS0010", "redis/x.aof", Artifact::Aof),
            (b"VALKEY080", "redis/x.rdb", Artifact::ValkeyRdb),
            (b"VALKEY080", "redis/x.aof", Artifact::ValkeyAof),
            (b"*2\r\n$6", "redis/x.aof", Artifact::Aof),
            (b"\x1f\x8b\x08", "a.tgz", Artifact::Archive),
            (b"\x1f\x8b\x08", "postgres/x.sql.gz", Artifact::Packed),
            (
                b"--\n-- PostgreSQL database dump\n--\n",
                "x.txt",
                Artifact::Sql,
            ),
            (b"", "volumes/x.tar.gz", Artifact::Archive),
            (b"\x28\xb5\x2f\xfd", "x.tar.zst", Artifact::Archive),
            (b"oops", "postgres/x.sql.zst", Artifact::Packed),
            (b"", "postgres/x.dump", Artifact::Dump),
            (b"", "redis/x.rdb", Artifact::Rdb),
            (b"", "postgres/x.sql", Artifact::Sql),
            (b"select 1;", "configs/init.sql", Artifact::Plain),
            (b"{}", "configs/x.json", Artifact::Json),
            (b"\x8c\x0d\x04", "x.tar.gz.gpg", Artifact::Opaque),
            (b"words", "postgres/metadata.txt", Artifact::Plain),
        ] {
            assert_eq!(tell(head, label), want, "{label}");
        }
    }

    #[test]
    fn a_sql_dump_needs_its_own_last_line() {
        let database = "--\n-- PostgreSQL database dump\n--\n\nselect 1;\n\n--\n\
                        -- PostgreSQL database dump complete\n--\n\n";
        let cluster = format!(
            "--\n-- PostgreSQL database cluster dump\n--\n{database}--\n\
             -- PostgreSQL database cluster dump complete\n--\n"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        let sound = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            check_sql(file.reopen().unwrap()).unwrap().is_ok()
        };
        assert!(sound(database));
        assert!(sound(&database.replace('\n', "\r\n")));
        assert!(sound(&format!("{database}\\unrestrict Abc\n\n")));
        assert!(sound(&cluster));
        // The whole dump of the last database, and no end of the cluster's.
        let inner = cluster
            .find("--\n-- PostgreSQL database cluster dump complete")
            .unwrap();
        assert!(!sound(&cluster[..inner]));
        assert!(!sound(&database[..database.len() - 15]));
        assert!(!sound(&format!("{database}select 2;\n")));
        assert!(!sound("select 1;\n"));
        assert!(!sound(""));
    }
}
