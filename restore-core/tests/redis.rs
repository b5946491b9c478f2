//! The Redis component against real servers.

#[path = "support/redis.rs"]
mod support;

use restore_core::ErrorKind;
use restore_core::platform::Discard;
use serde_json::json;
use support::{BACKUP, Case, FORMS, Form, Server, assert_same, back_up, until};

/// After the restore, and after two more restarts, exactly the backup's content.
async fn ends_as_the_backup(case: &Case, content: &std::collections::BTreeMap<String, String>) {
    assert_same(&case.server().content(), content);
    for _ in 0..2 {
        case.server().restart();
        assert_same(&case.server().content(), content);
    }
    case.assert_checked().await;
}

/// Trap 26, and 27 with it: the old `appendonlydir` has a manifest.
#[tokio::test(flavor = "multi_thread")]
async fn with_aof_on_and_old_data_the_backup_wins() {
    for form in FORMS {
        let case = Case::new(Server::new(&["appendonly yes"]), "");
        let content = back_up(&case, form);
        case.server().start().unwrap();
        case.server().fill("old", 50);
        let staged = case.restore().await;
        ends_as_the_backup(&case, &content).await;
        assert_eq!(
            staged.facts["total_keys"],
            json!(content.len() - 1),
            "{form:?}"
        );
        assert_eq!(staged.facts["keys"]["7"], json!(2));
        assert_eq!(staged.facts["expires"]["0"], json!(2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_aof_on_and_an_empty_directory_the_backup_wins() {
    for form in FORMS {
        let case = Case::new(Server::new(&["appendonly yes"]), "appendonly = true");
        let content = back_up(&case, form);
        assert!(case.server().files().is_empty());
        case.restore().await;
        ends_as_the_backup(&case, &content).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_aof_off_the_backup_wins() {
    for form in FORMS {
        let case = Case::new(Server::new(&["appendonly no"]), "");
        let content = back_up(&case, form);
        case.server().start().unwrap();
        case.server().fill("old", 50);
        case.restore().await;
        ends_as_the_backup(&case, &content).await;
        assert!(!case.server().data().join("appendonlydir").exists());
    }
}

/// Nobody could say how it starts: it may start either way.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_may_start_either_way() {
    for appendonly in ["yes", "no"] {
        let case = Case::new(Server::new(&[]), "");
        let content = back_up(&case, Form::Rdb);
        let inspection = case.component.inspect(&case.cx().await).await.unwrap();
        let codes: Vec<&str> = inspection
            .findings
            .iter()
            .map(|f| f.code.as_str())
            .collect();
        assert_eq!(codes, ["redis.down", "redis.appendonly_unknown"]);
        case.server().set("appendonly", appendonly);
        case.restore().await;
        ends_as_the_backup(&case, &content).await;
    }
}

/// Trap 27: every file that could win is moved aside, and what is turned on or off later never
/// brings the old data back.
#[tokio::test(flavor = "multi_thread")]
async fn no_old_file_comes_back_when_the_mode_is_changed_later() {
    let case = Case::new(Server::new(&["appendonly yes"]), "");
    let content = back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    case.server().fill("old", 50);
    case.server().run(0, &["SAVE"]);
    std::fs::write(
        case.server().data().join("appendonly.aof"),
        "*1\r\n$4\r\nPING\r\n",
    )
    .unwrap();
    case.server().set("save", "\"\"");
    case.restore().await;
    assert!(!case.server().data().join("appendonly.aof").exists());
    case.server().set("appendonly", "no");
    case.server().restart();
    assert_same(&case.server().content(), &content);
}

/// Trap 28: the server saves its own data when it is asked to end, after staging.
#[tokio::test(flavor = "multi_thread")]
async fn a_save_on_sigterm_overwrites_nothing() {
    for appendonly in ["appendonly yes", "appendonly no"] {
        let case = Case::new(Server::new(&[appendonly, "save 3600 1"]), "");
        let content = back_up(&case, Form::Rdb);
        case.server().start().unwrap();
        case.server().fill("old", 50);
        case.stage().await;
        case.server().run(0, &["SET old:written-since x"]);
        let old = case.server().content();
        case.cut_over().await;
        assert_same(&case.server().content(), &content);
        case.undo().await;
        assert_same(&case.server().content(), &old);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_swapped_under_a_running_server() {
    let case = Case::new(Server::new(&["appendonly yes"]), "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    case.server().fill("old", 5);
    case.stage().await;
    let old = case.server().content();
    let cx = case.cx().await;
    let error = case.component.cut_over(&cx).await.unwrap_err();
    assert_eq!(error.code(), "redis.still_up");
    case.server().restart();
    assert_same(&case.server().content(), &old);
    case.cut_over().await;
    let error = case.component.undo(&cx).await.unwrap_err();
    assert_eq!(error.code(), "redis.still_up");
    // A server that nobody supervises, at work in the same directory, elsewhere.
    case.server().stop();
    let mut stray = std::process::Command::new("redis-server")
        .args(["--port", "0", "--unixsocket", "stray.sock", "--dir"])
        .arg(case.server().data())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let socket = case.server().data().join("stray.sock");
    until("the stray server is up", || socket.exists());
    let error = case.component.undo(&cx).await.unwrap_err();
    stray.kill().unwrap();
    stray.wait().unwrap();
    assert!(error.message().contains("redis-server (process"), "{error}");
    case.component.undo(&cx).await.unwrap();
    case.server().start().unwrap();
    assert_same(&case.server().content(), &old);
}

/// Trap 30: what the server cannot load is found out in staging, by a server.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_backups_are_refused_and_nothing_is_left() {
    let donor = Case::new(Server::new(&[]), "");
    back_up(&donor, Form::Rdb);
    let rdb = format!("redis-{BACKUP}.rdb");
    let good = std::fs::read(donor.artifact(&rdb)).unwrap();
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        bytes
    };
    let bad = [
        ("redis.damaged", with(|b| b.truncate(b.len() * 6 / 10))),
        ("redis.damaged", with(|b| b.truncate(b.len() - 1))),
        ("redis.damaged", with(|b| b[1500] ^= 1)),
        (
            "redis.newer_rdb",
            with(|b| b[5..9].copy_from_slice(b"0099")),
        ),
        ("redis.not_redis_data", Vec::new()),
        ("redis.not_redis_data", b"<html>not found</html>".to_vec()),
    ];
    for appendonly in ["appendonly yes", "appendonly no"] {
        let case = Case::new(Server::new(&[appendonly, "save \"\""]), "");
        case.server().start().unwrap();
        case.server().fill("old", 5);
        let (content, files) = (case.server().content(), case.server().files());
        for (code, bytes) in &bad {
            std::fs::write(case.artifact(&rdb), bytes).unwrap();
            let cx = case.cx().await;
            let error = case.component.stage(&cx).await.unwrap_err();
            assert_eq!(error.code(), *code, "{error}");
            assert_eq!(error.kind(), ErrorKind::Verification);
            assert!(error.message().contains(&rdb), "{error}");
            assert!(error.hint_text().is_some());
            assert!(case.server().files() == files, "something is left");
            assert!(case.component.cut_over(&cx).await.is_err());
        }
        assert_same(&case.server().content(), &content);
    }
}

/// Commands carry no checksum of their own: only the manifest's hash tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_byte_is_told_by_the_hash() {
    for (form, at) in [(Form::Rdb, 1500), (Form::Aof, 1500), (Form::AofDir, 300)] {
        let case = Case::new(Server::new(&["appendonly yes"]), "");
        back_up(&case, form);
        case.seal();
        let file = std::fs::read_dir(case.artifact(""))
            .unwrap()
            .next()
            .unwrap();
        let file = file.unwrap().path();
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[at] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        case.server().start().unwrap();
        let files = case.server().files();
        let error = case.component.stage(&case.cx().await).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
        let name = file.file_name().unwrap().to_str().unwrap();
        assert!(error.message().contains(name), "{error}");
        assert!(case.server().files() == files, "something is left");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_packed_rdb_is_unpacked() {
    let case = Case::new(Server::new(&[]), "rdb = ['redis/redis-{id}.rdb.gz']");
    let content = back_up(&case, Form::Rdb);
    let rdb = case.artifact(&format!("redis-{BACKUP}.rdb"));
    let packed = std::process::Command::new("gzip")
        .arg(&rdb)
        .status()
        .unwrap();
    assert!(packed.success());
    case.server().start().unwrap();
    case.restore().await;
    assert_same(&case.server().content(), &content);
}

/// Trap 30: an RDB of a newer Redis is told by its first bytes.
#[tokio::test(flavor = "multi_thread")]
async fn an_inspection_sees_what_the_first_bytes_tell() {
    let case = Case::new(Server::new(&[]), "");
    case.server().start().unwrap();
    let rdb = format!("redis-{BACKUP}.rdb");
    for (bytes, code) in [
        (&b"REDIS0099"[..], "redis.newer_rdb"),
        (b"", "redis.not_redis_data"),
        (b"REDIS0010\xff", ""),
    ] {
        std::fs::write(case.artifact(&rdb), bytes).unwrap();
        let inspection = case.component.inspect(&case.cx().await).await.unwrap();
        let codes: Vec<&str> = inspection
            .findings
            .iter()
            .map(|f| f.code.as_str())
            .collect();
        assert_eq!(codes.first().copied().unwrap_or_default(), code);
        assert_eq!(inspection.artifacts, [format!("redis/{rdb}")]);
        assert_eq!(inspection.facts["appendonly"], json!(false));
    }
    std::fs::remove_file(case.artifact(&rdb)).unwrap();
    let inspection = case.component.inspect(&case.cx().await).await.unwrap();
    assert_eq!(inspection.findings[0].code, "redis.no_artifact");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inspection_refuses_another_directory_and_replicas() {
    let case = Case::new(Server::new(&["enable-protected-configs yes"]), "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    case.server().run(
        0,
        &[&format!("CONFIG SET dir {}", elsewhere.path().display())],
    );
    case.server().run(0, &["REPLICAOF 127.0.0.1 1"]);
    let inspection = case.component.inspect(&case.cx().await).await.unwrap();
    let codes: Vec<&str> = inspection
        .findings
        .iter()
        .map(|f| f.code.as_str())
        .collect();
    assert_eq!(codes, ["redis.replica", "redis.other_directory"]);
}

/// `CONFIG SET appendonly no` leaves the files of the mode that a restart comes back to.
#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_speaks_against_appendonly_no() {
    let case = Case::new(Server::new(&["appendonly yes"]), "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    let codes = async || {
        let inspection = case.component.inspect(&case.cx().await).await.unwrap();
        let codes = inspection.findings.into_iter().map(|f| f.code.to_string());
        codes.collect::<Vec<String>>()
    };
    assert_eq!(codes().await, [""; 0]);
    case.server().run(0, &["CONFIG SET appendonly no"]);
    assert_eq!(codes().await, ["redis.appendonly_differs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn both_an_rdb_and_an_aof_it_says_which_is_used() {
    for (prefer, used, code) in [
        ("rdb", "rdb", "redis.rdb_chosen"),
        ("aof", "aof", "redis.aof_chosen"),
    ] {
        let case = Case::new(Server::new(&[]), &format!("prefer = '{prefer}'"));
        let rdb = back_up(&case, Form::Rdb);
        let aof = back_up(&case, Form::Aof);
        assert_ne!(rdb, aof);
        case.server().start().unwrap();
        let inspection = case.component.inspect(&case.cx().await).await.unwrap();
        assert_eq!(inspection.findings[0].code, code);
        assert_eq!(
            inspection.artifacts,
            [format!("redis/redis-{BACKUP}.{used}")]
        );
        case.restore().await;
        assert_eq!(
            case.server().content(),
            if prefer == "rdb" { rdb } else { aof }
        );
    }
}

/// An AOF copied from a server at work ends anywhere. Only its hash tells that from damage.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_aof_needs_its_hash() {
    let case = Case::new(Server::new(&["appendonly yes"]), "");
    back_up(&case, Form::Aof);
    let aof = case.artifact(&format!("redis-{BACKUP}.aof"));
    let whole = std::fs::read(&aof).unwrap();
    std::fs::write(&aof, &whole[..whole.len() - 3]).unwrap();
    case.server().start().unwrap();
    let error = case.component.stage(&case.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "redis.aof_truncated");
    assert_eq!(error.kind(), ErrorKind::Verification);
    case.seal();
    let staged = case.restore().await;
    assert!(
        staged
            .findings
            .iter()
            .any(|f| f.code == "redis.aof_truncated")
    );
    // The last command was the removal of this key.
    assert!(case.server().content().contains_key("0/backup:0"));
    assert!(case.server().content().contains_key("0/backup:late"));
}

/// Trap 29: no process has the password among its arguments, at any time.
#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_in_no_arguments_and_no_facts() {
    const PASSWORD: &str = "s3cret-f0r-n0b0dy";
    let case = Case::new(Server::new(&["appendonly yes"]).with_password(PASSWORD), "");
    let content = back_up(&case, Form::Aof);
    case.server().start().unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let watcher = std::thread::spawn(move || {
        let (mut looks, mut seen) = (0, Vec::new());
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let arguments = String::from_utf8_lossy(&arguments).into_owned();
                if arguments.contains(PASSWORD) {
                    seen.push(arguments);
                }
                looks += usize::from(!seen.is_empty() || entry.path().ends_with("1"));
            }
        }
        (looks, seen)
    });
    let staged = case.restore().await;
    stop.send(()).unwrap();
    let (looks, seen) = watcher.join().unwrap();
    assert!(looks > 1);
    assert_eq!(seen, Vec::<String>::new());
    let started = format!("{:?}", case.platform.started.lock().unwrap());
    assert!(started.contains("restore-scratch.conf") && !started.contains(PASSWORD));
    assert!(!format!("{staged:?} {:?}", case.facts).contains(PASSWORD));
    assert_same(&case.server().content(), &content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_without_saying_it() {
    let case = Case::new(Server::new(&[]).with_password("right"), "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    std::fs::write(case.server().password_file(), "wr0ng-0ne").unwrap();
    let inspection = case.component.inspect(&case.cx().await).await.unwrap();
    assert_eq!(inspection.findings[0].code, "redis.auth");
    assert!(!format!("{inspection:?}").contains("wr0ng-0ne"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_settings_are_a_finding() {
    let case = Case::new(
        Server::new(&["appendonly yes", "rename-command CONFIG \"\""]),
        "",
    );
    let content = back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    let inspection = case.component.inspect(&case.cx().await).await.unwrap();
    assert_eq!(inspection.findings[0].code, "redis.settings_refused");
    // INFO still tells this.
    assert_eq!(inspection.facts["appendonly"], json!(true));
    case.restore().await;
    assert_same(&case.server().content(), &content);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_file_names_and_another_user() {
    let (uid, gid) = account("redis");
    let server = Server::new(&[
        "appendonly yes",
        "dbfilename other.rdb",
        "appendfilename \"my log.aof\"",
        "appenddirname aofs",
        "save 3600 1",
    ])
    .with_user(uid, gid);
    let case = Case::new(server, "");
    for form in FORMS {
        let _ = std::fs::remove_dir_all(case.artifact(""));
        std::fs::create_dir(case.artifact("")).unwrap();
        let content = back_up(&case, form);
        case.server().start().unwrap();
        case.server().fill("old", 5);
        case.restore().await;
        assert_same(&case.server().content(), &content);
        case.server().restart();
        assert_same(&case.server().content(), &content);
        case.undo().await;
        case.component
            .discard(&case.cx().await, Discard::Staged)
            .await
            .unwrap();
        case.server().stop();
        for path in case.server().files().keys() {
            use std::os::unix::fs::MetadataExt;
            assert_eq!(path.metadata().unwrap().uid(), uid, "{}", path.display());
        }
        let mut connection_free = std::fs::read_dir(case.server().data()).unwrap();
        assert!(
            connection_free.all(|e| !e.unwrap().file_name().to_str().unwrap().starts_with('.'))
        );
        std::fs::remove_dir_all(case.server().data().join("aofs")).unwrap();
    }
}

fn account(name: &str) -> (u32, u32) {
    let text = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = text
        .lines()
        .find(|l| l.starts_with(&format!("{name}:")))
        .unwrap();
    let mut fields = line.split(':').skip(2).map(|id| id.parse().unwrap());
    (fields.next().unwrap(), fields.next().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_may_be_called_again_and_undo_brings_the_old_data_back() {
    for appendonly in ["appendonly yes", "appendonly no"] {
        let case = Case::new(Server::new(&[appendonly]), "");
        let content = back_up(&case, Form::Rdb);
        case.server().start().unwrap();
        case.server().fill("old", 50);
        let old = case.server().content();
        let cx = case.cx().await;
        let component = &case.component;

        component.undo(&cx).await.unwrap();
        let first = case.stage().await;
        let again = component.stage(&cx).await.unwrap();
        assert_eq!(first.facts, again.facts);
        case.server().stop();
        let mut before = case.server().files();
        before.retain(|path, _| !path.to_str().unwrap().contains(".restore"));
        component.cut_over(&cx).await.unwrap();
        component.cut_over(&cx).await.unwrap();
        assert!(component.replaced_at(&cx).await.unwrap().is_some());
        assert!(component.stage(&cx).await.is_err(), "staging over a swap");
        case.server().start().unwrap();
        case.assert_checked().await;
        assert_same(&case.server().content(), &content);

        case.server().stop();
        component.undo(&cx).await.unwrap();
        component.undo(&cx).await.unwrap();
        assert_eq!(component.replaced_at(&cx).await.unwrap(), None);
        component.discard(&cx, Discard::Staged).await.unwrap();
        component.discard(&cx, Discard::Staged).await.unwrap();
        assert!(case.server().files() == before, "other files than before");
        case.server().start().unwrap();
        assert_same(&case.server().content(), &old);
        assert!(component.cut_over(&cx).await.is_err(), "nothing is staged");

        // And once more to the end: confirmed, nothing of the run is left.
        case.restore().await;
        component.discard(&cx, Discard::Staged).await.unwrap();
        component.discard(&cx, Discard::Replaced).await.unwrap();
        component.discard(&cx, Discard::Replaced).await.unwrap();
        let hidden = case
            .server()
            .files()
            .into_keys()
            .find(|p| p.to_str().unwrap().contains(".restore"));
        assert_eq!(hidden, None);
        assert_eq!(component.replaced_at(&cx).await.unwrap(), None);
        ends_as_the_backup(&case, &content).await;
    }
}

/// The mode was changed between two attempts to stage: the last one counts.
#[tokio::test(flavor = "multi_thread")]
async fn staging_again_follows_the_server() {
    let case = Case::new(Server::new(&["appendonly yes", "dbfilename a.rdb"]), "");
    let content = back_up(&case, Form::Rdb);
    for (name, value) in [
        ("appendonly", "no"),
        ("dbfilename", "b.rdb"),
        ("appendonly", "yes"),
    ] {
        case.server().start().unwrap();
        case.stage().await;
        case.server().stop();
        case.server().set(name, value);
    }
    case.server().start().unwrap();
    case.server().fill("old", 5);
    case.restore().await;
    ends_as_the_backup(&case, &content).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_check_sees_another_data_set_and_another_mode() {
    let case = Case::new(Server::new(&["appendonly yes"]), "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    case.restore().await;
    case.server().run(0, &["SET one:more x"]);
    case.assert_checked().await;
    case.server().stop();
    std::fs::remove_dir_all(case.server().data().join("appendonlydir")).unwrap();
    case.server().start().unwrap();
    let failed = |outcomes: Vec<restore_core::component::CheckOutcome>| {
        let failed = outcomes.into_iter().filter(|o| !o.passed);
        failed.map(|o| o.name).collect::<Vec<_>>()
    };
    assert_eq!(failed(case.check().await), ["cache/keys"]);
    case.server().set("appendonly", "no");
    case.server().set("save", "\"\"");
    case.server().restart();
    let outcomes = failed(case.check().await);
    assert!(
        outcomes.contains(&"cache/appendonly".to_owned()),
        "{outcomes:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_databases_are_refused_in_staging() {
    let case = Case::new(Server::new(&["databases 4"]), "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    let error = case.component.stage(&case.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "redis.databases");
    assert_eq!(error.kind(), ErrorKind::Preflight);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_have_expired_since_are_not_missed() {
    for appendonly in ["appendonly yes", "appendonly no"] {
        let case = Case::new(Server::new(&[appendonly]), "");
        let source = Server::new(&["save \"\""]);
        source.start().unwrap();
        source.run(
            0,
            &[
                "SET stays x",
                "SET later x PX 600",
                "SET soon x PX 40",
                "SAVE",
            ],
        );
        let rdb = format!("redis-{BACKUP}.rdb");
        std::fs::copy(source.data().join("dump.rdb"), case.artifact(&rdb)).unwrap();
        until("the short one is gone", || source.content().len() < 4);
        case.server().start().unwrap();
        case.stage().await;
        until("all are gone", || source.content().len() == 2);
        case.cut_over().await;
        case.assert_checked().await;
        assert_same(&case.server().content(), &source.content());
    }
}

/// Writes an RDB that takes a while to load.
fn large(case: &Case) {
    let source = Server::new(&["save \"\"", "enable-debug-command yes"]);
    source.start().unwrap();
    source.run(0, &["DEBUG POPULATE 2000000", "SAVE"]);
    let rdb = format!("redis-{BACKUP}.rdb");
    std::fs::rename(source.data().join("dump.rdb"), case.artifact(&rdb))
        .or_else(|_| std::fs::copy(source.data().join("dump.rdb"), case.artifact(&rdb)).map(drop))
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_stage_ends_soon_and_leaves_nothing() {
    let case = Case::new(Server::new(&["appendonly yes"]), "");
    large(&case);
    case.server().start().unwrap();
    let files = case.server().files();
    let cx = case.cx().await;
    let component = case.component.clone();
    let staging = tokio::spawn(async move { component.stage(&cx).await });
    let folder = case.server().data().join(case.run.folder());
    until("the scratch server loads", || in_folder(&folder).len() == 1);
    case.cancel.cancel();
    let error = staging.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    until("the scratch server is gone", || {
        in_folder(&folder).is_empty()
    });
    assert!(case.server().files() == files, "something is left");
}

/// A process that was killed while it staged may leave its scratch server running.
#[tokio::test(flavor = "multi_thread")]
async fn a_leftover_scratch_server_is_ended() {
    let case = Case::new(Server::new(&["appendonly yes"]), "");
    large(&case);
    case.server().start().unwrap();
    let cx = case.cx().await;
    let folder = case.server().data().join(case.run.folder());
    let component = case.component.clone();
    *case.platform.leave_scratch.lock().unwrap() = true;
    let staging = tokio::spawn(async move { component.stage(&cx).await });
    until("the scratch server listens", || {
        in_folder(&folder).iter().any(|pid| {
            std::path::Path::new(&format!("/proc/{pid}/cwd/.restore-scratch.sock")).exists()
        })
    });
    staging.abort();
    assert!(staging.await.unwrap_err().is_cancelled());
    assert_eq!(in_folder(&folder).len(), 1);
    let cx = case.cx().await;
    case.component.discard(&cx, Discard::Staged).await.unwrap();
    assert!(in_folder(&folder).is_empty());
    assert!(!folder.exists());
}

/// The processes at work below a folder.
fn in_folder(folder: &std::path::Path) -> Vec<u32> {
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_section_is_checked() {
    let server = Server::new(&[]);
    let case = Case::new(server, "stops = ['app', 'redis']");
    assert_eq!(case.component.stops(), ["app", "redis"]);
    let case = Case::new(Server::new(&[]), "stops = ['app']");
    assert_eq!(case.component.stops(), ["app", "redis"]);
    let parts = restore_core::component::Parts::new(case.platform.clone(), "/", "/");
    let make = |text: &str| {
        let table = toml::from_str(text).unwrap();
        let made = restore_core::component::Registry::default().make("cache", table, &parts);
        made.err().unwrap().to_string()
    };
    let wrong = make("kind = 'redis'\nservice = 'a'\nvolum = 'b'");
    assert_eq!(wrong, "[components.cache] unknown key `volum`");
    let both =
        "kind = 'redis'\nservice = 'a'\nvolume = 'b'\npassword_file = 'c'\npassword_env = 'd'";
    assert!(make(both).contains("names a secret twice"));
}
