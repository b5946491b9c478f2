//! File trees: those that backups have, those that containers mount, and those that projects are made from.

use std::path::{Path, PathBuf};

use super::backups::{self, Tree};
use super::containers::{Role, SECRETS, holds_data, write_stops};
use super::deployment::{Deploys, Project, real};
use super::emit::Emit;
use super::{Discovery, FoundMount, FoundService};

/// The components of kind `files`, as they are written.
struct Trees<'a> {
    found: &'a Discovery,
    services: &'a [(Role, &'a FoundService)],
    nginx: Option<&'a FoundService>,
    deploys: Deploys,
    /// Directories that databases have their data in.
    data: Vec<PathBuf>,
    /// Files with secrets of services.
    secrets: Vec<PathBuf>,
    /// The directories that are components.
    written: Vec<PathBuf>,
    /// What is cut off from them, to be written.
    parts: Vec<Part>,
}

/// A part of a tree, which is a component of its own since another project is made from it than from the rest.
struct Part {
    name: String,
    archives: Vec<String>,
    of_backups: bool,
    root: PathBuf,
    tree: PathBuf,
    project: Project,
}

/// Writes the components of kind `files`; returns their directories.
pub(super) fn write(
    found: &Discovery,
    services: &[(Role, &FoundService)],
    deploys: Deploys,
    out: &mut Emit,
) -> Vec<PathBuf> {
    let nginx = services.iter().find(|(role, _)| *role == Role::Nginx);
    let mut trees = Trees {
        found,
        services,
        nginx: nginx.map(|(_, it)| *it),
        deploys,
        data: data(services),
        secrets: secrets(services),
        written: Vec::new(),
        parts: Vec::new(),
    };
    backups::trees(found, out, |tree, out| trees.write_rest(tree, true, out));
    trees.write_mounted(out);
    trees.write_projects(out);
    trees.write_parts(out);
    trees.deploys.write_rest(out);
    trees.written
}

/// Whether a directory is the host's own, and none of a platform.
pub(super) fn is_of_system(source: &Path) -> bool {
    let system = [
        "/var/run",
        "/run",
        "/proc",
        "/sys",
        "/dev",
        "/etc/localtime",
        "/etc/timezone",
    ];
    system.iter().any(|path| source.starts_with(path))
}

fn is_tree(mount: &FoundMount) -> bool {
    let source = Path::new(&mount.source);
    mount.bind && source.components().count() > 2 && !is_of_system(source)
}

fn data(services: &[(Role, &FoundService)]) -> Vec<PathBuf> {
    let servers = services
        .iter()
        .filter(|(role, _)| matches!(role, Role::Postgres | Role::Redis));
    let mounts = servers.flat_map(|(_, it)| &it.mounts);
    mounts
        .filter(|mount| holds_data(mount))
        .map(|mount| PathBuf::from(&mount.source))
        .collect()
}

fn secrets(services: &[(Role, &FoundService)]) -> Vec<PathBuf> {
    let mut secrets = Vec::new();
    for (_, it) in services {
        let named = |mount: &FoundMount| {
            let mut settings = it.settings.iter();
            settings.any(|(name, value)| {
                name.ends_with("PASSWORD_FILE") && mount.target == Path::new(value)
            })
        };
        let binds = it.mounts.iter().filter(|mount| mount.bind);
        let binds = binds.filter(|mount| mount.target.starts_with(SECRETS) || named(mount));
        secrets.extend(binds.map(|mount| PathBuf::from(&mount.source)));
    }
    secrets
}

/// What of these lies in a tree, relative to it, without what lies in another of them.
fn inside<'a>(whole: &Path, paths: impl Iterator<Item = &'a PathBuf>) -> Vec<String> {
    let whole = real(whole);
    let below = |path: &PathBuf| {
        let path = real(path);
        let below = path.strip_prefix(&whole).ok()?;
        (!below.as_os_str().is_empty()).then(|| below.to_owned())
    };
    let mut inside: Vec<PathBuf> = paths.filter_map(below).collect();
    // What is above comes first.
    inside.sort();
    let mut tops: Vec<PathBuf> = Vec::new();
    for path in inside {
        if !tops.iter().any(|top| path.starts_with(top)) {
            tops.push(path);
        }
    }
    tops.iter()
        .map(|it| it.to_string_lossy().into_owned())
        .collect()
}

