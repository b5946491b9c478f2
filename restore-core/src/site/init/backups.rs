//! The layout of existing backups, and the components that it tells of.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::emit::Emit;
use super::{Discovery, FoundBackups};
use crate::contract::backup::layout::archive_stem;
use crate::model::{BackupId, Error, Result};

/// No text of a backup is read further.
const LONGEST: u64 = 1 << 20;

/// Looks at a directory of backups.
pub(super) fn look(directory: &Path) -> Result<FoundBackups> {
    let listed = std::fs::read_dir(directory)
        .map_err(|e| Error::io(format!("list the backups in {}", directory.display()), e))?;
    let mut ids: Vec<BackupId> = listed
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|id: &BackupId| !id.is_safety())
        .collect();
    ids.sort();
    let mut found = FoundBackups {
        directory: directory.to_owned(),
        ..FoundBackups::default()
    };
    for id in ids.iter().rev() {
        let folder = directory.join(id.as_str());
        let mut files = BTreeSet::new();
        list(&folder, &folder, 0, &mut files);
        if !files.iter().any(|file| file != "MANIFEST.txt") {
            continue;
        }
        found.newest = Some(id.as_str().to_owned());
        for file in files {
            let mut name = file.replace(id.as_str(), "{id}");
            // In a configuration this name stands for those with the other ends too.
            if let Some(stem) = archive_stem(&name) {
                name = format!("{stem}.tar.gz");
            }
            let path = folder.join(&file);
            if name.ends_with(".tar.gz")
                && let Some(member) = first_member(&path)
            {
                found.members.insert(name.clone(), member);
            }
            if file == "postgres/metadata.txt" {
                let text = start_of(&path);
                let line = text
                    .lines()
                    .find_map(|line| line.strip_prefix("Database: "));
                found.database = line.map(|name| name.trim().to_owned());
            }
            if name == "postgres/postgres-globals-{id}.sql" {
                found.user = superuser(&start_of(&path));
            }
            found.files.push(name);
        }
        break;
    }
    Ok(found)
}

fn list(root: &Path, folder: &Path, depth: usize, files: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && depth < 2 {
            list(root, &path, depth + 1, files);
        } else if kind.is_file()
            && let Some(name) = path.strip_prefix(root).ok().and_then(Path::to_str)
        {
            files.insert(name.to_owned());
        }
    }
}

fn start_of(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = crate::sys::open_to_read(path) {
        let _ = file.take(LONGEST).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The name of an archive's first member, as its header has it.
fn first_member(path: &Path) -> Option<String> {
    let file = crate::sys::open_to_read(path).ok()?;
    let mut header = [0_u8; 512];
    let zstd = path.extension().is_some_and(|end| end == "zst");
    match zstd {
        true => zstd::Decoder::new(file).ok()?.read_exact(&mut header),
        false => flate2::read::GzDecoder::new(file).read_exact(&mut header),
    }
    .ok()?;
    // Files and directories; what only describes the next member tells no place.
    header
        .get(156)
        .filter(|kind| [b'0', b'5', 0].contains(kind))?;
    let name = header.get(..100)?.split(|byte| *byte == 0).next()?;
    let name = std::str::from_utf8(name).ok()?.trim_end_matches('/');
    (!name.is_empty()).then(|| name.to_owned())
}

/// The first role that is a superuser, but for the server's own.
fn superuser(globals: &str) -> Option<String> {
    let roles = globals.lines().filter_map(|line| {
        let rest = line.strip_prefix("ALTER ROLE ")?;
        let (name, rest) = rest.split_once(" WITH ")?;
        rest.starts_with("SUPERUSER")
            .then(|| name.trim_matches('"').to_owned())
    });
    let roles: Vec<String> = roles.collect();
    let own = roles.iter().find(|name| *name != "postgres");
    own.or(roles.first()).cloned()
}

impl FoundBackups {
    /// Whether the newest backup has a file of that name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.files.iter().any(|file| file == name)
    }

    /// The names of the archives in one of its folders, without `-{id}.tar.gz`.
    pub(super) fn archives<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a str> {
        self.files.iter().filter_map(move |file| {
            let name = file.strip_prefix(folder)?.strip_prefix('/')?;
            name.strip_suffix("-{id}.tar.gz")
        })
    }
}

/// A file tree that is a component, and the file that backups have it in.
pub(super) struct Tree<'a> {
    /// What the component is called.
    pub(super) name: &'a str,
    /// `configs/nginx-config-{id}.tar.gz`
    pub(super) archive: &'a str,
    pub(super) root: &'a Path,
    pub(super) tree: &'a Path,
    /// Where it is: the two together.
    pub(super) whole: &'a Path,
}

/// The file trees that the backups have, as components; returns the directories of those. `more` writes what
/// their sections have besides their places.
pub(super) fn trees(
    found: &Discovery,
    out: &mut Emit,
    mut more: impl FnMut(&Tree<'_>, &mut Emit),
) -> Vec<PathBuf> {
    let mut trees = Vec::new();
    let Some(backups) = &found.backups else {
        return trees;
    };
    for folder in ["configs", "app"] {
        for name in backups.archives(folder) {
            let archive = format!("{folder}/{name}-{{id}}.tar.gz");
            if name.starts_with("docker-image") {
                continue;
            }
            let member = backups.members.get(&archive).map(String::as_str);
            let member = member.map(|member| member.trim_start_matches("./"));
            let Some(tree) = member.filter(|member| !member.is_empty() && *member != ".") else {
                out.blank();
                out.todo(format!(
                    "{archive} is in the backups; say where it belongs, as a component of kind \"files\""
                ));
                continue;
            };
            // An archive may have no member for its top: then the first file's folder is it.
            let tree = Path::new(tree);
            let place = found.roots.iter().find_map(|root| {
                let whole = root.join(tree);
                let tree = match whole.is_dir() {
                    true => tree,
                    false if whole.is_file() => tree.parent()?,
                    false => return None,
                };
                let named = !tree.as_os_str().is_empty();
                named.then(|| (root.clone(), tree.to_owned()))
            });
            let Some((root, tree)) = place else {
                out.blank();
                out.todo(format!(
                    "{archive} is in the backups, and nothing here looks like its \"{}\": say where it belongs, as a component of kind \"files\"",
                    tree.display()
                ));
                continue;
            };
            let whole = root.join(&tree);
            let name = out.free("components", name);
            out.section(&["components", &name]);
            out.text("kind", "files");
            out.list("archive", &[&archive]);
            out.path("root", &root);
            out.path("tree", &tree);
            let written = Tree {
                name: &name,
                archive: &archive,
                root: &root,
                tree: &tree,
                whole: &whole,
            };
            more(&written, out);
            trees.push(whole);
        }
    }
    trees
}
