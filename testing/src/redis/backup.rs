//! Backups of a full server, in each form that Redis keeps its data in.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deadpool_redis::redis;

use super::{BACKUP, Case, Server, until};

/// How a backup holds the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Rdb,
    Aof,
    AofDir,
}

/// Puts a backup of a full server into the case, in one form; returns the content.
pub fn back_up(case: &Case, form: Form) -> BTreeMap<String, String> {
    let source = Server::new(&[
        "save \"\"",
        match form {
            Form::Rdb => "appendonly no",
            Form::Aof | Form::AofDir => "appendonly yes",
        },
        match form {
            // As before Redis 7: one file of commands.
            Form::Aof => "aof-use-rdb-preamble no",
            _ => "aof-use-rdb-preamble yes",
        },
    ]);
    source.start().unwrap();
    source.fill("backup", 300);
    if form != Form::Rdb {
        source.run(0, &["BGREWRITEAOF"]);
        until("rewritten", || {
            let info: String = redis::cmd("INFO")
                .arg("persistence")
                .query(&mut source.connect(0))
                .unwrap();
            info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrites:1")
        });
        // Something in the increment too.
        source.run(0, &["SET backup:late late", "DEL backup:0"]);
    }
    let content = source.content();
    match form {
        Form::Rdb => {
            source.run(0, &["SAVE"]);
            let name = format!("redis-{BACKUP}.rdb");
            std::fs::copy(source.data().join("dump.rdb"), case.artifact(&name)).unwrap();
        }
        Form::Aof => {
            source.stop();
            let mut parts: Vec<(PathBuf, Vec<u8>)> = source
                .files()
                .into_iter()
                .filter(|(path, _)| path.extension().is_some_and(|ext| ext == "aof"))
                .collect();
            parts.sort_by_key(|(path, _)| !path.to_str().unwrap().contains(".base."));
            let all: Vec<u8> = parts.into_iter().flat_map(|(_, bytes)| bytes).collect();
            assert!(all.starts_with(b"*"));
            std::fs::write(case.artifact(&format!("redis-{BACKUP}.aof")), all).unwrap();
        }
        Form::AofDir => {
            source.stop();
            let name = format!("appendonlydir-{BACKUP}.tar.gz");
            let tar = std::process::Command::new("tar")
                .arg("-czf")
                .arg(case.artifact(&name))
                .arg("-C")
                .arg(source.data())
                .arg("appendonlydir")
                .status()
                .unwrap();
            assert!(tar.success());
        }
    }
    content
}
