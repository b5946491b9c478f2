//! A whole platform, its backup, and what it is before a restore.

use std::time::{Duration, Instant};

use restore_core::run::Outcome;
use restore_core::{PlanRequest, Report, RunOptions, Site};
use restore_testing::{Ended as _, Swarm, assert_same, crash};

pub struct Ground {
    pub swarm: Swarm,
    /// The runbook's backup of it.
    pub backup: String,
    pub at_backup: String,
    /// What it held when the runs began that are tried: the same where nothing is damaged.
    pub damaged: String,
}

impl Ground {
    /// A platform that was backed up and then damaged, with these options.
    pub fn new(options: &[&str]) -> Self {
        let mut ground = Self::whole(options);
        ground.damage();
        ground
    }

    /// The same without images in the backup, which take the most time.
    pub fn without_images(options: &[&str]) -> Self {
        let mut ground = Self::made(options, Swarm::back_up_without_images);
        ground.damage();
        ground
    }

    /// A platform that was backed up and is as it was then.
    pub fn whole(options: &[&str]) -> Self {
        Self::made(options, Swarm::back_up)
    }

    fn made(options: &[&str], back_up: fn(&Swarm) -> String) -> Self {
        let swarm = Swarm::with(200, 1, options);
        // Not the five that the compose file says.
        swarm.docker(&["service", "scale", "--detach", "hosting_app=2"]);
        let ground = Self {
            backup: back_up(&swarm),
            at_backup: String::new(),
            damaged: String::new(),
            swarm,
        };
        until("two replicas run", || {
            ground.containers("hosting_app").len() == 2
        });
        let at_backup = ground.swarm.fingerprint();
        Self {
            damaged: at_backup.clone(),
            at_backup,
            ..ground
        }
    }

    /// The containers of a service that run.
    pub fn containers(&self, service: &str) -> Vec<String> {
        let filter = format!("label=com.docker.swarm.service.name={service}");
        let listed = self
            .swarm
            .docker(&["ps", "-q", "--no-trunc", "--filter", &filter]);
        listed.lines().map(str::to_owned).collect()
    }

    /// What the database's own client prints of a statement.
    pub fn sql(&self, sql: &str) -> String {
        let id = self.containers("hosting_postgres").remove(0);
        let args = ["exec", &id, "psql", "-XAtq", "-U", "hosting_user"];
        let rest = ["-d", "hosting_db", "-c", sql];
        let all: Vec<&str> = args.into_iter().chain(rest).collect();
        self.swarm.docker(&all).trim().to_owned()
    }

    /// How the services of the stack are described.
    pub fn specs(&self) -> String {
        let names = self
            .swarm
            .docker(&["service", "ls", "--format", "{{.Name}}"]);
        let mut names: Vec<&str> = names.lines().collect();
        names.sort_unstable();
        let mut args = vec!["service", "inspect", "-f", "{{json .Spec}}"];
        args.extend(names);
        self.swarm.docker(&args)
    }

    /// Damages every part. What holds something open is started anew, as after a reboot: else it
    /// would go on with that, and no undo could make that so again.
    pub fn damage(&mut self) {
        self.swarm.damage();
        self.damaged = self.swarm.fingerprint();
        assert_ne!(self.at_backup, self.damaged);
    }

    pub async fn site(&self) -> Site {
        Site::open(&self.swarm.config()).await.unwrap()
    }

    /// A site whose configuration has something more.
    pub async fn site_with(&self, more: &str) -> Site {
        self.site_but(|text| format!("{text}\n{more}\n")).await
    }

    /// What is not restored goes on failing its checks: that need not take long to be seen.
    pub async fn impatient_site(&self) -> Site {
        self.site_but(|text| text.replace("timeout = \"20s\"", "timeout = \"8s\""))
            .await
    }

    /// A site whose configuration is changed.
    pub async fn site_but(&self, change: impl FnOnce(&str) -> String) -> Site {
        let before = std::fs::read_to_string(self.swarm.config()).unwrap();
        let after = change(&before);
        assert_ne!(before, after, "the change fits nothing in restore.toml");
        let path = self.swarm.root().join("other.toml");
        std::fs::write(&path, after).unwrap();
        Site::open(&path).await.unwrap()
    }

    /// A run of the runbook's backup.
    pub async fn run(&self, site: &Site, request: PlanRequest, options: RunOptions) -> Report {
        self.run_of(&self.backup, site, request, options).await
    }

    pub async fn run_of(
        &self,
        backup: &str,
        site: &Site,
        request: PlanRequest,
        options: RunOptions,
    ) -> Report {
        let backup = site.backup(backup).await.unwrap();
        let plan = site
            .plan_with(&backup, request, &RunOptions::new())
            .await
            .unwrap();
        assert!(plan.refusal().is_none(), "{:?}", plan.findings);
        site.run(plan, options).await.ended().unwrap()
    }

    /// Rolls the last run back, and deletes what it had put aside.
    pub async fn back(&self, site: &Site, what: &str) {
        let report = site.rollback(None, RunOptions::new()).await.unwrap();
        assert_eq!(
            report.outcome,
            Outcome::RolledBack,
            "{what}: {}",
            report.to_text()
        );
        self.is(&self.damaged, &format!("{what}, rolled back"));
        self.confirm(site).await;
        self.is(&self.damaged, &format!("{what}, rolled back and confirmed"));
    }

    /// Deletes what the last run keeps, if anything. Nothing of any run may be left.
    pub async fn confirm(&self, site: &Site) {
        match site.confirm(None, RunOptions::new()).await {
            Ok(report) => assert!(report.confirmed),
            Err(error) => assert_eq!(error.code(), "run.none_to_confirm", "{error}"),
        }
        self.nothing_left();
    }

    pub fn nothing_left(&self) {
        let images = self
            .swarm
            .docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        assert!(!images.contains("restore/"), "{images}");
        let containers = self
            .swarm
            .docker(&["ps", "-aq", "--filter", "label=restore.site"]);
        assert_eq!(containers, "", "throwaway containers are left");
        assert_eq!(
            self.swarm.docker(&["config", "ls", "-q"]),
            "",
            "a lock is left"
        );
    }

    #[track_caller]
    pub fn is(&self, wanted: &str, what: &str) {
        assert_same(wanted, &self.swarm.fingerprint(), what);
    }

    /// These sections of the fingerprint are as at the backup, and all others as damaged.
    #[track_caller]
    pub fn is_restored_in(&self, sections: &[&str], what: &str) {
        let now = self.swarm.fingerprint();
        for line in now.lines().filter(|line| line.starts_with("=== ")) {
            let name = line.split(' ').nth(1).unwrap();
            let wanted = match sections.contains(&name) {
                true => &self.at_backup,
                false => &self.damaged,
            };
            assert_eq!(section(&now, name), section(wanted, name), "{what}: {name}");
        }
    }

    /// Runs the example `crash` to its end; what it printed.
    pub fn crash(&self, action: &str, when: &str) -> String {
        crash(&self.swarm.config(), &[action, when])
    }
}

fn section(fingerprint: &str, name: &str) -> String {
    let from = fingerprint.find(&format!("=== {name} ")).unwrap();
    let text = &fingerprint[from..];
    text[..text[4..].find("=== ").map_or(text.len(), |at| at + 4)].to_owned()
}

#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    // Long: the machine may be slow, and whoever waits for nothing has failed anyhow.
    let deadline = Instant::now() + Duration::from_secs(240);
    // Each look starts a program or two.
    let mut pause = Duration::from_millis(30);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(pause);
        pause = (pause * 3 / 2).min(Duration::from_millis(250));
    }
}
