//! Whether the backup has the paths that are asked for: a run would find that out only after it has made its
//! safety backup and read the archive.

use super::preflight::Preflight;
use crate::archive::{Listed, TreePaths, list};
use crate::contract::SharedComponent;
use crate::model::{ErrorKind, Finding, Progress, Result};

/// How many members may wait to be looked at.
const DEPTH: usize = 256;
/// How many paths like the missing one are named.
const NAMED: usize = 3;
/// What is less alike than this is no misspelling.
const ALIKE: f64 = 0.85;

/// A path that is asked for, below what its component restores.
struct Wanted {
    path: String,
    there: bool,
    /// Paths of the archive that are like it, likest first.
    near: Vec<(f64, String)>,
}

impl Wanted {
    fn new(path: String) -> Self {
        Self {
            path,
            there: false,
            near: Vec::new(),
        }
    }

    /// Takes note of a path that the archive has.
    fn meet(&mut self, path: &str) {
        let below = |rest: &str| rest.is_empty() || rest.starts_with('/');
        self.there |= path.strip_prefix(self.path.as_str()).is_some_and(below);
        if self.there {
            return;
        }
        let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let likeness = match name(path) == name(&self.path) {
            true => 1.0,
            false => strsim::jaro_winkler(path, &self.path),
        };
        if likeness < ALIKE || self.near.iter().any(|(_, known)| known == path) {
            return;
        }
        let at = self.near.partition_point(|(known, _)| *known >= likeness);
        self.near.insert(at, (likeness, path.to_owned()));
        self.near.truncate(NAMED);
    }
}

impl Preflight<'_> {
    /// Refuses paths that the component's archive does not have. It is read until all are found; what is wrong
    /// with it is left to the staging to say.
    pub(super) async fn look_for_paths(
        &mut self,
        component: &SharedComponent,
        paths: &[String],
    ) -> Result<()> {
        let (name, id) = (component.name(), self.backup.id());
        let Some(contents) = component.contents().filter(|_| !paths.is_empty()) else {
            return Ok(());
        };
        let mut wanted = Vec::new();
        for path in paths {
            match contents.inside(path).await {
                // All of it: there is nothing to look for.
                Some(inside) if inside.is_empty() => return Ok(()),
                Some(inside) => wanted.push(Wanted::new(inside)),
                // The component says that it lies elsewhere.
                None => {}
            }
        }
        let archives = contents.archives(self.backup).await;
        let ([(archive, policy)], false) = (archives.as_slice(), wanted.is_empty()) else {
            return Ok(());
        };
        let found = (id.clone(), archive.clone(), paths.to_vec());
        if self.site.has_paths(&found) {
            return Ok(());
        }
        let (Ok(tree), Ok(source)) = (TreePaths::new(archive, policy), self.backup.source(archive))
        else {
            return Ok(());
        };
        let source = source.cancelled_by(self.cancel().clone());
        let (send, mut members) = tokio::sync::mpsc::channel::<Listed>(DEPTH);
        let looking = async move {
            while let Some(member) = members.recv().await {
                let path = tree.of(&member.name).unwrap_or_default();
                let path = String::from_utf8_lossy(&path);
                if !path.is_empty() {
                    wanted.iter_mut().for_each(|it| it.meet(&path));
                }
                // Nobody listens any more, and the reading ends.
                if wanted.iter().all(|it| it.there) {
                    break;
                }
            }
            wanted
        };
        let (read, wanted) = tokio::join!(list(source, Progress::hidden(), send), looking);
        let missing: Vec<&Wanted> = wanted.iter().filter(|it| !it.there).collect();
        match read {
            _ if missing.is_empty() => {
                self.site.note_paths(found);
                return Ok(());
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Err(error),
            Err(_) => return Ok(()),
            Ok(_) => {}
        }
        let missing: Vec<Finding> = missing
            .iter()
            .map(|it| {
                let near: Vec<String> = it
                    .near
                    .iter()
                    .map(|(_, path)| format!("{name}/{path}"))
                    .collect();
                let instead = match near.is_empty() {
                    true => String::new(),
                    false => format!("; it has {}", near.join(", ")),
                };
                Finding::error(
                    "plan.path_missing",
                    name,
                    format!("{archive} of backup {id} has no {}{instead}", it.path),
                )
                .hint(format!(
                    "`restore show {id} --files --only {name}` lists what it has"
                ))
            })
            .collect();
        self.findings.extend(missing);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_there_with_what_is_below_it_and_misspellings_are_near() {
        let met = |path: &str, members: &[&str]| {
            let mut wanted = Wanted::new(path.to_owned());
            members.iter().for_each(|member| wanted.meet(member));
            wanted
        };
        let members = [
            "conf.d",
            "conf.d/app.conf",
            "conf.d/other.conf",
            "html/index.html",
        ];
        for there in ["conf.d", "conf.d/app.conf", "html"] {
            assert!(met(there, &members).there, "{there}");
        }
        for (missing, near) in [
            ("conf.d/ap.conf", "conf.d/app.conf"),
            ("nginx/app.conf", "conf.d/app.conf"),
            ("conf", "conf.d"),
        ] {
            let wanted = met(missing, &members);
            assert!(!wanted.there, "{missing}");
            assert_eq!(
                wanted.near.first().map(|it| it.1.as_str()),
                Some(near),
                "{missing}"
            );
        }
        assert!(met("certificates", &members).near.is_empty());
    }
}
