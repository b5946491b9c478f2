//! `backup-ID.tar.gz` and `backup-ID.tar.gz.gpg`: unpacked as they come, or refused.

use restore_core::backup::Verdict;
use restore_core::{ErrorKind, FetchOptions, Site};
use restore_testing::locked::*;
use restore_testing::remote::*;
use serde_json::json;

async fn refused(site: &Site, code: &str, kind: ErrorKind) {
    let error = site.fetch(ID, FetchOptions::new()).await.unwrap_err();
    assert_eq!((error.code(), error.kind()), (code, kind), "{error}");
    assert!(
        error.hint_text().is_some() && !error.to_string().contains('\n'),
        "{error}"
    );
}

#[tokio::test]
async fn a_packed_backup_is_unpacked_by_fetching_it() {
    for pack in [
        "tar -C work -czf main/backup-$ID.tar.gz $ID",
        "tar -C work -cf main/backup-$ID.tar ./$ID",
        "tar -C work -czf - $ID | gpg -c -o main/backup-$ID.tar.gz.gpg",
        "tar -C work -czf p.tgz $ID; gpg -c -o main/backup-$ID.tgz.gpg p.tgz",
        "tar -C work -cf - $ID | gpg -c --armor -o main/backup-$ID.tar.gpg",
    ] {
        let locked = Locked::new();
        locked.shell(pack);
        let site = locked.with_passphrase();
        let error = site.backup("latest").await.unwrap_err();
        assert_eq!(error.code(), "backup.packed", "{pack}: {error}");
        let (backup, report) = site.bring("latest", FetchOptions::new()).await.unwrap();
        let report = report.unwrap();
        assert_eq!(report.verdict, Some(Verdict::Verified), "{pack}");
        assert_eq!(
            (report.from.as_deref(), report.to.as_str()),
            (Some("main"), "plain")
        );
        assert_eq!(report.findings, [], "{pack}");
        assert_eq!(backup.id().as_str(), ID);
        assert_eq!(mode(&report.path), 0o700);
        locked.assert_unpacked();
        // Now it is here as a folder, and that is what counts.
        assert!(site.backup("latest").await.is_ok());
        assert!(
            site.fetch(ID, FetchOptions::new())
                .await
                .unwrap()
                .already_there
        );
    }
}

#[tokio::test]
async fn an_encrypted_one_is_put_down_in_plain_only_where_that_is_said() {
    let locked = Locked::new();
    locked.encrypt();
    let site = locked.with_passphrase();
    let error = site
        .fetch(ID, FetchOptions::new().to_store(Some("main")))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.kind()),
        ("fetch.would_be_plain", ErrorKind::Preflight)
    );
    assert_eq!(
        names(&locked.path("main")),
        [format!("backup-{ID}.tar.gz.gpg")]
    );
}

#[tokio::test]
async fn each_way_to_fail_has_its_own_error_and_leaves_nothing_to_take_for_a_backup() {
    let locked = Locked::new();
    let file = locked.encrypt();
    let whole = std::fs::read(&file).unwrap();
    let site = locked.with_passphrase();
    let verification = ErrorKind::Verification;

    refused(
        &locked.site(json!({"passphrase_file": "wrong"})),
        "unlock.wrong_passphrase",
        verification,
    )
    .await;
    refused(
        &locked.site(json!({})),
        "unlock.no_passphrase",
        ErrorKind::Config,
    )
    .await;
    for length in [
        0,
        1,
        40,
        200,
        whole.len() / 2,
        whole.len() - 30,
        whole.len() - 1,
    ] {
        std::fs::write(&file, &whole[..length]).unwrap();
        refused(&site, "unlock.truncated", verification).await;
    }
    // At many places: what gpg makes of a change depends on what it hits.
    for at in (1..24).map(|n| whole.len() / 24 * n) {
        std::fs::write(&file, &whole).unwrap();
        flip(&file, at);
        let error = site.fetch(ID, FetchOptions::new()).await.unwrap_err();
        // A changed length says that more was to come.
        let codes = ["unlock.modified", "unlock.truncated"];
        assert!(codes.contains(&error.code()), "at {at}: {error:?}");
        assert_eq!(error.kind(), verification, "at {at}: {error}");
    }
    std::fs::write(&file, &whole).unwrap();
    flip(&file, whole.len() - 1);
    refused(&site, "unlock.modified", verification).await;
    std::fs::write(&file, [&whole[..], &junk()].concat()).unwrap();
    let error = site.fetch(ID, FetchOptions::new()).await.unwrap_err();
    assert_eq!(error.kind(), verification, "{error}");
    std::fs::write(&file, junk()).unwrap();
    let error = site.fetch(ID, FetchOptions::new()).await.unwrap_err();
    assert!(error.code().starts_with("unlock."), "{error}");
    locked.shell("tar -C work -czf - $ID | gpg -c --rfc2440 --disable-mdc -o main/backup-$ID.tar.gz.gpg 2>/dev/null");
    refused(&site, "unlock.unprotected", verification).await;
    locked.assert_nothing();

    // And whole again, it is fetched.
    std::fs::write(&file, &whole).unwrap();
    site.fetch(ID, FetchOptions::new()).await.unwrap();
    locked.assert_unpacked();
}

