//! What must not lie inside what a run replaces: the tool's own things, other components, and what a server
//! that runs works with.

use std::path::{Path, PathBuf};
use std::time::Duration;

use self::mounts::{Location, Mounts};
use self::placed::{Part, Placed, Restored, ServerPlace};
use super::preflight::Preflight;
use crate::archive::path_set::PathSet;
use crate::contract::{Recovery, SharedComponent, Target};
use crate::engine::operations::Site;
use crate::model::{Error, ErrorKind, Finding, Result};
use crate::swap::scope::SwapScope;

mod mounts;
mod placed;

/// How long a server may take to say where its files are.
const ANSWER: Duration = Duration::from_secs(5);

/// Where to look, and what for.
#[derive(Default)]
struct Search {
    parts: Vec<Part>,
    own: Vec<(String, PathBuf)>,
    restored: Vec<Restored>,
    servers: Vec<ServerPlace>,
}

impl Preflight<'_> {
    /// Refuses a run that would move what it needs itself (stores, state, its configuration), what another component
    /// restores, or what a server works with that runs, away with the data that it replaces. A drill replaces nothing.
    pub(super) async fn look_inside(&mut self, planned: &[(String, Vec<String>)]) -> Result<()> {
        if !self.request.drill {
            self.findings.extend(inside(self.site, planned).await?);
        }
        Ok(())
    }
}

/// Whether a swap of this scope moves what is `inside` of its directory.
pub(crate) fn moves(scope: &SwapScope, inside: &Path) -> bool {
    let kept = |keep: &[String]| {
        let keep = PathSet::new(keep).unwrap_or_default();
        inside
            .ancestors()
            .any(|it| !it.as_os_str().is_empty() && keep.holds(it))
    };
    match scope {
        SwapScope::Everything => true,
        SwapScope::Entries(names) => names.iter().any(|name| inside.starts_with(name)),
        SwapScope::Tree { keep } => !kept(keep),
        SwapScope::Paths { paths, keep } => {
            !kept(keep) && paths.iter().any(|path| inside.starts_with(path))
        }
    }
}

/// Whether a run that replaces this replaces what is at a path, or something below it.
pub(crate) fn replaces(target: &Target, path: &Path) -> bool {
    let whole = path.strip_prefix(&target.path);
    if whole.is_ok_and(|inside| moves(&target.scope, inside)) {
        return true;
    }
    match &target.scope {
        SwapScope::Everything | SwapScope::Tree { .. } => target.path.starts_with(path),
        SwapScope::Entries(names) | SwapScope::Paths { paths: names, .. } => names
            .iter()
            .any(|name| target.path.join(name).starts_with(path)),
    }
}

/// What must not lie inside of what these components, each of these paths only, replace in one run.
async fn inside(site: &Site, planned: &[(String, Vec<String>)]) -> Result<Vec<Finding>> {
    look(site, planned, planned).await
}

/// As [`inside`], for all components of the site, each of which is restored in a run of its own: two of them may be
/// there for the same data, as a dump of a database and a cold copy of its server's files are.
pub(crate) async fn inside_any(site: &Site) -> Result<Vec<Finding>> {
    let of = |component: &SharedComponent| (component.name().to_owned(), Vec::new());
    let all: Vec<_> = site.components().iter().map(of).collect();
    look(site, &all, &[]).await
}

/// What must not lie inside of what these components replace, `together` with these others.
async fn look(
    site: &Site,
    planned: &[(String, Vec<String>)],
    together: &[(String, Vec<String>)],
) -> Result<Vec<Finding>> {
    let mut search = Search {
        own: site.own_paths(),
        ..Search::default()
    };
    for component in site.components() {
        let name = component.name();
        let all = parts_of(component, &[]).await;
        search.restored.extend(all.iter().flat_map(places));
        let Some((_, paths)) = planned.iter().find(|(it, _)| it == name) else {
            continue;
        };
        search.parts.extend(match paths.is_empty() {
            true => all,
            false => parts_of(component, paths).await,
        });
    }
    search.servers = servers(site, together, &search.parts).await;
    looked(move || search.find()).await
}

/// Refuses to back these components up where the state or a store of this host lies in what is packed.
pub(crate) async fn ensure_not_in_itself(
    site: &Site,
    components: &[SharedComponent],
) -> Result<()> {
    let mut search = Search {
        own: site.written_paths(),
        ..Search::default()
    };
    for component in components {
        let parts = parts_of(component, &[]).await.into_iter();
        search
            .parts
            .extend(parts.filter(|part| part.node.is_none()));
    }
    match looked(move || search.packed()).await? {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Looks at files off the async threads.
async fn looked<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(look).await.map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "plan.task",
            format!("looking at targets ended early: {e}"),
        )
    })
}

