//! What must not lie inside what a run replaces: the tool's own things, and other components.

use std::collections::VecDeque;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component as Part, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};

use super::preflight::Preflight;
use crate::archive::path_set::PathSet;
use crate::contract::Target;
use crate::model::{Error, Finding, Result};
use crate::swap::scope::SwapScope;

/// How many of what cannot be moved are named.
const NAMED: usize = 5;
/// How many entries of one target are looked at for it.
const LOOKED_AT: usize = 200_000;

/// How many links one name may lead through.
const LINKS: usize = 40;

/// A target of a component, and where it really is.
struct Placed {
    component: String,
    target: Target,
    place: Location,
}

impl Preflight<'_> {
    /// Refuses a run that would move what it needs itself (stores, state, its configuration), or what another
    /// component restores, away with the data that it replaces. A drill replaces nothing.
    pub(super) async fn look_inside(&mut self, planned: &[(String, Vec<String>)]) -> Result<()> {
        if self.request.drill {
            return Ok(());
        }
        let mut targets = Vec::new();
        let mut others = Vec::new();
        for component in self.site.components() {
            let name = component.name();
            let paths = planned.iter().find(|(it, _)| it == name);
            // Whatever keeps it from being told, its inspection says.
            let all = component.targets(&[]).await.unwrap_or_default();
            others.extend(all.iter().flat_map(|target| {
                let places = match &target.scope {
                    SwapScope::Entries(names) => {
                        names.iter().map(|name| target.path.join(name)).collect()
                    }
                    _ => vec![target.path.clone()],
                };
                places.into_iter().map(|path| (name.to_owned(), path))
            }));
            if let Some((_, paths)) = paths {
                let own = match paths.is_empty() {
                    true => all,
                    false => component.targets(paths).await.unwrap_or_default(),
                };
                targets.extend(own.into_iter().map(|target| (name.to_owned(), target)));
            }
        }
        let own = self.site.own_paths();
        let found = tokio::task::spawn_blocking(move || find(targets, &own, &others)).await;
        let found = found.map_err(|e| {
            Error::new(
                crate::model::ErrorKind::Internal,
                "plan.task",
                format!("looking at targets ended early: {e}"),
            )
        })?;
        self.findings.extend(found);
        Ok(())
    }
}

/// Everything inside of the targets that must not be.
fn find(
    targets: Vec<(String, Target)>,
    own: &[(String, PathBuf)],
    others: &[(String, PathBuf)],
) -> Vec<Finding> {
    let mounts = Mounts::read();
    let mut findings = Vec::new();
    for (component, target) in targets {
        let Some(place) = mounts.steps(&target.path).pop() else {
            continue;
        };
        let placed = Placed {
            component,
            target,
            place,
        };
        for (what, path) in own {
            if let Some(inside) = placed.holds(&mounts, path) {
                findings.push(placed.own(what, path, &inside));
            }
        }
        for (other, path) in others
            .iter()
            .filter(|(other, _)| *other != placed.component)
        {
            if let Some(inside) = placed.holds(&mounts, path) {
                findings.push(placed.overlap(other, path, &inside));
            }
        }
        findings.extend(placed.fixed());
        for mount in mounts.below(&placed.place.path) {
            let Ok(inside) = mount.strip_prefix(&placed.place.path) else {
                continue;
            };
            if placed.concerns(inside) && !others.iter().any(|(_, path)| path == mount) {
                findings.push(placed.mounted(mount, inside));
            }
        }
    }
    findings
}

impl Placed {
    /// Where in it `path` is, or a link that leads to it; `None` where it would not be moved.
    fn holds(&self, mounts: &Mounts, path: &Path) -> Option<PathBuf> {
        mounts.steps(path).into_iter().find_map(|step| {
            let inside = step.below(&self.place)?;
            self.concerns(&inside).then_some(inside)
        })
    }

    /// Whether the run moves what is there in it.
    fn concerns(&self, inside: &Path) -> bool {
        let kept = |keep: &[String]| {
            let keep = PathSet::new(keep).unwrap_or_default();
            inside
                .ancestors()
                .any(|it| !it.as_os_str().is_empty() && keep.holds(it))
        };
        match &self.target.scope {
            SwapScope::Everything => true,
            SwapScope::Entries(names) => names.iter().any(|name| inside.starts_with(name)),
            SwapScope::Tree { keep } => !kept(keep),
            SwapScope::Paths { paths, keep } => {
                !kept(keep) && paths.iter().any(|path| inside.starts_with(path))
            }
        }
    }

    /// How to leave a part of it alone.
    fn hint(&self, inside: &Path) -> String {
        let component = &self.component;
        let here = inside.as_os_str().is_empty();
        match &self.target.scope {
            SwapScope::Tree { .. } | SwapScope::Paths { .. } if !here => format!(
                "add \"{}\" to `exclude` of [components.{component}], or move it elsewhere",
                inside.display()
            ),
            _ => format!(
                "move it elsewhere: what [components.{component}] names is replaced as a whole"
            ),
        }
    }

