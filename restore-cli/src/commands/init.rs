//! `restore init`.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use restore_core::component::Registry;
use restore_core::site::init::{self, CarriedOptions, LookOptions, Proposal, StoreSection};
use restore_core::{Error, ErrorKind, Result};
use serde::Serialize;

use super::Context;
use super::config_schema::SCHEMA;
use crate::args::{InitArgs, word};
use crate::printer::Answer;
use crate::store_url;

/// What was written, and where.
#[derive(Serialize)]
struct Written<'a> {
    /// `None`: it was printed.
    file: Option<&'a Path>,
    /// The schema by which editors check it; `None`: none was written.
    schema: Option<&'a Path>,
    text: &'a str,
    todo: &'a [String],
}

/// Where the backup is whose configuration is taken.
enum Place<'a> {
    Directory(&'a Path),
    Store(StoreSection),
}

/// Writes a first configuration, or prints it; never over a file that is there.
pub(super) async fn init(cx: &Context, args: InitArgs) -> Result<Answer> {
    let output = std::path::absolute(&args.output)
        .map_err(|e| Error::io(format!("find {}", args.output.display()), e))?;
    // Before anything is looked at, which may take a while.
    if !args.print {
        init::may_write(&output)?;
        if output.symlink_metadata().is_ok() {
            return Err(in_the_way(&output));
        }
    }
    let proposal = match args.from.as_slice() {
        [first, rest @ ..] => {
            let after = rest.first().map_or("latest", String::as_str);
            let (place, id) = match (&args.backups, &args.store, rest) {
                (None, None, _) if store_url::is_url(first) => {
                    (Place::Store(store_url::read(first)?), after)
                }
                (None, None, _) => (Place::Directory(Path::new(first)), after),
                (Some(backups), None, []) => (Place::Directory(backups), first.as_str()),
                (None, Some(file), []) => (Place::Store(StoreSection::read(file)?), first.as_str()),
                _ => return Err(two_places()),
            };
            let mut options = CarriedOptions::default();
            options.signed_by.clone_from(&args.signed_by);
            options.gnupg_home.clone_from(&args.gnupg_home);
            options.base = output.parent().map(Path::to_owned);
            let carried = async {
                match &place {
                    Place::Directory(backups) => init::carried(backups, id, &options).await,
                    Place::Store(store) => {
                        init::carried_in(store, &Registry::default(), id, &options).await
                    }
                }
            };
            tokio::select! {
                carried = carried => carried?,
                () = cx.reading().cancel.cancelled_owned() => return Err(Error::interrupted()),
            }
        }
        [] => {
            let mut options = LookOptions::default();
            options.below.clone_from(&args.below);
            options.backups.clone_from(&args.backups);
            options.socket.clone_from(&args.socket);
            let found = tokio::select! {
                found = init::look(&options) => found?,
                () = cx.reading().cancel.cancelled_owned() => return Err(Error::interrupted()),
            };
            init::propose(&found)
        }
    };
    let file = (!args.print).then_some(output.as_path());
    let mut todo = proposal.todo.clone();
    let mut schema = None;
    if let Some(file) = file {
        init::may_write(file)?;
        write(file, &proposal.text)?;
        // The first line of the file names it. A file that is there is somebody's.
        let beside = file.with_file_name(init::SCHEMA_FILE);
        if proposal.backup.is_none() && beside.symlink_metadata().is_err() {
            match write(&beside, SCHEMA) {
                Ok(()) => schema = Some(beside),
                // The configuration is there, and whole without it.
                Err(error) => todo.push(format!(
                    "{error}: for editors that check the file by it, `restore config schema > {}`",
                    word(&beside.display().to_string())
                )),
            }
        }
    }
    let written = Written {
        file,
        schema: schema.as_deref(),
        text: &proposal.text,
        todo: &todo,
    };
    Answer::new("init", &written, told(&proposal, &written))
}

fn told(proposal: &Proposal, written: &Written<'_>) -> String {
    let Some(file) = written.file else {
        return proposal.text.clone();
    };
    let file = file.display().to_string();
    let mut out = match written.schema {
        Some(schema) => format!("Wrote {file} and {}.\n", schema.display()),
        None => format!("Wrote {file}.\n"),
    };
    let file = word(&file);
    if !written.todo.is_empty() {
        out += "\nLeft to do by hand:\n";
        for what in written.todo {
            out += &format!("  - {what}\n");
        }
    }
    match &proposal.backup {
        Some(id) => {
            out += &format!(
                "\nThen:\n  restore --config {file} config check\n  restore --config {file} plan {id} --create\n\
                 The plan names the run to type next, or the two that Docker takes where nothing is left.\n"
            );
        }
        None => {
            out += &format!(
                "\nLook at what is marked GUESSED in it, then:\n  restore --config {file} config check\n"
            );
        }
    }
    out
}

fn two_places() -> Error {
    Error::new(
        ErrorKind::Config,
        "init.two_directories",
        "--from names a place of backups, and another option names one as well",
    )
    .hint("`restore init --from DIR ID`, or `restore init --from ID --store FILE`")
}

fn in_the_way(file: &Path) -> Error {
    Error::new(
        ErrorKind::Config,
        "init.exists",
        format!("{} is there already: nothing was written", file.display()),
    )
    .hint("name another file with --output, or see it with --print")
}

/// Writes a new file for its owner alone.
fn write(file: &Path, text: &str) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let opened = options.write(true).create_new(true).mode(0o600).open(file);
    let mut opened = opened.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => in_the_way(file),
        _ => Error::io(format!("write {}", file.display()), e),
    })?;
    opened
        .write_all(text.as_bytes())
        .and_then(|()| opened.sync_all())
        .map_err(|e| {
            // Half of it would be in the way of the next try.
            let _ = std::fs::remove_file(file);
            Error::io(format!("write {}", file.display()), e)
        })
}
