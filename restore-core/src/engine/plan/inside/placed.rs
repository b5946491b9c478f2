//! One part of what is replaced: what lies in it, and what is said of that.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use super::mounts::{Location, Mounts};
use super::moves;
use crate::contract::Target;
use crate::model::{Error, ErrorKind, Finding};
use crate::swap::scope::SwapScope;

/// How many of what cannot be moved are named.
const NAMED: usize = 5;
/// How many entries of one target are looked at for it.
const LOOKED_AT: usize = 200_000;

/// A part of a directory that a component replaces.
pub(super) struct Part {
    pub(super) component: String,
    /// The services that are down meanwhile.
    pub(super) stops: Vec<String>,
    /// The machine that has it; `None`: this host.
    pub(super) node: Option<String>,
    pub(super) target: Target,
}

/// A place that a component restores.
pub(super) struct Restored {
    pub(super) component: String,
    pub(super) node: Option<String>,
    pub(super) path: PathBuf,
}

/// A place of the server that a component works on.
pub(super) struct ServerPlace {
    pub(super) component: String,
    /// Whether it is restored as well.
    pub(super) planned: bool,
    /// The component that replaces all of the server.
    pub(super) cluster: Option<String>,
    pub(super) service: String,
    pub(super) path: PathBuf,
}

/// A part of a directory, and where it really is.
pub(super) struct Placed<'a> {
    pub(super) part: &'a Part,
    pub(super) place: Location,
}

impl<'a> Placed<'a> {
    pub(super) fn here(part: &'a Part, mounts: &Mounts) -> Option<Self> {
        let place = mounts.steps(&part.target.path).pop()?;
        Some(Self { part, place })
    }

    /// Where in it `path` is, or a link that leads to it; `None` where it would not be moved.
    pub(super) fn holds(&self, mounts: &Mounts, path: &Path) -> Option<PathBuf> {
        mounts.steps(path).into_iter().find_map(|step| {
            let inside = step.below(&self.place)?;
            self.concerns(&inside).then_some(inside)
        })
    }

    /// Whether the run moves what is there in it.
    pub(super) fn concerns(&self, inside: &Path) -> bool {
        moves(&self.part.target.scope, inside)
    }

    /// Whether it is replaced as a whole, and not file by file.
    fn is_whole(&self) -> bool {
        matches!(
            self.part.target.scope,
            SwapScope::Everything | SwapScope::Entries(_)
        )
    }

    /// Whether what a server works with may be moved: by the component itself, by what replaces all of the server, or
    /// as the files of a server that is down for that, and of which nothing else is restored. `own`: it is a directory
    /// of that server, so that these are what is restored.
    pub(super) fn may_move(&self, server: &ServerPlace, own: bool) -> bool {
        let component = &self.part.component;
        let cold = (own || self.is_whole()) && self.part.stops.contains(&server.service);
        server.component == *component
            || server.cluster.as_ref() == Some(component)
            || (cold && !server.planned)
    }

    /// What is replaced, for people.
    fn root(&self) -> String {
        self.on_node(&self.part.target.path)
    }

    fn on_node(&self, path: &Path) -> String {
        match &self.part.node {
            Some(node) => format!("{} of the node {node}", path.display()),
            None => path.display().to_string(),
        }
    }

    /// How to leave a part of it alone.
    fn hint(&self, inside: &Path) -> String {
        let component = &self.part.component;
        let here = inside.as_os_str().is_empty();
        match &self.part.target.scope {
            SwapScope::Tree { .. } | SwapScope::Paths { .. } if !here => format!(
                "add \"{}\" to `exclude` of [components.{component}], or move it elsewhere",
                inside.display()
            ),
            _ => format!(
                "move it elsewhere: what [components.{component}] names is replaced as a whole"
            ),
        }
    }

    pub(super) fn own(&self, what: &str, path: &Path, inside: &Path) -> Finding {
        Finding::error(
            "plan.own_inside",
            &self.part.component,
            format!(
                "{what} ({}) lies in {}, which the run replaces: it would be moved away with the old data, and deleted with that",
                path.display(),
                self.root()
            ),
        )
        .hint(self.hint(inside))
    }

