//! A platform of which some parts do not work and others are gone is restored all the same.

use super::support::Whole;

#[test]
fn what_does_not_start_and_what_is_gone() {
    let whole = Whole::new();
    let root = whole.hosting.root().to_owned();
    for service in ["app", "redis"] {
        whole.hosting.service(service, "stop");
    }
    // Redis does not start on its data, the application ends as soon as it starts.
    for entry in std::fs::read_dir(root.join("volumes/redis_data/appendonlydir")).unwrap() {
        std::fs::write(entry.unwrap().path(), "garbage\n").unwrap();
    }
    let program = root.join("opt/applications/hosting-app/app.py");
    std::fs::write(program, "raise SystemExit('it does not run')\n").unwrap();
    std::fs::remove_file(root.join("crontab")).unwrap();
    std::fs::remove_dir_all(root.join("opt/scripts")).unwrap();
    for entry in std::fs::read_dir(root.join("volumes/grafana_data")).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => std::fs::remove_dir_all(path).unwrap(),
            false => std::fs::remove_file(path).unwrap(),
        }
    }
    let ran = whole
        .restore(&["run", "latest", "--yes", "--json"])
        .exits(0);
    // What it was open to is in no backup: the new one is its owner's alone.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(root.join("crontab"), open).unwrap();
    whole.is(&whole.at_backup, "restored from ruins");
    let report = ran.json()["report"].clone();
    // What can be kept of it is, and what cannot is told.
    let missing = report["safety"]["missing"].as_array().unwrap();
    let missing: Vec<&str> = missing
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert!(missing.contains(&"scripts"), "{missing:?}");
    assert!(!missing.contains(&"postgres"), "{missing:?}");
    let told = report["findings"].as_array().unwrap();
    let told = told.iter().filter(|it| it["code"] == "backup.not_taken");
    assert_eq!(told.count(), missing.len());
    // Checks that failed before are not waited for while users are turned away.
    let down = report["downtime_seconds"].as_f64().unwrap();
    assert!(down < 30.0, "{down}");
    whole.restore(&["confirm", "--yes"]).exits(0);
    whole.nothing_left("restored from ruins");
}
