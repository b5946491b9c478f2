//! Which backups are loaded, and which are refused with nothing left behind.

use restore_core::ErrorKind;
use restore_testing::redis::{BACKUP, Case, Form, Server, back_up};

use super::assert_same;

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

#[tokio::test(flavor = "multi_thread")]
async fn too_many_databases_are_refused_in_staging() {
    let case = Case::new(Server::new(&["databases 4"]), "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    let error = case.component.stage(&case.cx().await).await.unwrap_err();
    assert_eq!(error.code(), "redis.databases");
    assert_eq!(error.kind(), ErrorKind::Preflight);
}
