//! Services of a swarm: what is written of them.

use std::path::Path;

use super::containers::{Role, names, role, short, write_components};
use super::deployment::Deploys;
use super::emit::{Emit, quoted};
use super::{Discovery, FoundService, local};

/// The configuration of a swarm's manager.
pub(super) fn propose(found: &Discovery, out: &mut Emit) {
    let mut services: Vec<(Role, &FoundService)> = found
        .services
        .iter()
        .filter(|it| !it.job)
        .map(|it| (role(it), it))
        .collect();
    services.sort_by_key(|(role, it)| (*role, it.name.as_str()));
    local::head(found, &found.compose, out);
    out.section(&["platform"]);
    out.comment("A Docker Swarm, spoken to at one of its managers: this host.");
    out.text("kind", "swarm");
    if let Some(socket) = found
        .socket
        .as_ref()
        .filter(|it| *it != Path::new("/var/run/docker.sock"))
    {
        out.path("socket", socket);
    }
    if let Some(address) = &found.address {
        out.comment(
            "With this key a run with --create puts an engine that is in no swarm into one, at this address of its host.",
        );
        out.off("advertise", &quoted(address));
    }
    write_services(&services, out);
    let volumes = write_volumes(&services, out);
    write_components(
        found,
        &services,
        &volumes,
        &names(&services, Role::App),
        Deploys::of_stacks(&found.services),
        out,
    );
}

fn write_services(services: &[(Role, &FoundService)], out: &mut Emit) {
    out.heading("services, by their exact names, in the order of starting");
    let stateful: Vec<String> = [
        names(services, Role::Postgres),
        names(services, Role::Redis),
    ]
    .concat();
    for (role, it) in services {
        out.section(&["services", &it.name]);
        match role {
            Role::Postgres | Role::Redis => {
                let port = if *role == Role::Postgres {
                    "5432"
                } else {
                    "6379"
                };
                out.comment(&format!("By its image, {}.", it.image));
                out.raw("port", port);
                out.text("ready", "tcp");
            }
            Role::App => {
                let after: Vec<&String> = stateful.iter().collect();
                out.list("after", &after);
                out.comment("It keeps trying until these are ready, as services of a swarm do.");
                out.raw("wait", "false");
            }
            Role::Monitoring => out.list("after", &[] as &[&str]),
            Role::Nginx => out.comment("Never stopped: it shows the maintenance page."),
        }
    }
}

/// The named volumes, each once: the site's name for it, and the engine's.
fn write_volumes(services: &[(Role, &FoundService)], out: &mut Emit) -> Vec<(String, String)> {
    let mut volumes: Vec<(String, String)> = Vec::new();
    for (_, it) in services {
        for mount in it.mounts.iter().filter(|mount| !mount.bind) {
            if volumes.iter().any(|(_, name)| *name == mount.source) {
                continue;
            }
            let mut name = short(&mount.source, it).to_owned();
            if volumes.iter().any(|(known, _)| *known == name) {
                name.clone_from(&mount.source);
            }
            volumes.push((name, mount.source.clone()));
        }
    }
    volumes.sort();
    let renamed = || volumes.iter().filter(|(name, engine)| name != engine);
    if renamed().next().is_some() {
        out.heading("volumes: the engine's exact names");
    }
    for (name, engine) in renamed() {
        out.section(&["volumes", name]);
        out.text("name", engine);
    }
    volumes
}
