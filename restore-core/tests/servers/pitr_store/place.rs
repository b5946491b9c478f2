//! A site whose server archives to a directory, of which a store has what was brought there.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use restore_core::Event;
use restore_core::{PlanRequest, Report, RunOptions};
use restore_testing::Ended as _;
use restore_testing::pitr::Ground;
use restore_testing::s3::Server;
use restore_testing::sshd::{Sshd, Wire};

/// The store.
pub enum Store {
    /// Until it is dropped.
    Host { _sshd: Sshd },
    /// By the prefix of its keys.
    Bucket(String),
}

pub struct Place {
    pub ground: Ground,
    store: Store,
    pub wire: Wire,
    /// What the archive is called.
    pub described: String,
}

impl Place {
    /// A directory of another host, which is the very one that the server archives to: bringing is
    /// what the server does itself.
    pub async fn on_a_host() -> Self {
        let ground = Ground::new().await;
        let sshd = Sshd::start();
        let wire = Wire::to(sshd.port);
        let config = sshd.good_client(wire.port);
        let path = ground.path("archive").display().to_string();
        let table = format!(
            r#"{{ kind = "ssh", host = "nas", path = "{path}", config = "{}" }}"#,
            config.display()
        );
        let this = Self {
            ground,
            store: Store::Host { _sshd: sshd },
            wire,
            described: format!("{path} on nas"),
        };
        this.configure(&table);
        this
    }

    /// Behind a prefix of a bucket.
    pub async fn in_a_bucket() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let ground = Ground::new().await;
        let server = Server::shared();
        let wire = Wire::to(server.port);
        for (at, name) in ["id", "secret"].iter().enumerate() {
            restore_testing::write_secret(ground.path(name), &server.keys[at]);
        }
        let prefix = format!("wal/{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let endpoint = format!("http://127.0.0.1:{}", wire.port);
        let table = format!(
            r#"{{ kind = "s3", bucket = "{}", prefix = "{prefix}", region = "eu-central-1",
                endpoint = "{endpoint}", access_key_file = "id", secret_key_file = "secret" }}"#,
            server.bucket
        )
        .replace('\n', " ");
        let this = Self {
            ground,
            described: format!("s3://{}/{prefix} at {endpoint}", server.bucket),
            store: Store::Bucket(prefix),
            wire,
        };
        this.configure(&table);
        this
    }

    fn configure(&self, table: &str) {
        let config = self.ground.config();
        let text = std::fs::read_to_string(&config).unwrap();
        let told = text.replace("\"archive\"", table);
        assert_ne!(text, told);
        std::fs::write(&config, told).unwrap();
    }

    /// The names in the directory that the server archives to.
    pub fn archived(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.ground.path("archive")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Puts whatever the server has archived into the store.
    pub fn bring(&self) {
        let Store::Bucket(prefix) = &self.store else {
            return;
        };
        let there = Server::shared().keys_below(&format!("{prefix}/"));
        for name in self.archived() {
            if !there.contains(&name) {
                self.put(&name);
            }
        }
    }

    /// Puts one file into the bucket, once more where it is there.
    pub fn put(&self, name: &str) {
        if let Store::Bucket(prefix) = &self.store {
            let file = self.ground.path("archive").join(name);
            Server::shared().put(&format!("{prefix}/{name}"), &file);
        }
    }

    /// Deletes one file from the bucket.
    pub fn delete(&self, name: &str) {
        if let Store::Bucket(prefix) = &self.store {
            Server::shared().delete(&format!("{prefix}/{name}"));
        }
    }

    /// Carries out what is asked for while `when` is told of all that happens.
    pub async fn watched(
        &self,
        request: PlanRequest,
        when: impl Fn(&Event) + Send + Sync + 'static,
    ) -> Report {
        let plan = self.ground.plan(request).await;
        assert!(plan.refusal().is_none(), "{:?}", plan.findings);
        let site = self.ground.site().await;
        let options = RunOptions::new().events(Arc::new(when));
        site.run(plan, options).await.ended().unwrap()
    }

    /// Carries it out; the bytes of log that were fetched for it.
    pub async fn fetched_by(&self, request: PlanRequest) -> u64 {
        let fetched = Arc::new(Mutex::new(Vec::new()));
        let seen = fetched.clone();
        let report = self.watched(request, move |event| {
            if let Some((done, total)) = fetching(event)
                && done == total
            {
                seen.lock().unwrap().push(done);
            }
        });
        let report = report.await;
        assert!(report.failure.is_none(), "{}", report.to_text());
        let fetched = fetched.lock().unwrap();
        fetched.iter().copied().max().unwrap()
    }

    /// What the next run's first fetching comes to, whatever ends it, once `then` is done.
    pub async fn when_fetched(
        self: Arc<Self>,
        request: PlanRequest,
        then: impl Fn(&Self) + Send + Sync + 'static,
    ) -> Report {
        let done = AtomicU64::new(0);
        let this = self.clone();
        self.watched(request, move |event| {
            if let Some((fetched, total)) = fetching(event)
                && fetched == total
                && done.fetch_add(1, Ordering::Relaxed) == 0
            {
                then(&this);
            }
        })
        .await
    }

    /// Neither log beside the data, nor what was kept to look into, nor a secret anywhere.
    pub fn nothing_kept(&self) {
        let state = self.ground.path("state");
        assert!(!state.join("work/wal-cluster").exists());
        let volume = std::fs::read_dir(self.ground.path("volume")).unwrap();
        for entry in volume {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(!name.ends_with(".wal"), "{name}");
        }
        if let Store::Bucket(_) = self.store {
            let secret = &Server::shared().keys[1];
            let found = std::process::Command::new("grep")
                .args(["-rlF", secret])
                .arg(&state)
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&found.stdout), "");
        }
    }
}

/// How far the fetching of the log is, where the event tells that.
pub fn fetching(event: &Event) -> Option<(u64, u64)> {
    match event {
        Event::Progress {
            action,
            done,
            total: Some(total),
            ..
        } if action == "fetch WAL" => Some((*done, *total)),
        _ => None,
    }
}
