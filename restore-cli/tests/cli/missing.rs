//! Nothing is left out without a word: what a backup lacks, and what lies where it must not.

use crate::site::{ID, Ran, Site};

/// A site of two trees, of which its backup has one.
fn lacking() -> Site {
    let site = Site::new();
    site.backup();
    site.write("live/opt/more/x", "live");
    let mut text = site.read("restore.toml");
    text += "[components.more]\nkind = \"files\"\nroot = \"live/opt\"\ntree = \"more\"\n";
    site.write("restore.toml", &text);
    site
}

#[test]
fn a_component_without_data_is_an_error_until_somebody_says_otherwise() {
    let site = lacking();
    for verb in ["plan", "drill"] {
        let ran = site.restore(&[verb, ID]).exits(4);
        assert!(ran.out.contains("--allow-missing more"), "{}", ran.out);
    }
    site.restore(&["run", ID, "--yes"]).exits(4);
    assert_eq!(site.read("live/opt/app/kept"), "live");
    let ran = site
        .restore(&["plan", ID, "--allow-missing", "other"])
        .exits(2);
    assert!(ran.err.contains("no component \"other\""), "{}", ran.err);
    site.restore(&["drill", ID, "--allow-missing", "more"])
        .exits(0);
    site.restore(&["run", ID, "--yes", "--allow-missing", "more"])
        .exits(0);
    assert_eq!(site.read("live/opt/app/kept"), "backed up");
    assert_eq!(site.read("live/opt/more/x"), "live");
    site.restore(&["confirm", "--yes"]).exits(0);
    let text = site.read("restore.toml");
    site.write("restore.toml", &(text + "optional = true\n"));
    site.restore(&["run", "latest", "--yes"]).exits(0);
}

#[test]
fn partial_backups_are_said_to_be_and_do_not_count() {
    let site = lacking();
    let ran = site.restore(&["plan", "latest"]).exits(2);
    assert!(
        ran.err
            .contains(&format!("the newest, {ID}, has nothing for more")),
        "{}",
        ran.err
    );
    site.restore(&["backup"]).exits(0);
    let ran = site.restore(&["list"]).exits(0);
    assert!(ran.out.contains("  partial  "), "{}", ran.out);
    assert!(ran.out.contains("  full  "), "{}", ran.out);
    assert!(
        ran.out.contains(&format!("\n{ID} has nothing for more.\n")),
        "{}",
        ran.out
    );
    site.restore(&["plan", "latest"]).exits(0);
    site.restore(&["backup", "--only", "more"]).exits(0);
    let plan = site.restore(&["plan", "latest", "--json"]).exits(0).json();
    let full = plan["plan"]["backup"].as_str().unwrap().to_owned();
    let ran = site
        .restore(&["prune", "--keep", "1", "--dry-run", "--json"])
        .exits(0)
        .json();
    let kept: Vec<&str> = ran["prune"]["plan"]["keep"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["id"].as_str().unwrap())
        .collect();
    assert!(
        kept.contains(&full.as_str()) && !kept.contains(&ID),
        "{kept:?}"
    );
    assert!(site.path(&format!("backups/{ID}")).is_dir());
}

#[test]
fn what_the_tool_needs_is_not_moved_away() {
    let site = Site::new();
    site.backup();
    site.shell("mkdir -p live/opt/app/own-backups && mv backups/* live/opt/app/own-backups/");
    let text = site.read("restore.toml");
    let inside = text.replace("path = \"backups\"", "path = \"live/opt/app/own-backups\"");
    site.write("restore.toml", &inside);
    let ran = site.restore(&["run", ID, "--yes"]).exits(4);
    for words in ["the store main", "\"own-backups\" to `exclude`"] {
        assert!(
            ran.out.contains(words) || ran.err.contains(words),
            "{ran:#?}"
        );
    }
    // A backup would hold all earlier ones, and itself.
    let ran = site.restore(&["backup"]).exits(4);
    for words in [
        "the store main",
        "which is backed up for applications",
        "\"own-backups\" to `exclude`",
    ] {
        assert!(ran.err.contains(words), "{words}: {ran:#?}");
    }
    site.write(
        "restore.toml",
        &(inside.clone() + "exclude = [\"own-backups\"]\n"),
    );
    site.restore(&["run", ID, "--yes"]).exits(0);
    assert!(
        site.path(&format!("live/opt/app/own-backups/{ID}"))
            .is_dir()
    );
    site.restore(&["confirm", "--yes"]).exits(0);
    site.restore(&["backup"]).exits(0);
    site.shell(
        "for archive in live/opt/app/own-backups/*/app/*.tar.gz; do
             if tar -tzf \"$archive\" | grep own-backups; then exit 1; fi
         done",
    );

    let state = inside.replace("state = \"state\"", "state = \"live/opt/app/state\"")
        + "exclude = [\"own-backups\"]\n";
    site.write("restore.toml", &state);
    let ran = site.restore(&["plan", ID]).exits(4);
    assert!(ran.out.contains("the state directory"), "{}", ran.out);
    let ran = site.restore(&["backup"]).exits(4);
    assert!(ran.err.contains("the state directory"), "{}", ran.err);

    let two = inside
        + "exclude = [\"own-backups\"]\n[volumes.v]\npath = \"live/opt/app/data\"\n\
           [components.v]\nkind = \"volume\"\nvolume = \"v\"\nstops = []\noptional = true\n";
    site.write("restore.toml", &two);
    site.write("live/opt/app/data/x", "live");
    let ran = site.restore(&["plan", ID]).exits(4);
    assert!(
        ran.out.contains("which the component v restores"),
        "{}",
        ran.out
    );
}