    fn own(&self, what: &str, path: &Path, inside: &Path) -> Finding {
        let root = self.target.path.display();
        Finding::error(
            "plan.own_inside",
            &self.component,
            format!(
                "{what} ({}) lies in {root}, which the run replaces: it would be moved away with the old data, and deleted with that",
                path.display()
            ),
        )
        .hint(self.hint(inside))
    }

    fn overlap(&self, other: &str, path: &Path, inside: &Path) -> Finding {
        let root = self.target.path.display();
        Finding::error(
            "plan.overlap",
            &self.component,
            format!(
                "{}, which the component {other} restores, lies in {root}, which the run replaces for {}: neither could be undone without the other",
                path.display(),
                self.component
            ),
        )
        .hint(self.hint(inside))
    }

    /// What in it can be neither renamed nor removed, whoever tries.
    fn fixed(&self) -> Option<Finding> {
        let root = &self.place.path;
        let mut todo: Vec<PathBuf> = match &self.target.scope {
            SwapScope::Entries(names) => names.iter().map(|name| root.join(name)).collect(),
            SwapScope::Paths { paths, .. } => paths.iter().map(|path| root.join(path)).collect(),
            // Its directories stay the directories they are, and files in them are replaced.
            SwapScope::Tree { .. } => vec![root.clone()],
            SwapScope::Everything => entries(root),
        };
        todo.push(root.clone());
        let deep = matches!(
            self.target.scope,
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
                &self.component,
                format!(
                    "{}{more} {verb} immutable or append-only: what the run replaces cannot be moved \
                     aside",
                    named.join(", ")
                ),
            )
            .hint(format!("`chattr -i -a {first}` lets it be moved")),
        )
    }

    fn mounted(&self, mount: &Path, inside: &Path) -> Finding {
        Finding::error(
            "plan.mount_inside",
            &self.component,
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

/// A path without links, on its file system.
#[derive(Clone, Debug)]
struct Location {
    path: PathBuf,
    /// The device and the path on it, which is one whichever mount leads there.
    on_device: Option<(String, PathBuf)>,
}

impl Location {
    /// Where in `other` it is.
    fn below(&self, other: &Self) -> Option<PathBuf> {
        if let Ok(inside) = self.path.strip_prefix(&other.path) {
            return Some(inside.to_owned());
        }
        let ((device, path), (other, root)) = (self.on_device.as_ref()?, other.on_device.as_ref()?);
        match device == other {
            true => path.strip_prefix(root).ok().map(PathBuf::from),
            false => None,
        }
    }
}

/// What is mounted where.
#[derive(Default)]
struct Mounts(Vec<Mount>);

struct Mount {
    device: String,
    root: PathBuf,
    at: PathBuf,
}

impl Mounts {
    fn read() -> Self {
        Self::parse(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
    }

    fn parse(table: &[u8]) -> Self {
        let path = |field: &[u8]| PathBuf::from(std::ffi::OsString::from_vec(unescape(field)));
        let lines = table.split(|byte| *byte == b'\n');
        Self(
            lines
                .filter_map(|line| {
                    let mut fields = line.split(|byte| *byte == b' ').skip(2);
                    Some(Mount {
                        device: String::from_utf8_lossy(fields.next()?).into_owned(),
                        root: path(fields.next()?),
                        at: path(fields.next()?),
                    })
                })
                .collect(),
        )
    }

    /// Mount points strictly below a path.
    fn below(&self, root: &Path) -> impl Iterator<Item = &PathBuf> {
        self.0
            .iter()
            .map(|mount| &mount.at)
            .filter(move |at| at.starts_with(root) && *at != root)
    }

    fn place(&self, path: PathBuf) -> Location {
        let over = self.0.iter().filter(|mount| path.starts_with(&mount.at));
        // Of several at one place the last one is seen.
        let mount = over.max_by_key(|mount| mount.at.components().count());
        let on_device = mount.and_then(|mount| {
            let rest = path.strip_prefix(&mount.at).ok()?;
            Some((mount.device.clone(), mount.root.join(rest)))
        });
        Location { path, on_device }
    }

    /// Every place that a path leads through: itself up to each link, and at last where it ends. A link that is
    /// moved away breaks the path as surely as its end.
    fn steps(&self, path: &Path) -> Vec<Location> {
        let mut todo: VecDeque<PathBuf> = parts(path);
        let mut done = PathBuf::from("/");
        let mut steps = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            if part.as_os_str() == ".." {
                done.pop();
                continue;
            }
            let next = done.join(&part);
            match std::fs::read_link(&next) {
                Ok(to) if links < LINKS => {
                    links += 1;
                    steps.push(self.place(next));
                    if to.is_absolute() {
                        done = PathBuf::from("/");
                    }
                    for part in parts(&to).into_iter().rev() {
                        todo.push_front(part);
                    }
                }
                _ => done = next,
            }
        }
        steps.push(self.place(done));
        steps
    }
}

/// The names in a path, without what means the same directory.
fn parts(path: &Path) -> VecDeque<PathBuf> {
    path.components()
        .filter(|part| matches!(part, Part::Normal(_) | Part::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}

/// Blanks and backslashes are `\040` and the like in the mount table.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let code = tail
            .get(..3)
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match (byte, code) {
            (b'\\', Some(code)) => {
                out.push(code);
                rest = tail.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(path: &Path, keep: &[&str]) -> (String, Target) {
        let keep = keep.iter().map(|it| (*it).to_owned()).collect();
        let scope = SwapScope::Tree { keep };
        ("app".to_owned(), Target::new(path, scope))
    }

    fn codes(targets: &[(String, Target)], own: &Path, others: &[(&str, &Path)]) -> Vec<String> {
        let others: Vec<(String, PathBuf)> = others
            .iter()
            .map(|(name, path)| ((*name).to_owned(), path.to_path_buf()))
            .collect();
        let own = [("the store main".to_owned(), own.to_owned())];
        find(targets.to_vec(), &own, &others)
            .into_iter()
            .map(|finding| finding.code)
            .collect()
    }

    #[test]
    fn own_things_are_found_through_links_and_may_be_excluded() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (app, elsewhere) = (root.join("app"), root.join("elsewhere"));
        std::fs::create_dir_all(app.join("data/store")).unwrap();
        std::fs::create_dir(&elsewhere).unwrap();
        let all = [tree(&app, &[])];
        let inside = ["plan.own_inside"];
        assert_eq!(codes(&all, &app.join("data/store"), &[]), inside);
        assert_eq!(codes(&all, &app, &[]), inside);
        assert_eq!(codes(&all, &app.join("not/there/yet"), &[]), inside);
        assert_eq!(codes(&all, &elsewhere, &[]), [""; 0]);
        assert_eq!(codes(&all, &root, &[]), [""; 0]);
        // A link outside that leads in, and one inside that leads out.
        std::os::unix::fs::symlink(app.join("data"), elsewhere.join("link")).unwrap();
        assert_eq!(codes(&all, &elsewhere.join("link/store"), &[]), inside);
        std::os::unix::fs::symlink(&elsewhere, app.join("out")).unwrap();
        assert_eq!(codes(&all, &app.join("out/store"), &[]), inside);
        let kept = [tree(&app, &["data"])];
        assert_eq!(codes(&kept, &app.join("data/store"), &[]), [""; 0]);
        let part = SwapScope::Paths {
            paths: vec!["data/store/x".to_owned()],
            keep: Vec::new(),
        };
        let part = [("app".to_owned(), Target::new(&app, part))];
        assert_eq!(codes(&part, &app.join("data/store"), &[]), [""; 0]);
        assert_eq!(codes(&part, &app.join("data/store/x/y"), &[]), inside);
        let entries = SwapScope::Entries(vec!["dump.rdb".to_owned()]);
        let entries = [("redis".to_owned(), Target::new(&app, entries))];
        assert_eq!(codes(&entries, &app.join("data"), &[]), [""; 0]);
    }

    #[test]
    fn components_do_not_overlap() {
        let dir = tempfile::tempdir().unwrap();
        let app = dir.path().join("app");
        let data = app.join("data");
        std::fs::create_dir_all(&data).unwrap();
        let free = dir.path().join("free");
        let of = |keep: &[&str]| codes(&[tree(&app, keep)], &free, &[("v", &data), ("app", &app)]);
        assert_eq!(of(&[]), ["plan.overlap"]);
        assert_eq!(of(&["data"]), [""; 0]);
    }

    #[test]
    fn a_bind_mount_leads_to_the_same_place() {
        let table = b"1 0 8:1 / / rw - ext4 x rw\n2 1 8:1 /srv/app/data /mnt/da\\040ta rw - ext4 x rw\n3 1 8:2 / /home rw - ext4 y rw\n";
        let mounts = Mounts::parse(table);
        let app = mounts.place("/srv/app".into());
        let inside = |path: &str| mounts.place(path.into()).below(&app);
        assert_eq!(inside("/mnt/da ta/x"), Some("data/x".into()));
        assert_eq!(inside("/srv/app/y"), Some("y".into()));
        assert_eq!(inside("/srv/apple"), None);
        assert_eq!(inside("/home/srv/app"), None);
        let below: Vec<_> = mounts.below(Path::new("/mnt")).collect();
        assert_eq!(below, [Path::new("/mnt/da ta")]);
    }
}