/// What a component replaces, restored as a whole or only these paths of it. Whatever keeps it from being told, its
/// inspection says.
async fn parts_of(component: &SharedComponent, paths: &[String]) -> Vec<Part> {
    let here = component.targets(paths).await.unwrap_or_default();
    let elsewhere = component.targets_elsewhere(paths).await.unwrap_or_default();
    let here = here.into_iter().map(|target| (None, target));
    let elsewhere = elsewhere
        .into_iter()
        .map(|(node, target)| (Some(node), target));
    here.chain(elsewhere)
        .map(|(node, target)| Part {
            component: component.name().to_owned(),
            stops: component.stops(),
            node,
            target,
        })
        .collect()
}

/// The places that a part stands for.
fn places(part: &Part) -> Vec<Restored> {
    let at = |path: PathBuf| Restored {
        component: part.component.clone(),
        node: part.node.clone(),
        path,
    };
    let root = &part.target.path;
    match &part.target.scope {
        SwapScope::Entries(names) => names.iter().map(|name| at(root.join(name))).collect(),
        _ => vec![at(root.clone())],
    }
}

/// Where the servers work that components are restored into, of those that these parts could take something from.
async fn servers(
    site: &Site,
    planned: &[(String, Vec<String>)],
    parts: &[Part],
) -> Vec<ServerPlace> {
    let asked = site.components().iter().map(|component| async move {
        let is_foreign = |part: &Part| part.node.is_none() && part.component != component.name();
        if !parts.iter().any(is_foreign) {
            return Vec::new();
        }
        match tokio::time::timeout(ANSWER, component.lives_in()).await {
            Ok(Ok(places)) => places,
            // One that is down works with nothing.
            _ => Vec::new(),
        }
    });
    let told = futures_util::future::join_all(asked).await;
    let mut found = Vec::new();
    for (component, places) in site.components().iter().zip(told) {
        let name = component.name();
        for (service, path) in places {
            found.push(ServerPlace {
                component: name.to_owned(),
                planned: planned.iter().any(|(it, _)| it == name),
                cluster: match component.recovery() {
                    Recovery::PartOf(cluster) => Some(cluster),
                    _ => None,
                },
                service,
                path,
            });
        }
    }
    found
}

impl Search {
    /// Everything inside of the parts that must not be.
    fn find(&self) -> Vec<Finding> {
        let mounts = Mounts::read();
        let mut findings = Vec::new();
        for part in &self.parts {
            match &part.node {
                Some(_) => self.find_by_name(part, &mut findings),
                None => self.find_here(part, &mounts, &mut findings),
            }
        }
        findings
    }

    fn find_here(&self, part: &Part, mounts: &Mounts, findings: &mut Vec<Finding>) {
        let Some(placed) = Placed::here(part, mounts) else {
            return;
        };
        for (what, path) in &self.own {
            if let Some(inside) = placed.holds(mounts, path) {
                findings.push(placed.own(what, path, &inside));
            }
        }
        let others = |it: &&Restored| it.node.is_none() && it.component != part.component;
        for other in self.restored.iter().filter(others) {
            if let Some(inside) = placed.holds(mounts, &other.path) {
                findings.push(placed.overlap(other, &inside));
            }
        }
        // Whether the part is a directory of this server, and not one in which something of it lies.
        let is_own = |service: &str| {
            let mut places = self.servers.iter().filter(|it| it.service == service);
            places.any(|it| {
                let inside = placed.holds(mounts, &it.path);
                inside.is_some_and(|inside| inside.as_os_str().is_empty())
            })
        };
        let mut told: Vec<&Path> = Vec::new();
        for server in &self.servers {
            // Two databases may be of one server.
            if told.contains(&server.path.as_path()) {
                continue;
            }
            if let Some(inside) = placed.holds(mounts, &server.path) {
                let own = is_own(&server.service);
                if !placed.may_move(server, own) {
                    findings.push(placed.server(server, &inside, own));
                    told.push(&server.path);
                }
            }
        }
        findings.extend(placed.fixed());
        for mount in mounts.below(&placed.place.path) {
            let Ok(inside) = mount.strip_prefix(&placed.place.path) else {
                continue;
            };
            let is_restored = |it: &Restored| it.node.is_none() && it.path == *mount;
            if placed.concerns(inside) && !self.restored.iter().any(is_restored) {
                findings.push(placed.mounted(mount, inside));
            }
        }
    }