/// Whatever the tool reads or writes on this host, by the name that it has for it.
#[test]
fn nothing_of_its_own_is_moved_away() {
    let site = Site::new();
    site.backup();
    site.write("live/opt/app/its/secret", "secret");
    site.write("live/opt/app/its/hook", "http://127.0.0.1:1/told");
    site.shell(
        "chmod 600 live/opt/app/its/secret live/opt/app/its/hook
         mkdir live/opt/app/its/wal other pg",
    );
    let text = site.read("restore.toml");
    let plan = ["plan", ID, "--only", "applications"];
    let refused = |ran: Ran, words: &str| {
        let ran = ran.exits(4);
        let told = ran.out.lines().any(|line| {
            line.contains(words) && line.contains("/live/opt/app/its/") && line.contains("lies in")
        });
        assert!(told, "{words}: {}", ran.out);
    };
    for (more, words) in [
        (
            "[stores.other]\nkind = \"directory\"\npath = \"other\"\n\
             passphrase_file = \"live/opt/app/its/secret\"\n",
            "what [stores.other.passphrase_file] names (",
        ),
        (
            "[hooks.told]\nkind = \"webhook\"\nwhen = [\"on-failure\"]\n\
             url_file = \"live/opt/app/its/hook\"\n",
            "what [hooks.told.url_file] names (",
        ),
        (
            "[services.db]\nstart = [\"true\"]\nstop = [\"true\"]\nstatus = [\"true\"]\n\
             endpoint = \"127.0.0.1:1\"\n[volumes.pg]\npath = \"pg\"\n\
             [components.cluster]\nkind = \"postgres_cluster\"\nservice = \"db\"\nvolume = \"pg\"\n\
             user = \"u\"\nwal_archive = \"live/opt/app/its/wal\"\n",
            "what [components.cluster.wal_archive] names (",
        ),
    ] {
        site.write("restore.toml", &format!("{text}{more}"));
        refused(site.restore(&plan), words);
    }

    let log = "state = \"state\"\nlog = \"live/opt/app/its/log\"";
    site.write("restore.toml", &text.replace("state = \"state\"", log));
    refused(site.restore(&plan), "the log (");

    site.write("restore.toml", &text);
    site.shell(&format!(
        "cp {} live/opt/app/its/restore",
        env!("CARGO_BIN_EXE_restore")
    ));
    let mut copy = std::process::Command::new(site.path("live/opt/app/its/restore"));
    copy.args(plan).current_dir(site.path(""));
    copy.env_remove("RESTORE_CONFIG")
        .stdin(std::process::Stdio::null());
    refused(Ran::of(copy.output().unwrap()), "the program itself (");

    let at = |name: &str| format!("= \"{}\"", site.path(name).display());
    let moved = ["state", "backups", "live/opt"]
        .iter()
        .fold(text, |text, name| {
            text.replace(&format!("= \"{name}\""), &at(name))
        });
    site.write("live/opt/app/its/restore.toml", &moved);
    let config = ["--config", "live/opt/app/its/restore.toml"];
    let ran = site.restore(&[&config[..], &plan].concat());
    refused(ran, "the configuration (");
}

