//! A project as `docker compose` makes it: containers, networks and volumes with its labels.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use restore_core::Site;
use restore_core::component::Registry;
use restore_core::config::SiteConfig;
use restore_core::platform::Platform;
use serde_json::Value;

use crate::swarm::engine::{Engine, IMAGE};

/// The engine that the tests of this module share while any of them runs.
pub fn shared() -> Arc<Engine> {
    static SHARED: Mutex<Weak<Engine>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(engine) = shared.upgrade() {
        return engine;
    }
    let engine = Arc::new(Engine::without_swarm());
    *shared = Arc::downgrade(&engine);
    engine
}

/// A process that ends when it is asked to.
pub const OBEYS: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

/// A project that lives as long as a test.
pub struct Project<'a> {
    pub engine: &'a Engine,
    pub name: &'a str,
}

impl<'a> Project<'a> {
    /// With its default network and nothing else.
    pub fn new(engine: &'a Engine, name: &'a str) -> Self {
        let project = Self { engine, name };
        let network = format!("{name}_default");
        let label = project.label();
        engine.docker(&["network", "create", "--label", &label, &network]);
        project
    }

    fn label(&self) -> String {
        format!("com.docker.compose.project={}", self.name)
    }

    /// Makes the volume that the compose file calls so; its directory.
    pub fn volume(&self, name: &str) -> PathBuf {
        let whole = format!("{}_{name}", self.name);
        self.engine.docker(&[
            "volume",
            "create",
            "--label",
            &self.label(),
            "--label",
            &format!("com.docker.compose.volume={name}"),
            &whole,
        ]);
        self.engine.volume(&whole)
    }

    /// Makes a container of a service, and does not start it; its id.
    pub fn create(&self, service: &str, number: u32, options: &[&str], argv: &[&str]) -> String {
        let network = format!("{}_default", self.name);
        let name = format!("{}-{service}-{number}", self.name);
        let labels = [
            self.label(),
            format!("com.docker.compose.service={service}"),
            format!("com.docker.compose.container-number={number}"),
            "com.docker.compose.oneoff=False".to_owned(),
            "com.docker.compose.project.working_dir=/srv/project".to_owned(),
            "com.docker.compose.project.config_files=/srv/project/compose.yml".to_owned(),
        ];
        let mut args = vec!["create", "--name", &name];
        if !options.contains(&"--network") {
            args.extend(["--network", &network, "--network-alias", service]);
        }
        for label in &labels {
            args.extend(["--label", label]);
        }
        args.extend(options);
        args.extend(argv);
        self.engine.docker(&args)
    }

    /// A container of a service that runs a shell script; its id.
    pub fn run(&self, service: &str, number: u32, options: &[&str], script: &str) -> String {
        let id = self.create(service, number, options, &[IMAGE, "sh", "-c", script]);
        self.engine.docker(&["start", &id]);
        id
    }

    /// A platform with the project's services, as another process makes it.
    pub fn platform(&self, sections: &str) -> Arc<dyn Platform> {
        self.site(sections).platform().clone()
    }

    pub fn site(&self, sections: &str) -> Site {
        site(self.engine, self.name, sections)
    }

    /// The ids of the project's containers that run, in the order of their names.
    pub fn running(&self) -> Vec<String> {
        let filter = format!("label={}", self.label());
        let format = "{{.Names}} {{.ID}}";
        let args = ["ps", "--no-trunc", "--filter", &filter, "--format", format];
        let listed = self.engine.docker(&args);
        let mut lines: Vec<&str> = listed.lines().collect();
        lines.sort_unstable();
        let id = |line: &&str| line.split_once(' ').unwrap().1.to_owned();
        lines.iter().map(id).collect()
    }

    /// How a container is described, without what it does right now.
    pub fn described(&self, id: &str) -> Value {
        let mut seen: Value = serde_json::from_str(&self.engine.docker(&["inspect", id])).unwrap();
        let mut seen = seen[0].take();
        let keys = [
            "Id",
            "Name",
            "Created",
            "Image",
            "Config",
            "HostConfig",
            "Mounts",
        ];
        keys.iter()
            .map(|key| ((*key).to_owned(), seen[*key].take()))
            .collect()
    }

    pub fn policy(&self, id: &str) -> String {
        let format = "{{.HostConfig.RestartPolicy.Name}}";
        self.engine.docker(&["inspect", "-f", format, id])
    }

    /// What is kept of containers that are down.
    pub fn records(&self) -> usize {
        let folder = self
            .engine
            .folder(&format!("site-{}/state/services", self.name));
        std::fs::read_dir(folder).unwrap().count()
    }
}

/// A site over the project of this name, as another process makes it.
pub fn site(engine: &Engine, name: &str, sections: &str) -> Site {
    let folder = engine.folder(&format!("site-{name}"));
    let text = format!(
        "[site]\nname = 'tests'\nstate = 'state'\n[stores.main]\nkind = 'directory'\npath = 'backups'\n\
         [platform]\nkind = 'compose'\nproject = '{name}'\nsocket = '{}'\n[components]\n{sections}",
        engine.socket().display()
    );
    let config = SiteConfig::from_toml(&text).unwrap();
    Site::from_config(config, &folder, &Registry::default()).unwrap()
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        let filter = format!("label={}", self.label());
        let all = ["ps", "-aq", "--filter", &filter];
        let Ok(listed) = self.engine.client(&all).output() else {
            return;
        };
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        let mut remove = vec!["rm", "-f", "-v"];
        remove.extend(listed.lines());
        if remove.len() > 3 {
            let _ = self.engine.client(&remove).output();
        }
        let network = format!("{}_default", self.name);
        let _ = self.engine.client(&["network", "rm", &network]).output();
    }
}
