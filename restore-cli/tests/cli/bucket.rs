//! Backups in a bucket, as the program's users meet them.

use std::time::{Duration, Instant};

use crate::site::{ID, Ran, Site};
use restore_testing::s3::Server;

/// A site with a bucket besides its directory; what opens it is in the environment.
struct Cloud {
    site: Site,
    prefix: String,
}

impl Cloud {
    fn new(prefix: &str) -> Self {
        let (site, server) = (Site::new(), Server::shared());
        let text = site.read("restore.toml");
        site.write(
            "restore.toml",
            &format!(
                "{text}\n[stores.cloud]\nkind = \"s3\"\nbucket = \"{}\"\nprefix = \"{prefix}\"\n\
                 region = \"eu-central-1\"\nendpoint = \"http://127.0.0.1:{}\"\npart_mib = 5\n\
                 access_key_env = \"CLOUD_ID\"\nsecret_key_env = \"CLOUD_SECRET\"\n",
                server.bucket, server.port
            ),
        );
        let prefix = prefix.to_owned();
        Self { site, prefix }
    }

    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = self.site.command(args);
        let keys = &Server::shared().keys;
        command
            .env("CLOUD_ID", &keys[0])
            .env("CLOUD_SECRET", &keys[1]);
        command
    }

    fn restore(&self, args: &[&str]) -> Ran {
        let ran = Ran::of(self.command(args).output().unwrap());
        for secret in &Server::shared().keys {
            assert!(
                !ran.out.contains(secret) && !ran.err.contains(secret),
                "{ran:#?}"
            );
        }
        ran
    }
}

#[test]
fn a_backup_goes_there_and_a_run_brings_it_back() {
    let cloud = Cloud::new("there-and-back");
    let made = cloud
        .restore(&["backup", "--to", "cloud", "--json"])
        .exits(0)
        .json();
    let id = made["backup"]["id"].as_str().unwrap();
    let listed = cloud.restore(&["list"]).exits(0);
    assert!(
        listed.out.contains(id) && listed.out.contains("cloud"),
        "{}",
        listed.out
    );
    let shown = cloud.restore(&["show", id]).exits(0);
    assert!(shown.out.contains("Checksums:  yes"), "{}", shown.out);
    let verified = cloud.restore(&["verify", id]).exits(0);
    assert!(verified.out.contains("VERIFIED"), "{}", verified.out);
    let plan = cloud.restore(&["plan", id]).exits(4);
    assert!(plan.err.contains("restore fetch"), "{}", plan.err);
    cloud.site.write("live/opt/app/kept", "damaged");
    let all = ["--yes", "--progress", "json", "--json"];
    let args: Vec<&str> = ["run", id].into_iter().chain(all).collect();
    cloud.restore(&args).exits(0);
    assert_eq!(cloud.site.read("live/opt/app/kept"), "live");
    // A machine that has nothing yet takes the configuration from there.
    let server = Server::shared();
    let url = format!("s3://{}/{}", server.bucket, cloud.prefix);
    let mut init = cloud.command(&["init", "--from", &url, id, "--print"]);
    init.env("AWS_ACCESS_KEY_ID", &server.keys[0])
        .env("AWS_SECRET_ACCESS_KEY", &server.keys[1])
        .env("AWS_REGION", "eu-central-1")
        .env(
            "AWS_ENDPOINT_URL",
            format!("http://127.0.0.1:{}", server.port),
        );
    let carried = Ran::of(init.output().unwrap()).exits(0);
    assert_eq!(carried.out, cloud.site.read("restore.toml"));
    let closed = cloud.restore(&["init", "--from", &url, id, "--print"]);
    assert_ne!(closed.code, Some(0), "{closed:#?}");
    assert!(closed.err.contains("AWS_ACCESS_KEY_ID"), "{}", closed.err);
    // In no journal, no report, no copy.
    for secret in &Server::shared().keys[..2] {
        cloud.site.shell(&format!("! grep -rF '{secret}' ."));
    }
    // Without what opens it, what is here is listed all the same.
    let listed = cloud.site.restore(&["list"]);
    assert!(
        listed.out.contains(id) && listed.code != Some(0),
        "{listed:#?}"
    );
    assert!(listed.err.contains("CLOUD_ID"), "{}", listed.err);
    let keep = ["prune", "--keep", "1", "--store", "cloud", "--yes"];
    let pruned = cloud.restore(&keep).exits(0);
    assert!(!pruned.out.contains("deleted 1"), "{}", pruned.out);
}

#[test]
fn made_by_a_shell_it_is_restored_from_there() {
    let cloud = Cloud::new("by-a-shell");
    let folder = cloud.site.backup();
    for path in [
        "MANIFEST.txt".to_owned(),
        format!("app/applications-{ID}.tar.gz"),
    ] {
        let key = format!("{}/{ID}/{path}", cloud.prefix);
        Server::shared().put(&key, &folder.join(path));
    }
    std::fs::remove_dir_all(folder).unwrap();
    let done = cloud.restore(&["run", "latest", "--yes"]).exits(0);
    assert!(done.err.contains("fetched from cloud"), "{}", done.err);
    assert_ne!(cloud.site.read("live/opt/app/kept"), "live");
}

#[test]
fn a_killed_backup_is_seen_there_and_never_restored() {
    let cloud = Cloud::new("killed");
    cloud
        .site
        .shell("head -c 300000000 /dev/urandom > live/opt/app/big");
    let mut child = cloud.command(&["backup", "--to", "cloud"]).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while Server::shared().uploads_below(&cloud.prefix).is_empty() {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none());
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let listed = cloud.restore(&["list"]).exits(0);
    assert!(listed.out.contains("unfinished"), "{}", listed.out);
    let latest = cloud.restore(&["fetch", "latest"]);
    assert!(latest.err.contains("no finished backup"), "{latest:#?}");
    let id = listed
        .out
        .lines()
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap();
    cloud.restore(&["run", id, "--yes"]).exits(3);
    assert_eq!(cloud.site.read("live/opt/app/kept"), "live");
}
