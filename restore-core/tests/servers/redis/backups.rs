//! Which backups are loaded, and which are refused with nothing left behind.

use restore_core::ErrorKind;
use restore_testing::redis::{BACKUP, Case, Form, Server, back_up};

use super::assert_same;

/// What the server cannot load is found out in staging, by a server.
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

/// Nothing takes the place of live keys unasked.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_without_keys_needs_a_word() {
    let case = Case::new(Server::new(&[]), "");
    let rdb = b"REDIS0009\xff\0\0\0\0\0\0\0\0";
    std::fs::write(case.artifact(&format!("redis-{BACKUP}.rdb")), rdb).unwrap();
    case.server().start().unwrap();
    assert_eq!(
        case.stage().await.facts["total_keys"],
        0,
        "nothing is live either"
    );
    case.server().fill("live", 5);
    let mut content = case.server().content();
    content.remove("functions");
    let live = content.len();
    let cx = case.cx().await;
    let refused = case.component.stage(&cx).await.unwrap_err();
    assert_eq!(refused.code(), "redis.no_keys");
    assert!(
        refused.message().contains(&format!("has {live}")),
        "{refused}"
    );
    assert!(refused.hint_text().unwrap().contains("--allow-empty"));
    let staged = case.component.stage(&cx.with_empty(true)).await.unwrap();
    assert_eq!(staged.facts["total_keys"], 0);
}

/// Far fewer keys than are live, or most of them expired, are put in their place only with a yes.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_few_keys_asks() {
    let case = Case::new(Server::new(&[]), "");
    let rdb = case.artifact(&format!("redis-{BACKUP}.rdb"));
    let key = b"REDIS0009\xfe\x00\x00\x03key\x05value";
    let end = b"\xff\0\0\0\0\0\0\0\0";
    std::fs::write(&rdb, [&key[..], end].concat()).unwrap();
    case.server().start().unwrap();
    let asks = |staged: &restore_core::component::Staged, code: &str| {
        staged.findings.iter().any(|it| it.code == code && it.asks)
    };
    assert!(!asks(&case.stage().await, "redis.far_fewer_keys"));
    // Two keys that expired in 1970 beside the one that never does. Nothing is live that they would replace.
    let gone = b"\xfc\x01\0\0\0\0\0\0\0\x00\x02k";
    let expired = [&key[..], gone, b"1\x01v", gone, b"2\x01v", end].concat();
    std::fs::write(&rdb, &expired).unwrap();
    let staged = case.stage().await;
    let told = staged.findings.iter();
    let told: Vec<_> = told.filter(|it| it.code == "redis.keys_expired").collect();
    assert_eq!(told.len(), 1, "{:?}", staged.findings);
    assert!(!told[0].asks, "{told:?}");
    std::fs::write(&rdb, [&key[..], end].concat()).unwrap();
    case.server().fill("live", 150);
    let staged = case.stage().await;
    assert!(
        asks(&staged, "redis.far_fewer_keys"),
        "{:?}",
        staged.findings
    );
    std::fs::write(&rdb, expired).unwrap();
    assert!(asks(&case.stage().await, "redis.keys_expired"));
}

/// A set of one key, as each version of Redis has written it.
#[tokio::test(flavor = "multi_thread")]
async fn rdbs_of_all_older_formats_are_loaded() {
    let case = Case::new(Server::new(&[]), "");
    case.server().start().unwrap();
    for format in 1..=9 {
        let mut rdb = format!("REDIS{format:04}").into_bytes();
        rdb.extend(b"\xfe\x00\x00\x03key\x05value\xff");
        if format >= 5 {
            // No checksum.
            rdb.extend([0; 8]);
        }
        std::fs::write(case.artifact(&format!("redis-{BACKUP}.rdb")), rdb).unwrap();
        let staged = case.stage().await;
        assert_eq!(
            staged.facts["total_keys"], 1,
            "{format}: {:?}",
            staged.facts
        );
    }
    case.cut_over().await;
    let content = case.server().content();
    assert!(content.contains_key("0/key"), "{content:?}");
}

/// Packed as the directory, or from inside of it; and beside an AOF of one file, which is older.
#[tokio::test(flavor = "multi_thread")]
async fn an_appendonlydir_is_read_however_it_was_packed() {
    let tar = |arguments: &[&std::ffi::OsStr]| {
        let status = std::process::Command::new("tar").args(arguments).status();
        assert!(status.unwrap().success());
    };
    for from in ["appendonlydir", "data/appendonlydir", ""] {
        let case = Case::new(Server::new(&["appendonly yes"]), "prefer = 'aof'");
        back_up(&case, Form::Aof);
        let content = back_up(&case, Form::AofDir);
        let archive = case.artifact(&format!("appendonlydir-{BACKUP}.tar.gz"));
        let work = tempfile::tempdir().unwrap();
        tar(&[
            "-xzf".as_ref(),
            archive.as_ref(),
            "-C".as_ref(),
            work.path().as_ref(),
        ]);
        let inside = work.path().join("appendonlydir");
        match from {
            "" => tar(&[
                "-czf".as_ref(),
                archive.as_ref(),
                "-C".as_ref(),
                inside.as_ref(),
                ".".as_ref(),
            ]),
            from => {
                std::fs::create_dir_all(work.path().join(from).parent().unwrap()).unwrap();
                if from != "appendonlydir" {
                    std::fs::rename(&inside, work.path().join(from)).unwrap();
                }
                tar(&[
                    "-czf".as_ref(),
                    archive.as_ref(),
                    "-C".as_ref(),
                    work.path().as_ref(),
                    from.as_ref(),
                ]);
            }
        }
        case.server().start().unwrap();
        let inspection = case.component.inspect(&case.cx().await).await.unwrap();
        let finding = &inspection.findings[0];
        assert_eq!(finding.code, "redis.aof_dir_chosen", "{from:?}");
        assert!(
            finding.message.contains("an AOF of one file, is not"),
            "{finding:?}"
        );
        case.restore().await;
        assert_same(&case.server().content(), &content);
    }
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

/// Of a backup that other tools made, its first bytes tell how many keys the first database has.
#[tokio::test(flavor = "multi_thread")]
async fn keys_of_the_first_database_are_compared() {
    let case = Case::new(Server::new(&["save \"\""]), "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    case.server().fill("old", 5);
    let cx = case.cx().await;
    let contents = case.component.contents().unwrap();
    let found = contents.compare(&cx, 1).await.unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((found[0].of.as_str(), found[0].backup), ("keys", None));
    let first = &found[1];
    assert_eq!(
        (first.of.as_str(), first.counted_only),
        ("keys of database 0", true)
    );
    assert!((300..400).contains(&first.backup.unwrap()), "{first:?}");
    assert!((5..100).contains(&first.live.unwrap()), "{first:?}");
    // What does not tell is counted live only.
    std::fs::remove_file(case.artifact(&format!("redis-{BACKUP}.rdb"))).unwrap();
    back_up(&case, Form::Aof);
    let cx = case.cx().await;
    let found = contents.compare(&cx, 1).await.unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
}
