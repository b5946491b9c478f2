//! What containers are made from: Compose projects and stacks, and the files that describe them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::FoundService;
use super::containers::short;
use super::emit::{Emit, listed, quoted};
use crate::platforms::docker::yaml;

/// No compose file is longer.
const LONGEST: u64 = 1 << 20;

/// So many folders deep compose files are looked for in a tree.
const DEEPEST: u32 = 3;

/// So many entries of a tree are looked at for them.
const MOST: usize = 10_000;

/// What can be made from compose files, and is in no component yet.
#[derive(Debug, Default)]
pub(super) struct Deploys {
    /// The site's own first.
    projects: Vec<Project>,
    /// Those with most services first.
    stacks: Vec<Stack>,
    /// Why some projects cannot be made anew.
    todo: Vec<String>,
}

/// A Compose project, and the files that it was made from.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) name: String,
    /// The directory that it was made in.
    pub(super) folder: PathBuf,
    files: Vec<PathBuf>,
}

/// A stack of a swarm.
#[derive(Clone, Debug)]
struct Stack {
    name: String,
    /// As its compose files call them.
    services: BTreeSet<String>,
}

/// Where a path leads; the path itself where it leads nowhere.
pub(super) fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// A file by its own name in the directory that its path leads to.
fn placed(file: &Path) -> PathBuf {
    match (file.parent(), file.file_name()) {
        (Some(parent), Some(name)) => real(parent).join(name),
        _ => file.to_owned(),
    }
}

/// Whether a directory holds more than one platform: of the host, or somebody's home.
fn is_shared(folder: &Path) -> bool {
    folder.components().count() < 3 || folder.parent() == Some(Path::new("/home"))
}

impl Project {
    /// As a service of it tells; `Err`: what has to be done before a run could make it.
    fn of(name: &str, folder: &Path, it: &FoundService) -> Result<Self, String> {
        let project = Self {
            name: name.to_owned(),
            folder: real(folder),
            files: it.config_files.iter().map(|file| placed(file)).collect(),
        };
        let folder = project.folder.display();
        let mut files = project.files.iter();
        if let Some(gone) = files.clone().find(|file| !file.is_file()) {
            return Err(project.todo(&format!("have its file {} there again", gone.display())));
        }
        let first = files.next().and_then(|file| file.parent());
        if let Some(first) = first.filter(|first| *first != project.folder) {
            return Err(project.todo(&format!(
                "make it without --project-directory: paths in its files are meant from {folder}, and a run takes them from {}",
                first.display()
            )));
        }
        let usual = project.folder.join(".env");
        if let Some(other) = it.env_files.iter().find(|file| placed(file) != usual) {
            return Err(project.todo(&format!(
                "have its variables in {folder}/.env: a run does not read {}",
                other.display()
            )));
        }
        Ok(project)
    }

    /// What is left to do by hand.
    fn todo(&self, what: &str) -> String {
        format!(
            "so that a run can make the project {0} where nothing of it is left, {what}; then write redeploy = true, \
             stack = {1} and compose, its files, into the component with its directory",
            self.name,
            quoted(&self.name)
        )
    }

    /// Why it cannot be made from a tree alone.
    fn scattered(&self, whole: &Path) -> Option<String> {
        let other = self.files.iter().find(|file| !file.starts_with(whole))?;
        Some(self.todo(&format!(
            "have its files in one directory: {} is not in {}",
            other.display(),
            whole.display()
        )))
    }

    /// The keys that have it made from a tree.
    pub(super) fn write(&self, whole: &Path, out: &mut Emit) {
        let whole = real(whole);
        let below = self.files.iter().filter_map(|file| {
            let below = file.strip_prefix(&whole).ok()?;
            Some(below.to_string_lossy().into_owned())
        });
        let files: Vec<String> = below.collect();
        out.comment("Where no container of the project is left, a run with --create makes it from these files.");
        out.raw("redeploy", "true");
        out.text("stack", &self.name);
        out.list("compose", &files);
    }
}

impl Deploys {
    /// The Compose projects of these services; `main` is the site's own.
    pub(super) fn of_projects(services: &[&FoundService], main: &str) -> Self {
        let mut names: Vec<&str> = services
            .iter()
            .filter_map(|it| it.stack.as_deref())
            .collect();
        names.sort_unstable_by_key(|name| (*name != main, *name));
        names.dedup();
        let mut deploys = Self::default();
        for name in names {
            let own = services
                .iter()
                .filter(|it| it.stack.as_deref() == Some(name) && !it.config_files.is_empty());
            // One that was made by itself may have been made from some of them.
            let Some(it) = own.max_by_key(|it| it.config_files.len()) else {
                continue;
            };
            // It may have been made from another machine.
            let Some(folder) = it.described_in.as_deref().filter(|it| it.is_dir()) else {
                continue;
            };
            match Project::of(name, folder, it) {
                Ok(project) => deploys.projects.push(project),
                Err(todo) => deploys.todo.push(todo),
            }
        }
        deploys
    }

    /// The stacks of these services.
    pub(super) fn of_stacks(services: &[FoundService]) -> Self {
        let mut stacks: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for it in services {
            if let Some(stack) = &it.stack {
                let known = stacks.entry(stack).or_default();
                known.insert(short(&it.name, it).to_owned());
            }
        }
        let stacks = stacks.into_iter().map(|(name, services)| Stack {
            name: name.to_owned(),
            services,
        });
        let mut stacks: Vec<Stack> = stacks.collect();
        stacks.sort_by_key(|it| std::cmp::Reverse(it.services.len()));
        Self {
            stacks,
            ..Self::default()
        }
    }