impl Trees<'_> {
    /// What a tree needs besides its place.
    fn write_rest(&mut self, tree: &Tree<'_>, of_backups: bool, out: &mut Emit) {
        let (own, parts) = self.deploys.in_tree(tree.whole);
        let folders: Vec<PathBuf> = parts.iter().map(|it| it.folder.clone()).collect();
        let exclude = self.exclude(tree.whole, of_backups, &folders);
        self.write_tree(tree.whole, of_backups, &exclude, out);
        match own {
            Some(project) => project.write(tree.whole, out),
            None => self.deploys.write_guess(tree.whole, out),
        }
        for project in parts {
            let below = project.folder.strip_prefix(real(tree.whole));
            let below = below.map(Path::to_owned).unwrap_or_default();
            let name = format!("{}-{}", tree.name, project.name);
            let mut archives = vec![format!("configs/{name}-{{id}}.tar.gz")];
            if of_backups {
                // Those that are there have both in one.
                archives.push(tree.archive.to_owned());
            }
            self.parts.push(Part {
                name,
                archives,
                of_backups,
                root: tree.root.to_owned(),
                tree: tree.tree.join(below),
                project,
            });
        }
        self.written.push(tree.whole.to_owned());
    }

    /// What of a tree is not its component's: data of databases, other components, `more`, and the backups
    /// themselves; of a tree that no backup has yet, secrets too.
    fn exclude(&self, whole: &Path, of_backups: bool, more: &[PathBuf]) -> Vec<String> {
        let backups = self.found.backups.as_ref().map(|it| &it.directory);
        let secrets = self.secrets.iter().filter(|_| !of_backups);
        let others = self.data.iter().chain(&self.written).chain(more);
        inside(whole, others.chain(backups).chain(secrets))
    }

    fn write_tree(&self, whole: &Path, of_backups: bool, exclude: &[String], out: &mut Emit) {
        let place = real(whole);
        let is_in_it = |mount: &FoundMount| {
            let source = real(Path::new(&mount.source));
            let below = source.strip_prefix(&place);
            let own = |below: &Path| !exclude.iter().any(|other| below.starts_with(other));
            is_tree(mount) && below.is_ok_and(own)
        };
        let mounts = |it: &FoundService| it.mounts.iter().any(is_in_it);
        let code = |(role, it): &(Role, &FoundService)| *role == Role::App && mounts(it);
        let nginx = self.nginx.filter(|it| mounts(it));
        let mut exclude = exclude.to_vec();
        if !exclude.is_empty() {
            out.comment(
                "What of it is another component's, data of a database, a secret or a backup.",
            );
        }
        if nginx.is_none() && of_backups && self.services.iter().any(code) {
            out.guess("what backups of code usually leave out: it stays as it is.");
            exclude.extend(["**/node_modules", "**/.git", "**/*.log"].map(str::to_owned));
        }
        if !exclude.is_empty() {
            out.list("exclude", &exclude);
        }
        if let Some(nginx) = nginx {
            out.list("stops", &[] as &[&str]);
            out.comment("Links may lead out of the tree to these places only.");
            out.list("allow_links", &["/usr/lib/nginx"]);
            out.text("service", &nginx.name);
            out.list("test", &["nginx", "-t"]);
            out.list("reload", &["nginx", "-s", "reload"]);
            return;
        }
        let users = self
            .services
            .iter()
            .filter(|(role, it)| matches!(role, Role::App | Role::Monitoring) && mounts(it));
        let stops: Vec<String> = users.map(|(_, it)| it.name.clone()).collect();
        write_stops(&stops, "who mounts it.", out);
    }

    /// A tree that no backup has yet.
    fn write_new(&mut self, name: &str, (root, tree): (&Path, &Path), out: &mut Emit) {
        let archive = format!("configs/{name}-{{id}}.tar.gz");
        self.write_place(name, std::slice::from_ref(&archive), (root, tree), out);
        let whole = root.join(tree);
        let written = Tree {
            name,
            archive: &archive,
            root,
            tree,
            whole: &whole,
        };
        self.write_rest(&written, false, out);
    }

    fn write_place(
        &self,
        name: &str,
        archives: &[String],
        (root, tree): (&Path, &Path),
        out: &mut Emit,
    ) {
        out.section(&["components", name]);
        out.text("kind", "files");
        out.list("archive", archives);
        if archives.len() == 1 && self.found.backups.is_some() {
            out.comment("The backups have nothing for it yet.");
            out.raw("optional", "true");
        }
        out.path("root", root);
        out.path("tree", tree);
    }

    /// Trees that services mount and no backup told of.
    fn write_mounted(&mut self, out: &mut Emit) {
        let services = self.services;
        let services = services
            .iter()
            .filter(|(role, _)| *role != Role::Postgres && *role != Role::Redis);
        let mounts: Vec<&FoundMount> = services.flat_map(|(_, it)| &it.mounts).collect();
        for mount in mounts.into_iter().filter(|mount| is_tree(mount)) {
            let whole = Path::new(&mount.source);
            let (Some(root), Some(tree)) = (whole.parent(), whole.file_name()) else {
                continue;
            };
            let mut known = self.written.iter().chain(&self.data);
            if known.any(|known| whole.starts_with(known)) || !whole.is_dir() {
                continue;
            }
            let name = out.free("components", &tree.to_string_lossy());
            self.write_new(&name, (root, Path::new(tree)), out);
        }
    }

    /// The directories with compose files that are in none of these trees.
    fn write_projects(&mut self, out: &mut Emit) {
        while let Some((project, folder)) = self.deploys.next_folder() {
            let (Some(root), Some(tree)) = (folder.parent(), folder.file_name()) else {
                return;
            };
            let name = out.free("components", &format!("{project}-compose"));
            self.write_new(&name, (root, Path::new(tree)), out);
        }
    }

    fn write_parts(&mut self, out: &mut Emit) {
        let parts = std::mem::take(&mut self.parts);
        let folders = parts.iter().map(|it| it.project.folder.clone());
        self.written.extend(folders);
        for part in parts {
            let folder = &part.project.folder;
            let name = out.free("components", &part.name);
            let place = (part.root.as_path(), part.tree.as_path());
            self.write_place(&name, &part.archives, place, out);
            let exclude = self.exclude(folder, part.of_backups, &[]);
            self.write_tree(folder, part.of_backups, &exclude, out);
            part.project.write(folder, out);
        }
    }
}
