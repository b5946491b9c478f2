//! Services of Compose projects: what is written of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::containers::{Role, is_nameless, names, redis_data, role, short, write_components};
use super::deployment::{Deploys, real};
use super::emit::Emit;
use super::{Discovery, FoundService, local};

/// The configuration of a Docker host with Compose projects.
pub(super) fn propose(found: &Discovery, out: &mut Emit) {
    let all: Vec<&FoundService> = found.compose_services.iter().filter(|it| !it.job).collect();
    let main = main_project(&all);
    // By a name that is its own among all projects.
    let keyed: Vec<(FoundService, String)> = all
        .iter()
        .map(|it| {
            let twins = all.iter().filter(|other| other.name == it.name).count();
            let mut keyed = (*it).clone();
            if twins > 1 {
                keyed.name = format!("{}-{}", it.stack.as_deref().unwrap_or_default(), it.name);
            }
            (keyed, it.name.clone())
        })
        .collect();
    let services = in_order(&keyed);
    local::head(found, &[], out);
    write_platform(found, &main, out);
    write_services(&services, &keyed, &main, out);
    let volumes = write_volumes(&services, &main, out);
    // Containers keep the image that they were made from, whatever is restored.
    let deploys = Deploys::of_projects(&all, &main);
    let trees = write_components(found, &services, &volumes, &[], deploys, out);
    write_left_out(found, &all, &trees, out);
}

/// The project with the most services.
fn main_project(services: &[&FoundService]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for it in services {
        *counts
            .entry(it.stack.as_deref().unwrap_or_default())
            .or_default() += 1;
    }
    let largest = counts.iter().rev().max_by_key(|(_, count)| **count);
    largest.map_or_else(String::new, |(name, _)| (*name).to_owned())
}

/// In the order of starting: by what they are, and after what they depend on.
fn in_order(keyed: &[(FoundService, String)]) -> Vec<(Role, &FoundService)> {
    let mut left: Vec<(Role, &FoundService)> = keyed.iter().map(|(it, _)| (role(it), it)).collect();
    left.sort_by_key(|(role, it)| (*role, it.name.as_str()));
    let mut ordered: Vec<(Role, &FoundService)> = Vec::new();
    while !left.is_empty() {
        let waits = |it: &FoundService| {
            let after = dependencies(it, keyed);
            left.iter().any(|(_, other)| after.contains(&other.name))
        };
        // Of some that depend on each other the first is as good as any.
        let next = left.iter().position(|(_, it)| !waits(it)).unwrap_or(0);
        ordered.push(left.remove(next));
    }
    ordered
}

/// The site's names of what a service depends on, but for itself.
fn dependencies(it: &FoundService, keyed: &[(FoundService, String)]) -> Vec<String> {
    let names = it.depends_on.iter().flatten();
    let of_project = |name: &String| {
        let found = keyed
            .iter()
            .find(|(other, own)| own == name && other.stack == it.stack);
        found.map(|(other, _)| other.name.clone())
    };
    names
        .filter_map(of_project)
        .filter(|name| *name != it.name)
        .collect()
}

fn write_platform(found: &Discovery, main: &str, out: &mut Emit) {
    out.section(&["platform"]);
    out.comment(
        "Containers of Docker Compose on this host, known by the labels that Compose gives them.",
    );
    out.text("kind", "compose");
    let projects: BTreeSet<&str> = found
        .compose_services
        .iter()
        .filter_map(|it| it.stack.as_deref())
        .collect();
    if projects.len() > 1 {
        let projects: Vec<&str> = projects.into_iter().collect();
        out.guess(&format!(
            "there are several projects: {}. This one has the most services; those of the others name theirs. \
             Take out what is none of this site's.",
            projects.join(", ")
        ));
    }
    out.text("project", main);
    let usual = Path::new("/var/run/docker.sock");
    if let Some(socket) = found.socket.as_ref().filter(|it| *it != usual) {
        out.path("socket", socket);
    }
}

fn write_services(
    services: &[(Role, &FoundService)],
    keyed: &[(FoundService, String)],
    main: &str,
    out: &mut Emit,
) {
    out.heading("services, as the compose files call them, in the order of starting");
    let stateful: Vec<String> = [
        names(services, Role::Postgres),
        names(services, Role::Redis),
    ]
    .concat();
    let mut before: BTreeSet<&str> = BTreeSet::new();
    for (role, it) in services {
        out.section(&["services", &it.name]);
        let project = it.stack.as_deref().unwrap_or_default();
        if project != main {
            out.text("project", project);
        }
        let own = keyed.iter().find(|(known, _)| known.name == it.name);
        if let Some((_, own)) = own.filter(|(_, own)| *own != it.name) {
            out.text("name", own);
        }
        let usual = match role {
            Role::Postgres => Some(5432),
            Role::Redis => Some(6379),
            _ => None,
        };
        if let Some(usual) = usual {
            out.comment(&format!("By its image, {}.", it.image));
            let port = match it.listens.as_slice() {
                [port] => *port,
                _ => usual,
            };
            out.raw("port", &port.to_string());
            out.text("ready", "tcp");
        }
        if *role == Role::Nginx {
            out.comment("Never stopped: it shows the maintenance page.");
        }
        let mut after = dependencies(it, keyed);
        after.retain(|name| before.contains(name.as_str()));
        match role {
            Role::Postgres | Role::Redis | Role::Monitoring => out.list("after", &after),
            Role::App if it.depends_on.is_some() => {
                out.comment("What it depends on, as its compose file says.");
                out.list("after", &after);
            }
            Role::App => {
                out.guess("its containers do not say what it depends on.");
                out.list("after", &stateful);
            }
            Role::Nginx => {}
        }
        before.insert(&it.name);
    }
}

