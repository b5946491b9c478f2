//! The program itself on a swarm of two nodes: put beside a volume of the other one, and taking the
//! lock of a host away that is gone.

use std::process::Command;

use restore_testing::{Swarm, assert_same, peak_memory, run};
use sha2::{Digest, Sha256};

#[test]
fn it_serves_a_volume_of_another_node() {
    let swarm = Swarm::alone(50, 1, &["--workers", "1", "--grafana-on", "worker1"]);
    let address = swarm.docker(&["node", "inspect", "-f", "{{.Status.Addr}}", "worker1"]);
    let config = swarm.config();
    let mut text = std::fs::read_to_string(&config).unwrap();
    // No `agent`: it is the program that runs.
    text += &format!(
        "\n[nodes.worker1]\nendpoint = 'tcp://{address}:2376'\nca = '{tls}/ca.pem'\ncert = '{tls}/cert.pem'\nkey = '{tls}/key.pem'\n",
        tls = swarm.tls().display()
    );
    std::fs::write(&config, text).unwrap();
    let restore = |args: &[&str]| {
        run(Command::new(env!("CARGO_BIN_EXE_restore"))
            .arg("--config")
            .arg(&config)
            .args(args));
    };
    let id = swarm.back_up_without_images();
    let at_backup = swarm.fingerprint();
    let there = swarm.worker_socket(1);
    let volume = there.with_file_name("data/volumes/grafana_data/_data");
    let damage = "cd \"$0\" && rm -rf .aws plugins && chmod 600 run.sh && echo damaged >.grafana-secret && echo stray >stray";
    run(Command::new("sh").args(["-c", damage]).arg(&volume));
    let damaged = swarm.fingerprint();
    assert_ne!(at_backup, damaged);
    // Whole platforms of several nodes are the library's own tests' matter.
    restore(&["run", &id, "--yes", "--only", "grafana"]);
    assert_same(&at_backup, &swarm.fingerprint(), "restored");
    let back = Command::new(env!("CARGO_BIN_EXE_restore"))
        .arg("--config")
        .arg(&config)
        .args(["rollback", "--yes"])
        .status()
        .unwrap();
    // What was damaged before the run is damaged again, and some checks may see it.
    assert!(matches!(back.code(), Some(0 | 8)), "{back}");
    assert_same(&damaged, &swarm.fingerprint(), "rolled back");
    restore(&["confirm", "--yes"]);
    assert_same(&damaged, &swarm.fingerprint(), "confirmed");
    memory_stays_flat(&swarm);
    a_lock_is_taken_away_knowingly(&swarm);
}

/// What the program may take, and how large the data is. A third of it are pages of the program itself,
/// which has not been optimised.
const MIB: u64 = 1 << 20;
const LIMIT: u64 = 96 * MIB;
const LARGE: &str = "200M";

/// An image and a volume of the other node, both larger than what the program may take for them.
fn memory_stays_flat(swarm: &Swarm) {
    let node = swarm.worker_socket(1);
    let volume = node.with_file_name("data/volumes/grafana_data/_data/large");
    let image = "restore-example/large:1";
    let random = format!("head -c {LARGE} /dev/urandom > \"$0\"");
    run(Command::new("sh").args(["-c", &random]).arg(&volume));
    let import = format!("tar -C \"$0\" -c large | docker import - {image}");
    run(Command::new("sh")
        .args(["-c", &import])
        .arg(volume.parent().unwrap())
        .env(
            "DOCKER_HOST",
            format!("unix://{}", swarm.socket().display()),
        ));
    let config = swarm.root().join("large.toml");
    let text = std::fs::read_to_string(swarm.config()).unwrap();
    let archive = "archive = [\"app/docker-image-*.tar.gz\"]\n";
    assert!(text.contains(archive));
    let images = format!("{archive}images = ['{image}']\n");
    std::fs::write(&config, text.replace(archive, &images)).unwrap();
    let peak = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_restore"));
        command.arg("--config").arg(&config).args(args);
        let peak = peak_memory(&mut command);
        println!("restore {}: {} MiB", args.join(" "), peak / MIB);
        assert!(peak < LIMIT, "{args:?} took {} MiB", peak / MIB);
    };
    let only = ["--only", "grafana,images"];
    peak(&[&["backup", "--level", "1"][..], &only].concat());
    let id = std::fs::read_dir(swarm.root().join("backups")).unwrap();
    let id = id.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let id = id.filter(|id| !id.starts_with("pre-")).max().unwrap();
    std::fs::remove_file(&volume).unwrap();
    let all = ["run", &id, "--yes", "--no-safety-backup"];
    peak(&[&all[..], &only].concat());
    assert!(volume.metadata().unwrap().len() > 2 * LIMIT);
    peak(&["confirm", "--yes"]);
    swarm.docker(&["image", "rm", image]);
}

/// The lock of a process of another host: nobody here can see whether it lives.
fn a_lock_is_taken_away_knowingly(swarm: &Swarm) {
    let text = std::fs::read_to_string(swarm.config()).unwrap();
    let site = text.lines().find_map(|line| line.strip_prefix("name = "));
    let site = site.unwrap().trim_matches('"');
    let hash = Sha256::digest(site.as_bytes());
    let hash: String = hash[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("restore-lock-{site}-{hash}");
    let mut create = vec!["config", "create"];
    let labels = [
        "host=gone",
        "boot=x",
        "space=y",
        "pid=1",
        "start=2",
        "action=run",
        "since=2026-01-01T00:00:00Z",
        "seen=2026-01-01T00:00:00Z",
    ]
    .map(|label| format!("restore.{label}"));
    for label in &labels {
        create.extend(["--label", label]);
    }
    create.extend([name.as_str(), "/etc/hostname"]);
    swarm.docker(&create);
    let restore = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_restore"));
        let done = command.arg("--config").arg(swarm.config()).args(args);
        let done = done.output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        (done.status.code(), said)
    };
    // Another run is turned away, and told what can be done.
    let (code, said) = restore(&["run", "latest", "--yes"]);
    assert_eq!(code, Some(7), "{said}");
    assert!(
        said.contains("gone") && said.contains("restore unlock"),
        "{said}"
    );
    // Without a word of a person it stays.
    let (code, said) = restore(&["unlock"]);
    assert_eq!(code, Some(2), "{said}");
    let locks = || swarm.docker(&["config", "ls", "--format", "{{.Name}}"]);
    assert_eq!(locks(), name);
    let (code, said) = restore(&["unlock", "--yes"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("gone"), "{said}");
    assert_eq!(locks(), "");
}
