//! A site of one file tree in a temporary directory, and the program run on it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// A site that is thrown away.
pub struct Site {
    dir: tempfile::TempDir,
}

/// The id of the backup that [`Site::backup`] makes.
pub const ID: &str = "20240215-020000";

impl Site {
    /// A site with a live tree `live/opt/app/{kept,own}` and no backup.
    pub fn new() -> Self {
        let site = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        site.write("live/opt/app/kept", "live");
        site.write("live/opt/app/own", "only live");
        std::fs::create_dir(site.path("backups")).unwrap();
        site.write(
            "restore.toml",
            r#"
[site]
name = "toy"
state = "state"
[stores.main]
kind = "directory"
path = "backups"
[components.applications]
kind = "files"
archive = ["app/applications-{id}.tar.gz"]
root = "live/opt"
tree = "app"
"#,
        );
        site
    }

    /// A path inside the site's directory.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.dir.path().join(relative)
    }

    /// Writes a file and the directories above it.
    pub fn write(&self, relative: &str, content: &str) {
        let path = self.path(relative);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn read(&self, relative: &str) -> String {
        std::fs::read_to_string(self.path(relative)).unwrap()
    }

    /// A backup of generation A, made with the shell's tools alone.
    pub fn backup(&self) -> PathBuf {
        self.backup_without_manifest(ID);
        self.shell(&format!(
            r#"cd backups/{ID} && {{
                echo "=== Backup Manifest ==="
                echo "Backup ID: {ID}"
                echo "Created: Thu Feb 15 02:00:00 UTC 2024"
                echo "Created By: root"
                find . -type f ! -name MANIFEST.txt | sed 's|^\./||' | sort | while read f; do
                    echo "$f|$(du -h "$f" | cut -f1)|$(sha256sum "$f" | cut -d' ' -f1)"
                done
                echo "=== Summary ==="
                echo "Total Files: 1"
            }} > ../../manifest && mv ../../manifest MANIFEST.txt"#
        ));
        self.path(&format!("backups/{ID}"))
    }

    /// A backup of generation B: without checksums.
    pub fn backup_without_checksums(&self, id: &str) {
        self.backup_without_manifest(id);
        self.write(
            &format!("backups/{id}/MANIFEST.txt"),
            &format!(
                "Backup ID: {id}\nCreated: then\nType: full\nTotal Size: 4.0K\nTotal Files: 1\n"
            ),
        );
    }

    fn backup_without_manifest(&self, id: &str) {
        self.write("made/app/kept", "backed up");
        self.write("made/app/more", "more");
        self.shell(&format!(
            "mkdir -p backups/{id}/app && \
             tar -C made -czf backups/{id}/app/applications-{id}.tar.gz app"
        ));
    }

    /// Runs a shell script in the site's directory.
    pub fn shell(&self, script: &str) {
        let status = Command::new("sh")
            .args(["-ec", script])
            .current_dir(self.dir.path())
            .status()
            .unwrap();
        assert!(status.success(), "{script}");
    }

    /// The program in the site's directory, with nothing of the caller's environment that it
    /// could take for its own, and no terminal.
    pub fn command(&self, args: &[&str]) -> Command {
        command(self.dir.path(), args)
    }

    /// Runs the program.
    pub fn restore(&self, args: &[&str]) -> Ran {
        Ran::of(self.command(args).output().unwrap())
    }
}

/// The program in a directory.
pub fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_restore"));
    command
        .args(args)
        .current_dir(dir)
        .env_remove("RESTORE_CONFIG")
        .env_remove("RESTORE_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// What a run of the program gave.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The exit code must be this one.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }

    /// stdout, which must be exactly one JSON document.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}