#[test]
fn one_verdict_on_a_manifest() {
    let site = Site::new();
    let folder = site.backup();
    let archive = format!("app/applications-{ID}.tar.gz");
    let line = |format: &str| {
        let script = format!("cd backups/{ID} && f={archive} && {format} > MANIFEST.txt");
        site.shell(&script);
    };
    let pipe = "printf '%s|%s|%s\\n' $f $(stat -c %s $f) $(sha256sum $f | cut -c1-64)";
    for (manifest, code) in [
        ("sha256sum $f".to_owned(), 0),
        (pipe.to_owned(), 0),
        (format!("{{ printf 'Backup ID: {ID}\\n\\n'; {pipe}; }}"), 0),
        (format!("{{ {pipe}; printf '\\nTotal Files: 7\\n'; }}"), 3),
    ] {
        line(&manifest);
        site.restore(&["verify", ID]).exits(code);
        let ran = site.restore(&["list"]).exits(0);
        assert_eq!(
            ran.out.contains("damaged"),
            code != 0,
            "{manifest}: {}",
            ran.out
        );
        let shown = site.restore(&["show", ID, "--json"]).exits(0).json();
        let mut wrong = shown["backup"]["wrong"].as_array().unwrap().iter();
        let wrong = wrong.any(|it| it["severity"] == "error");
        assert_eq!(wrong, code != 0, "{manifest}: {shown}");
        site.restore(&["plan", ID]).exits(code);
        site.restore(&["run", ID, "--yes"]).exits(code);
        if code == 0 {
            site.restore(&["rollback", "--yes"]).exits(0);
            site.restore(&["confirm", "--yes"]).exits(0);
        }
    }
    assert!(folder.is_dir());
}

/// A site of two trees, and a backup of both with exact sizes; the folder of the backup.
fn both() -> (Site, std::path::PathBuf) {
    let site = lacking();
    site.write("made/more/x", "backed up");
    site.shell(&format!(
        r#"mkdir -p backups/{ID}/volumes && tar -C made -czf backups/{ID}/app/more-{ID}.tar.gz more
        cd backups/{ID} && {{
            printf 'Backup ID: {ID}\nSize Unit: bytes\n\n'
            find . -type f ! -name MANIFEST.txt | sed 's|^\./||' | sort | while read f; do
                printf '%s|%s|%s\n' "$f" "$(stat -c %s "$f")" "$(sha256sum "$f" | cut -c1-64)"
            done
            printf '\nTotal Files: 2\n'
        }} > ../../manifest && mv ../../manifest MANIFEST.txt"#
    ));
    let text = site.read("restore.toml");
    let named = "tree = \"more\"\narchive = [\"app/more-{id}.tar.gz\"]";
    site.write("restore.toml", &text.replace("tree = \"more\"", named));
    let folder = site.path(&format!("backups/{ID}"));
    (site, folder)
}

/// What was not asked for may be damaged; what was asked for may not.
#[test]
fn only_never_lets_damage_of_what_was_asked_for_through() {
    let (site, folder) = both();
    site.restore(&["plan", ID]).exits(0);
    let archive = folder.join(format!("app/more-{ID}.tar.gz"));
    let whole = std::fs::read(&archive).unwrap();
    let stray = folder.join("app/more.dump");
    let damages: [(&str, &dyn Fn()); 4] = [
        ("short", &|| std::fs::write(&archive, &whole[1..]).unwrap()),
        ("long", &|| {
            std::fs::write(&archive, [&whole[..], b"more"].concat()).unwrap();
        }),
        ("gone", &|| std::fs::remove_file(&archive).unwrap()),
        ("a link", &|| {
            std::fs::remove_file(&archive).unwrap();
            std::os::unix::fs::symlink("elsewhere", &archive).unwrap();
        }),
    ];
    for (what, damage) in damages {
        damage();
        site.restore(&["verify", ID]).exits(3);
        for asked in [
            &[][..],
            &["--only", "more"],
            &["--only", "applications,more"],
            &["--path", "more/x"],
            &["--only", "more", "--allow-unverified"],
            &["--only", "more", "--allow-missing", "more"],
        ] {
            for verb in [&["plan", ID][..], &["run", ID, "--yes"]] {
                let ran = site.restore(&[verb, asked].concat());
                assert_eq!(ran.code, Some(3), "{what} {asked:?}: {ran:#?}");
                assert!(ran.err.contains("more-"), "{what} {asked:?}: {ran:#?}");
            }
        }
        assert!(!site.path("state/runs").exists(), "{what}");
        for other in [&["--only", "applications"][..], &["--path", "app/kept"]] {
            let ran = site.restore(&[&["plan", ID], other].concat()).exits(0);
            assert!(ran.out.contains("more-"), "{what}: it is told: {}", ran.out);
        }
        let _ = std::fs::remove_file(&archive);
        std::fs::write(&archive, &whole).unwrap();
        let _ = std::fs::remove_file(&stray);
    }
    // One that no manifest vouches for.
    let text = site.read(&format!("backups/{ID}/MANIFEST.txt"));
    let without: String = text
        .lines()
        .filter(|line| !line.starts_with("app/more-"))
        .map(|line| line.replace("Files: 2", "Files: 1") + "\n")
        .collect();
    site.write(&format!("backups/{ID}/MANIFEST.txt"), &without);
    let ran = site.restore(&["plan", ID, "--only", "more"]).exits(3);
    assert!(ran.out.contains("move it out"), "{}", ran.out);
    site.restore(&["plan", ID, "--only", "applications"])
        .exits(0);
}