/// As GnuPG 2.4 makes them with OCB, which versions read that do not make them.
#[tokio::test]
async fn one_of_a_newer_gpg_is_unlocked_and_one_of_others_told() {
    let whole = include_bytes!("ocb.tar.gz.gpg");
    let locked = Locked::new();
    let file = locked.path(&format!("main/backup-{ID}.tar.gz.gpg"));
    std::fs::write(&file, whole).unwrap();
    let verification = ErrorKind::Verification;
    refused(
        &locked.site(json!({"passphrase_file": "wrong"})),
        "unlock.wrong_passphrase",
        verification,
    )
    .await;
    let site = locked.with_passphrase();
    std::fs::write(&file, &whole[..whole.len() - 1]).unwrap();
    refused(&site, "unlock.truncated", verification).await;
    // A session key and content of the versions that RFC 9580 has.
    let mut other = whole.to_vec();
    for (at, byte) in [(6, 6), (83, 0xd2), (89, 2)] {
        other[at] = byte;
    }
    std::fs::write(&file, other).unwrap();
    refused(&site, "unlock.newer_form", ErrorKind::Config).await;
    locked.assert_nothing();

    std::fs::write(&file, whole).unwrap();
    site.fetch(ID, FetchOptions::new()).await.unwrap();
    let note = locked.path(&format!("plain/{ID}/configs/note-{ID}.txt"));
    assert_eq!(std::fs::read(note).unwrap(), b"of a newer gpg\n");
}

#[tokio::test]
async fn what_is_in_the_archive_is_held_to_the_same_rules() {
    let pack = "tar -C work -czf main/backup-$ID.tar.gz";
    for (command, code) in [
        (
            "mv work/$ID work/20240216-020000; %pack 20240216-020000",
            "archive.member_missing",
        ),
        (
            "%pack $ID; truncate -s -100 main/backup-$ID.tar.gz",
            "archive.truncated",
        ),
        (
            "echo more >> work/$ID/redis/redis-$ID.rdb; %pack $ID",
            "verify.long",
        ),
        ("rm work/$ID/MANIFEST.txt; %pack $ID", "verify.unfinished"),
        (
            "ln -s /etc/passwd work/$ID/redis/link.rdb; %pack $ID",
            "archive.member_refused",
        ),
    ] {
        let locked = Locked::new();
        locked.shell(&command.replace("%pack", pack));
        let site = locked.with_passphrase();
        refused(&site, code, ErrorKind::Verification).await;
        locked.assert_nothing();
    }
    // What is outside of the backup's folder is not written, wherever it would lead.
    for command in [
        "echo x > work/other; %pack $ID other",
        "cd work; tar -P -czf ../main/backup-$ID.tar.gz $ID ../pass",
    ] {
        let locked = Locked::new();
        locked.shell(&command.replace("%pack", pack));
        let report = locked
            .with_passphrase()
            .fetch(ID, FetchOptions::new())
            .await
            .unwrap();
        assert_eq!(report.findings[0].code, "fetch.left_out", "{command}");
        locked.assert_unpacked();
    }
}

#[tokio::test]
async fn a_public_key_is_the_operator_s_own_keyring_s_matter() {
    let locked = Locked::new();
    let key = locked.make_key("gnupg");
    locked.shell(&format!(
        "tar -C work -czf - $ID | gpg -e -r {key} -o main/backup-$ID.tar.gz.gpg"
    ));
    std::fs::create_dir(locked.path("gnupg-empty")).unwrap();
    locked.shell("chmod 700 gnupg-empty");
    refused(
        &locked.site(json!({"gnupg_home": "gnupg-empty"})),
        "unlock.no_key",
        ErrorKind::Config,
    )
    .await;
    locked
        .site(json!({}))
        .fetch(ID, FetchOptions::new())
        .await
        .unwrap();
    locked.assert_unpacked();
}