/// The named volumes, and the directories that a Redis has its data in, each once: the site's name for it, and the
/// engine's, or the path. Those that the main project's compose files name need no section.
fn write_volumes(
    services: &[(Role, &FoundService)],
    main: &str,
    out: &mut Emit,
) -> Vec<(String, String)> {
    let mut volumes: BTreeMap<&str, (String, bool)> = BTreeMap::new();
    for (role, it) in services {
        if *role == Role::Redis
            && let Some(data) = redis_data(it).filter(|data| data.bind)
        {
            let name = format!("{}_data", short(&it.name, it));
            volumes.entry(data.source.as_str()).or_insert((name, false));
        }
        for mount in it
            .mounts
            .iter()
            .filter(|mount| !mount.bind && !is_nameless(&mount.source))
        {
            let known = volumes
                .values()
                .any(|(name, _)| Some(name) == mount.called.as_ref());
            let entry = match &mount.called {
                Some(called) if it.stack.as_deref() == Some(main) => (called.clone(), true),
                _ if known => (mount.source.clone(), false),
                _ => (short(&mount.source, it).to_owned(), false),
            };
            // That of the main project is what its name says without a section.
            match volumes.get_mut(mount.source.as_str()) {
                Some(kept) if !kept.1 && entry.1 => *kept = entry,
                Some(_) => {}
                None => {
                    volumes.insert(&mount.source, entry);
                }
            }
        }
    }
    let mut taken: BTreeSet<String> = volumes
        .values()
        .filter(|it| it.1)
        .map(|it| it.0.clone())
        .collect();
    let mut written = false;
    let mut named = Vec::new();
    for (engine, (name, of_main)) in volumes {
        if of_main {
            named.push((name, engine.to_owned()));
            continue;
        }
        let directory = engine.starts_with('/');
        let name = match (taken.insert(name.clone()), directory) {
            (true, _) => name,
            (false, false) => engine.to_owned(),
            (false, true) => {
                let mut others = (2_u32..).map(|number| format!("{name}_{number}"));
                let free = others.find(|other| taken.insert(other.clone()));
                free.unwrap_or_else(|| engine.to_owned())
            }
        };
        if !written {
            out.heading("volumes: those that are not the project's own");
            written = true;
        }
        out.section(&["volumes", &name]);
        if directory {
            out.text("path", engine);
        } else {
            out.text("name", engine);
            out.raw("external", "true");
        }
        named.push((name, engine.to_owned()));
    }
    named.sort();
    named
}

/// What is seen and is in no section.
fn write_left_out(
    found: &Discovery,
    services: &[&FoundService],
    trees: &[PathBuf],
    out: &mut Emit,
) {
    let trees: Vec<PathBuf> = trees.iter().map(|tree| real(tree)).collect();
    let in_it = |path: &Path| {
        let path = real(path);
        trees.iter().any(|tree| path.starts_with(tree))
    };
    let mut left: Vec<String> = Vec::new();
    let folders: BTreeSet<&Path> = services
        .iter()
        .filter_map(|it| it.described_in.as_deref())
        .collect();
    for folder in folders.into_iter().filter(|folder| !in_it(folder)) {
        left.push(format!(
            "the compose files in {}: to have them in backups, describe that directory as a component of kind \"files\", \
             which with redeploy, stack and compose also makes the project where nothing of it is left",
            folder.display()
        ));
    }
    let mut files: BTreeSet<&str> = BTreeSet::new();
    for mount in services
        .iter()
        .flat_map(|it| &it.mounts)
        .filter(|it| it.bind)
    {
        let secret = mount.target.starts_with("/run/secrets");
        let source = Path::new(&mount.source);
        let system = [
            "/etc/localtime",
            "/etc/timezone",
            "/etc/hosts",
            "/etc/resolv.conf",
        ];
        if source.is_file() && !in_it(source) && !secret && !system.contains(&mount.source.as_str())
        {
            files.insert(&mount.source);
        }
    }
    for file in files {
        left.push(format!("the single file {file}, which a service mounts: its directory can be a component of kind \"files\""));
    }
    for it in services {
        // That of a Redis is something to do.
        let data = match role(it) {
            Role::Redis => redis_data(it),
            _ => None,
        };
        let nameless = it
            .mounts
            .iter()
            .filter(|mount| !mount.bind && is_nameless(&mount.source) && Some(*mount) != data);
        for mount in nameless {
            left.push(format!(
                "the volume without a name at {} of the service {} of {}: no backup has it, and containers made anew do \
                 not find it",
                mount.target.display(),
                it.name,
                it.stack.as_deref().unwrap_or_default()
            ));
        }
    }
    for it in found.compose_services.iter().filter(|it| it.job) {
        left.push(format!(
            "the service {} of {}, whose command has come to its end",
            it.name,
            it.stack.as_deref().unwrap_or_default()
        ));
    }
    for it in &found.processes {
        let program = it.program.display();
        left.push(format!(
            "{program}, a process of this host: [services.NAME] with start, stop and status describes one"
        ));
    }
    if left.is_empty() {
        return;
    }
    out.heading("seen, and not in this file");
    for line in left {
        out.comment(&format!("- {line}."));
    }
}