    /// As `find_here`, on another machine, of which only names of paths are known.
    fn find_by_name(&self, part: &Part, findings: &mut Vec<Finding>) {
        let placed = Placed {
            part,
            place: Location::named(&part.target.path),
        };
        let others = |it: &&Restored| it.node == part.node && it.component != part.component;
        for other in self.restored.iter().filter(others) {
            let inside = Location::named(&other.path).below(&placed.place);
            if let Some(inside) = inside.filter(|inside| placed.concerns(inside)) {
                findings.push(placed.overlap(other, &inside));
            }
        }
    }

    /// Why the parts cannot be packed: what the tool writes itself is in them.
    fn packed(&self) -> Option<Error> {
        let mounts = Mounts::read();
        self.parts.iter().find_map(|part| {
            let placed = Placed::here(part, &mounts)?;
            self.own.iter().find_map(|(what, path)| {
                // A link in it is packed as a link, wherever it leads.
                let inside = mounts.steps(path).pop()?.below(&placed.place)?;
                placed
                    .concerns(&inside)
                    .then(|| placed.packed(what, path, &inside))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(path: &Path, keep: &[&str]) -> (String, Target) {
        let keep = keep.iter().map(|it| (*it).to_owned()).collect();
        let scope = SwapScope::Tree { keep };
        ("app".to_owned(), Target::new(path, scope))
    }

    fn part((component, target): (String, Target)) -> Part {
        Part {
            component,
            stops: Vec::new(),
            node: None,
            target,
        }
    }

    fn restored(component: &str, node: Option<&str>, path: &Path) -> Restored {
        Restored {
            component: component.to_owned(),
            node: node.map(str::to_owned),
            path: path.to_owned(),
        }
    }

    fn found(search: &Search) -> Vec<String> {
        search.find().into_iter().map(|it| it.code).collect()
    }

    fn codes(targets: &[(String, Target)], own: &Path, others: &[(&str, &Path)]) -> Vec<String> {
        found(&Search {
            parts: targets.iter().cloned().map(part).collect(),
            own: vec![("the store main".to_owned(), own.to_owned())],
            restored: others
                .iter()
                .map(|(name, path)| restored(name, None, path))
                .collect(),
            ..Search::default()
        })
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
    fn a_part_of_what_is_replaced_is_told() {
        let conf = Path::new("/srv/nginx/conf.d");
        let whole = |at: &str, keep: &[&str]| replaces(&tree(Path::new(at), keep).1, conf);
        assert!(whole("/srv/nginx", &["logs"]));
        assert!(whole("/srv/nginx/conf.d", &[]));
        assert!(whole("/srv/nginx/conf.d/sites", &[]));
        assert!(!whole("/srv/nginx", &["conf.d"]));
        assert!(!whole("/srv/nginx/conf", &[]));
        assert!(!whole("/srv/app", &[]));
        let part = |path: &str| {
            let scope = SwapScope::Paths {
                paths: vec![path.to_owned()],
                keep: Vec::new(),
            };
            replaces(&Target::new("/srv/nginx", scope), conf)
        };
        assert!(part("conf.d") && part("conf.d/app.conf"));
        assert!(!part("mime.types"));
        let entries = SwapScope::Entries(vec!["conf.d".to_owned()]);
        assert!(replaces(&Target::new("/srv/nginx", entries), conf));
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

    /// What a running server works with stays; the files of one that is down for that may be restored as files.
    #[test]
    fn what_a_server_works_with_is_not_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let app = root.join("app");
        let data = app.join("pg");
        std::fs::create_dir_all(&data).unwrap();
        let at = |path: &Path, planned: bool| ServerPlace {
            component: "shop".to_owned(),
            planned,
            cluster: Some("cluster".to_owned()),
            service: "postgres".to_owned(),
            path: path.to_owned(),
        };
        let of = |part: Part, path: &Path, planned: bool| {
            let search = Search {
                parts: vec![part],
                servers: vec![at(path, planned), at(path, planned)],
                ..Search::default()
            };
            search.find()
        };
        let told = |part: Part, planned: bool| {
            let findings = of(part, &data, planned).into_iter();
            findings
                .map(|it| (it.code, it.hint.unwrap()))
                .collect::<Vec<_>>()
        };
        let refused = |hint: &str| vec![("plan.server_inside".to_owned(), hint.to_owned())];

        let exclude = refused("add \"pg\" to `exclude` of [components.app], or move it elsewhere");
        assert_eq!(told(part(tree(&app, &[])), false), exclude);
        assert!(told(part(tree(&app, &["pg"])), false).is_empty());
        assert!(told(part(tree(&root.join("other"), &[])), false).is_empty());
        let message = of(part(tree(&app, &[])), &data, true).remove(0).message;
        let (pg, app_path) = (data.display(), app.display());
        assert!(
            message.starts_with(&format!(
                "{pg}, where the server of shop (postgres) keeps its data or takes connections, lies in {app_path}, \
                 which the run replaces for app"
            )),
            "{message}"
        );
        // A link that leads in.
        std::os::unix::fs::symlink(&data, root.join("link")).unwrap();
        let link = root.join("link");
        assert_eq!(of(part(tree(&app, &[])), &link, false).len(), 1);

        let volume = |stops: &[&str]| Part {
            component: "v".to_owned(),
            stops: stops.iter().map(|it| (*it).to_owned()).collect(),
            node: None,
            target: Target::new(&data, SwapScope::Everything),
        };
        assert!(told(volume(&["postgres"]), false).is_empty(), "a cold copy");
        assert_eq!(
            told(volume(&["postgres"]), true),
            refused("restore one of the two at a time: --only v, or --only shop")
        );
        // So are the files of a server as a tree, if that is all of them: one that it lies in has others.
        let files = |path: &Path, stops: &[&str]| Part {
            stops: stops.iter().map(|it| (*it).to_owned()).collect(),
            ..part(tree(path, &[]))
        };
        assert!(told(files(&data, &["postgres"]), false).is_empty());
        assert_eq!(
            told(files(&data, &["postgres"]), true),
            refused("restore one of the two at a time: --only app, or --only shop")
        );
        let running = told(files(&data, &[]), false);
        assert!(
            running[0]
                .1
                .contains("\"postgres\" to `stops` of [components.app]"),
            "{running:?}"
        );
        assert_eq!(told(files(&app, &["postgres"]), false), exclude);
        let running = told(volume(&[]), false);
        assert!(
            running[0]
                .1
                .contains("\"postgres\" to `stops` of [components.v]"),
            "{running:?}"
        );
        let cluster = Part {
            component: "cluster".to_owned(),
            ..volume(&[])
        };
        assert!(told(cluster, true).is_empty(), "it knows of its databases");
    }

    /// Of other machines only the names of paths are known.
    #[test]
    fn parts_of_one_node_do_not_overlap() {
        let app = Path::new("/srv/app");
        let on = |node: &str, keep: &[&str]| Search {
            parts: vec![Part {
                node: Some(node.to_owned()),
                ..part(tree(app, keep))
            }],
            own: vec![("the store main".to_owned(), app.join("store"))],
            restored: vec![
                restored("app", Some("w1"), app),
                restored("v", Some("w1"), &app.join("data")),
                restored("here", None, &app.join("data")),
                restored("apple", Some("w1"), Path::new("/srv/apple")),
            ],
            ..Search::default()
        };
        let told = on("w1", &[]).find();
        let codes: Vec<&str> = told.iter().map(|it| it.code.as_str()).collect();
        assert_eq!(codes, ["plan.overlap"]);
        assert_eq!(
            told[0].message,
            "/srv/app/data of the node w1, which the component v restores, lies in /srv/app of the node w1, which the \
             run replaces for app: neither could be undone without the other"
        );
        assert_eq!(found(&on("w1", &["data"])), [""; 0]);
        assert_eq!(found(&on("w2", &[])), [""; 0]);
    }

    /// What the tool writes must not be packed; a link to it may be.
    #[test]
    fn what_is_written_meanwhile_is_not_packed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (app, store) = (root.join("app"), root.join("store"));
        std::fs::create_dir_all(app.join("own")).unwrap();
        std::fs::create_dir(&store).unwrap();
        std::os::unix::fs::symlink(&store, app.join("link")).unwrap();
        let of = |keep: &[&str], own: &Path| {
            let search = Search {
                parts: vec![part(tree(&app, keep))],
                own: vec![("the store main".to_owned(), own.to_owned())],
                ..Search::default()
            };
            search.packed().map(|error| error.code().to_owned())
        };
        let refused = Some("backup.own_inside".to_owned());
        assert_eq!(of(&[], &app.join("own/backups")), refused);
        assert_eq!(of(&["own"], &app.join("own/backups")), None);
        assert_eq!(of(&[], &app.join("link")), None);
        assert_eq!(of(&[], &store), None);
    }
}