    /// Takes the projects whose directories lie in a tree: the one that is made from the tree itself, and
    /// those for which a part of it is cut off.
    pub(super) fn in_tree(&mut self, whole: &Path) -> (Option<Project>, Vec<Project>) {
        let whole = real(whole);
        let (mut inside, outside): (Vec<Project>, Vec<Project>) =
            std::mem::take(&mut self.projects)
                .into_iter()
                .partition(|it| it.folder.starts_with(&whole));
        self.projects = outside;
        let fits = |it: &Project| it.scattered(&whole).is_none();
        // What lies at its top cannot be cut off.
        let at_top = inside.iter().position(|it| it.folder == whole && fits(it));
        let own = at_top.or_else(|| inside.iter().position(fits));
        let own = own.map(|at| inside.remove(at));
        inside.sort_by_key(|it| it.folder.components().count());
        let mut parts: Vec<Project> = Vec::new();
        for project in inside {
            if let Some(todo) = project.scattered(&project.folder) {
                self.todo.push(todo);
                continue;
            }
            let mut others = own.iter().chain(&parts);
            let is_in_it = |file: &PathBuf| file.starts_with(&project.folder);
            let other = others.find(|other| other.files.iter().any(is_in_it));
            match other.map(|other| other.name.clone()) {
                Some(other) => self.todo.push(project.todo(&format!(
                    "have its files in a directory of their own: those of {other} are in {} too",
                    project.folder.display()
                ))),
                None => parts.push(project),
            }
        }
        (own, parts)
    }

    /// The project, and the directory, that the next component is to be made of: what is above comes first.
    pub(super) fn next_folder(&mut self) -> Option<(String, PathBuf)> {
        let mut projects = std::mem::take(&mut self.projects);
        projects.retain(|it| !is_shared(&it.folder));
        for project in projects {
            match project.scattered(&project.folder) {
                Some(todo) => self.todo.push(todo),
                None => self.projects.push(project),
            }
        }
        let depth = |it: &&Project| it.folder.components().count();
        let first = self.projects.iter().min_by_key(depth)?;
        Some((first.name.clone(), first.folder.clone()))
    }

    /// The keys that have a stack deployed from a tree, for whoever wants it: each run that restores it does.
    pub(super) fn write_guess(&mut self, whole: &Path, out: &mut Emit) {
        if self.stacks.is_empty() {
            return;
        }
        let files = compose_files(whole);
        let mut here: Vec<(Stack, Vec<String>)> = Vec::new();
        self.stacks.retain(|stack| {
            let own = files
                .iter()
                .filter(|(_, services)| services.is_subset(&stack.services));
            let own: Vec<String> = own
                .map(|(path, _)| path.to_string_lossy().into_owned())
                .collect();
            let found = !own.is_empty();
            if found {
                here.push((stack.clone(), own));
            }
            !found
        });
        let mut here = here.into_iter();
        let Some((stack, own)) = here.next() else {
            return;
        };
        out.guess(
            "by the services that they name, these files describe the stack. With the keys below each run that \
             restores the tree deploys it, and one with --create makes it where nothing of it is left.",
        );
        out.off("redeploy", "true");
        out.off("stack", &quoted(&stack.name));
        out.off("compose", &listed(&own));
        let others: Vec<String> = here.map(|(stack, _)| stack.name).collect();
        if !others.is_empty() {
            out.comment(&format!(
                "The files of {} are here too: a component deploys one stack, so that each needs one for its part of the tree.",
                others.join(", ")
            ));
        }
    }

    /// What is left to do, and what no tree has the files of.
    pub(super) fn write_rest(&self, out: &mut Emit) {
        for what in &self.todo {
            out.blank();
            out.todo(what.as_str());
        }
        if self.stacks.is_empty() {
            return;
        }
        let names: Vec<&str> = self.stacks.iter().map(|it| it.name.as_str()).collect();
        out.blank();
        out.comment(&format!(
            "No tree here has the compose files of: {}. To have what is described there made where nothing of it is \
             left, have their directory as a component of kind \"files\", with redeploy, stack and compose.",
            names.join(", ")
        ));
    }
}

/// The compose files of a tree, relative to it, with the services that each names; those with most first.
fn compose_files(whole: &Path) -> Vec<(PathBuf, BTreeSet<String>)> {
    let mut found = Vec::new();
    let mut folders = vec![(whole.to_owned(), 0_u32)];
    let mut left = MOST;
    while let Some((folder, depth)) = folders.pop() {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        for entry in entries.take(left) {
            left = left.saturating_sub(1);
            let path = entry.path();
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() && depth < DEEPEST {
                folders.push((path, depth.saturating_add(1)));
            } else if kind.is_file()
                && let Some(services) = services_of(&path)
                && let Ok(below) = path.strip_prefix(whole)
            {
                found.push((below.to_owned(), services));
            }
        }
    }
    found.sort_by_key(|(path, services)| (std::cmp::Reverse(services.len()), path.clone()));
    found
}

/// The services that a compose file names; `None` where it is none.
fn services_of(path: &Path) -> Option<BTreeSet<String>> {
    path.extension()
        .filter(|end| *end == "yml" || *end == "yaml")?;
    let bytes = crate::sys::read_small(path, LONGEST).ok()?;
    let document = yaml::document(&String::from_utf8(bytes).ok()?).ok()?;
    let services: BTreeSet<String> = document
        .get("services")?
        .as_object()?
        .keys()
        .cloned()
        .collect();
    (!services.is_empty()).then_some(services)
}
