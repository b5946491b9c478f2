//! However the server keeps its data, before and after: the backup wins.

use restore_core::platform::Discard;
use restore_testing::redis::{Case, Form, Server, back_up};
use serde_json::json;

use super::{assert_same, codes, ends_as_the_backup};

const FORMS: [Form; 3] = [Form::Rdb, Form::Aof, Form::AofDir];

/// The old `appendonlydir` has a manifest.
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
        assert_eq!(
            codes(&case).await,
            ["redis.down", "redis.appendonly_unknown"]
        );
        case.server().set("appendonly", appendonly);
        case.restore().await;
        ends_as_the_backup(&case, &content).await;
    }
}

/// Every file that could win is moved aside, and what is turned on or off later never
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

/// The server saves its own data when it is asked to end, after staging.
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
