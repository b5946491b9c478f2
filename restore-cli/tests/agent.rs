//! The program itself, put beside a volume of another node of a swarm.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::process::Command;

use restore_testing::{Swarm, assert_same, run};

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
    let id = swarm.back_up();
    let at_backup = swarm.fingerprint();
    swarm.damage();
    let damaged = swarm.fingerprint();
    restore(&["run", &id, "--yes"]);
    assert_same(&at_backup, &swarm.fingerprint(), "restored");
    restore(&["rollback", "--yes"]);
    assert_same(&damaged, &swarm.fingerprint(), "rolled back");
    restore(&["confirm", "--yes"]);
    assert_same(&damaged, &swarm.fingerprint(), "confirmed");
}
