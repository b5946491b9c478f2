//! What a site is made of on this host, and no run may move away.

use serde_json::Value;

use super::*;

/// Keys whose values are files that the tool reads, besides those that end in `_file`.
const FILES: [&str; 11] = [
    "ca",
    "cert",
    "config",
    "file",
    "gnupg_home",
    "identity",
    "key",
    "known_hosts",
    "page",
    "ssh_config",
    "wal_archive",
];

impl Site {
    /// What the tool itself needs, with what it is called: its configuration, state, log and stores, secret files,
    /// WAL archives, the program.
    pub(crate) fn own_paths(&self) -> Vec<(String, PathBuf)> {
        let mut own = self.written_paths();
        let mut add = |what: String, path: PathBuf| own.push((what, path));
        if let Some(file) = &self.file {
            add("the configuration".to_owned(), file.clone());
        }
        if let Some(log) = &self.log {
            add("the log".to_owned(), log.clone());
        }
        if let Ok(program) = std::env::current_exe() {
            add("the program itself".to_owned(), program);
        }
        let sections = [
            ("stores", &self.config.stores),
            ("nodes", &self.config.nodes),
            ("platform", &self.config.platform),
            ("components", &self.config.components),
            ("services", &self.config.services),
            ("checks", &self.config.checks),
            ("hooks", &self.config.hooks),
        ];
        for (name, table) in sections {
            for (key, value) in table {
                self.files_in(&format!("{name}.{key}"), key, value, &mut own);
            }
        }
        for (key, value) in self.config.maintenance.iter().flatten() {
            self.files_in(&format!("maintenance.{key}"), key, value, &mut own);
        }
        own
    }

    /// What of that grows with each run and each backup: the state directory, and the stores of this host.
    pub(crate) fn written_paths(&self) -> Vec<(String, PathBuf)> {
        let mut written = vec![("the state directory".to_owned(), self.state.clone())];
        let safety = self.safety_store();
        for (name, store) in &self.stores {
            let Some(directory) = store.directory() else {
                continue;
            };
            let what = match safety == Some(name) {
                true => format!("the store {name}, which takes the safety backup"),
                false => format!("the store {name}"),
            };
            written.push((what, directory.to_owned()));
        }
        written
    }

    /// The files that a section names: those of them that are there, as a word may be many things.
    fn files_in(&self, place: &str, key: &str, value: &Value, own: &mut Vec<(String, PathBuf)>) {
        match value {
            Value::String(text) => {
                let named = (key.ends_with("_file") && key != "pid_file") || FILES.contains(&key);
                let path = self.base.join(text);
                // A crontab is restored itself.
                let restored = key == "file" && place.starts_with("components.");
                if named && !restored && !text.is_empty() && path.symlink_metadata().is_ok() {
                    own.push((format!("what [{place}] names"), path));
                }
            }
            Value::Object(table) => {
                for (key, value) in table {
                    self.files_in(&format!("{place}.{key}"), key, value, own);
                }
            }
            Value::Array(list) => {
                for value in list {
                    self.files_in(place, key, value, own);
                }
            }
            _ => {}
        }
    }
}