/// A nightly `verify latest` does not end well because the backup of that night is passed over.
#[test]
fn to_verify_the_latest_tells_of_a_newer_one_that_is_damaged() {
    let site = Site::new();
    site.backup();
    site.restore(&["verify", "latest"]).exits(0);
    let newer = "20240216-020000";
    site.shell(&format!(
        "cp -r backups/{ID} backups/{newer} && \
         mv backups/{newer}/app/applications-{ID}.tar.gz backups/{newer}/app/stray.dump"
    ));
    let text = site.read(&format!("backups/{newer}/MANIFEST.txt"));
    site.write(
        &format!("backups/{newer}/MANIFEST.txt"),
        &text.replace(ID, newer),
    );
    let ran = site.restore(&["verify", "latest"]).exits(3);
    assert!(
        ran.out.contains(&format!("Backup {ID}: VERIFIED")),
        "{}",
        ran.out
    );
    assert!(
        ran.err.contains(&format!("restore verify {newer}")),
        "{}",
        ran.err
    );
    site.restore(&["verify", ID]).exits(0);
    let ran = site.restore(&["run", "latest", "--yes"]).exits(0);
    assert!(
        ran.err.contains(newer) || ran.out.contains(newer),
        "{ran:#?}"
    );
}

/// Whichever way it is asked for.
#[test]
fn one_lack_has_one_exit_code() {
    let site = lacking();
    for asked in [
        &[][..],
        &["--only", "more"],
        &["--only", "applications,more"],
        &["--path", "more/x"],
    ] {
        let ran = site.restore(&[&["plan", ID], asked].concat()).exits(4);
        assert!(
            ran.err.contains("has nothing for it"),
            "{asked:?}: {ran:#?}"
        );
        assert!(
            ran.out.contains("--allow-missing more"),
            "{asked:?}: {ran:#?}"
        );
        site.restore(&[&["run", ID, "--yes"], asked].concat())
            .exits(4);
    }
    let word = ["--allow-missing", "more"];
    for asked in [
        &["plan", ID][..],
        &["plan", ID, "--only", "applications,more"],
    ] {
        site.restore(&[asked, &word].concat()).exits(0);
    }
    // There is nothing left to do.
    let ran = site.restore(&[&["plan", ID, "--only", "more"][..], &word].concat());
    let ran = ran.exits(4);
    assert_eq!(
        ran.out.matches("nothing to restore").count(),
        1,
        "{}",
        ran.out
    );
    // A pattern that fits two files is a fault of the configuration, not of the backup.
    let text = site.read("restore.toml");
    let wide = text.replace("app/applications-{id}.tar.gz", "app/*.tar.gz");
    site.write("restore.toml", &wide);
    site.shell(&format!(
        "cd backups/{ID} && cp app/applications-{ID}.tar.gz app/b.tar.gz && \
         echo \"$(sha256sum app/*)\" > MANIFEST.txt"
    ));
    for only in [&[][..], &["--only", "applications"]] {
        let asked = [&["plan", ID], only, &word].concat();
        let ran = site.restore(&asked).exits(4);
        assert!(ran.err.contains("several files that fit"), "{}", ran.err);
    }
}

/// `list` and `show` speak of the same backup.
#[test]
fn show_and_list_agree_on_what_is_lacking() {
    let site = lacking();
    let text = site.read("restore.toml");
    let more = "[components.other]\nkind = \"files\"\nroot = \"live/opt\"\ntree = \"other\"\noptional = true\n";
    site.write("restore.toml", &(text + more));
    let agree = |lacking: &[&str]| {
        let list = site.restore(&["list", "--json"]).exits(0).json();
        let show = site.restore(&["show", ID, "--json"]).exits(0).json();
        let listed = &list["backups"][0]["lacking"];
        assert_eq!(listed, &serde_json::json!(lacking), "{list}");
        assert_eq!(&show["backup"]["lacking"], listed, "{show}");
        let text = site.restore(&["show", ID]).exits(0).out;
        assert_eq!(
            text.contains("has nothing for"),
            !lacking.is_empty(),
            "{text}"
        );
    };
    agree(&["more"]);
    // What is listed and gone makes it damaged, not partial.
    std::fs::remove_file(site.path(&format!("backups/{ID}/app/applications-{ID}.tar.gz"))).unwrap();
    agree(&["more"]);
    // Of what was never finished nobody can say what it lacks.
    std::fs::remove_file(site.path(&format!("backups/{ID}/MANIFEST.txt"))).unwrap();
    agree(&[]);
}