    pub(super) fn packed(&self, what: &str, path: &Path, inside: &Path) -> Error {
        Error::new(
            ErrorKind::Preflight,
            "backup.own_inside",
            format!(
                "{what} ({}) lies in {}, which is backed up for {}: a backup would take in what the tool itself writes there, and each one would be larger than the one before",
                path.display(),
                self.root(),
                self.part.component
            ),
        )
        .hint(self.hint(inside))
    }

    pub(super) fn overlap(&self, other: &Restored, inside: &Path) -> Finding {
        let component = &self.part.component;
        Finding::error(
            "plan.overlap",
            component,
            format!(
                "{}, which the component {} restores, lies in {}, which the run replaces for {component}: neither could be undone without the other",
                self.on_node(&other.path),
                other.component,
                self.root()
            ),
        )
        .hint(self.hint(inside))
    }

    pub(super) fn server(&self, server: &ServerPlace, inside: &Path, own: bool) -> Finding {
        let component = &self.part.component;
        let (other, service) = (&server.component, &server.service);
        let hint = match own || self.is_whole() {
            true if self.part.stops.contains(service) => {
                format!("restore one of the two at a time: --only {component}, or --only {other}")
            }
            true => format!(
                "move it elsewhere; or, where its files are what is restored, add \"{service}\" to `stops` of [components.{component}], and restore without {other}"
            ),
            false => self.hint(inside),
        };
        Finding::error(
            "plan.server_inside",
            component,
            format!(
                "{}, where the server of {other} ({service}) keeps its data or takes connections, lies in {}, which the run replaces for {component}: it would be moved away while the server works with it, and deleted with the old data",
                server.path.display(),
                self.root()
            ),
        )
        .hint(hint)
    }

    /// What in it can be neither renamed nor removed, whoever tries.
    pub(super) fn fixed(&self) -> Option<Finding> {
        let root = &self.place.path;
        let mut todo: Vec<PathBuf> = match &self.part.target.scope {
            SwapScope::Entries(names) => names.iter().map(|name| root.join(name)).collect(),
            SwapScope::Paths { paths, .. } => paths.iter().map(|path| root.join(path)).collect(),
            // Its directories stay the directories they are, and files in them are replaced.
            SwapScope::Tree { .. } => vec![root.clone()],
            SwapScope::Everything => entries(root),
        };
        todo.push(root.clone());
        let deep = matches!(
            self.part.target.scope,
            SwapScope::Tree { .. } | SwapScope::Paths { .. }
        );
        let (mut seen, mut found) = (0_usize, Vec::new());
        while let Some(path) = todo.pop()
            && seen < LOOKED_AT
        {
            seen += 1;
            let inside = path.strip_prefix(root).unwrap_or(&path);
            if !inside.as_os_str().is_empty() && !self.concerns(inside) {
                continue;
            }
            if is_fixed(&path) && !found.contains(&path) {
                found.push(path.clone());
            }
            if deep && !path.is_symlink() && path.is_dir() && (path != *root || seen == 1) {
                todo.extend(entries(&path));
            }
        }
        let shown = |path: &PathBuf| path.display().to_string();
        let named: Vec<String> = found.iter().take(NAMED).map(shown).collect();
        let first = named.first()?;
        let more = match found.len().saturating_sub(named.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let verb = if found.len() == 1 { "is" } else { "are" };
        Some(
            Finding::error(
                "plan.immutable",
                &self.part.component,
                format!(
                    "{}{more} {verb} immutable or append-only: what the run replaces cannot be moved \
                     aside",
                    named.join(", ")
                ),
            )
            .hint(format!("`chattr -i -a {first}` lets it be moved")),
        )
    }

    pub(super) fn mounted(&self, mount: &Path, inside: &Path) -> Finding {
        Finding::error(
            "plan.mount_inside",
            &self.part.component,
            format!(
                "another file system is mounted at {}, in what the run replaces: a rename cannot cross it",
                mount.display()
            ),
        )
        .hint(format!("unmount it for the restore; or {}", self.hint(inside)))
    }
}

/// What lies in a directory; nothing where it cannot be read, which its component says.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let read = std::fs::read_dir(directory);
    read.into_iter()
        .flatten()
        .flatten()
        .map(|it| it.path())
        .collect()
}

/// Whether its file system keeps it from being changed, also by root.
fn is_fixed(path: &Path) -> bool {
    let fixed = StatxAttributes::IMMUTABLE | StatxAttributes::APPEND;
    let stat = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    stat.is_ok_and(|stat| stat.stx_attributes.intersects(fixed))
}
