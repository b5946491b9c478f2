//! Single files, full disks, cancellation, estimates.

use std::os::unix::fs::FileExt as _;

use super::*;

#[tokio::test]
async fn copies_are_whole_or_not_there() {
    let work = tempdir().unwrap();
    let data = content(1_000_000, 5);
    let dest = work.path().join("dest");
    for (name, stored) in [
        ("dump.sql", data.clone()),
        ("dump.sql.gz", gzip(&data)),
        ("dump.sql", gzip(&data)),
    ] {
        let path = work.path().join(name);
        fs::write(&path, &stored).unwrap();
        let done = copy_verified(
            source(&path),
            &dest,
            0o640,
            Some((12, 34)),
            Progress::hidden(),
        )
        .await
        .unwrap();
        assert_eq!(done, (1_000_000, sha256(&stored)));
        assert!(fs::read(&dest).unwrap() == data);
        let meta = fs::metadata(&dest).unwrap();
        assert_eq!(
            (meta.mode() & 0o7777, meta.uid(), meta.gid()),
            (0o640, 12, 34)
        );
        // There already: not touched.
        let error = copy_verified(source(&path), &dest, 0o600, None, Progress::hidden())
            .await
            .unwrap_err();
        assert_eq!(error.code(), "io.failed");
        assert!(fs::read(&dest).unwrap() == data);
        fs::remove_file(&dest).unwrap();
    }
    for (name, stored) in [
        ("cut.gz", gzip(&data)[..1000].to_vec()),
        ("not.gz", data.clone()),
        ("empty.gz", Vec::new()),
        ("garbage.gz", [gzip(&data), b"more".to_vec()].concat()),
    ] {
        let path = work.path().join(name);
        fs::write(&path, &stored).unwrap();
        let error = copy_verified(source(&path), &dest, 0o600, None, Progress::hidden())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
        assert!(error.message().contains(name), "{error}");
        assert!(!dest.exists());
        assert_eq!(
            read_through(source(&path), Progress::hidden())
                .await
                .unwrap_err()
                .code(),
            error.code()
        );
    }
    let path = work.path().join("crontab.txt");
    fs::write(&path, b"").unwrap();
    assert_eq!(
        copy_verified(source(&path), &dest, 0o600, None, Progress::hidden())
            .await
            .unwrap()
            .0,
        0
    );
}

#[tokio::test]
async fn cancelling_stops_soon_and_says_so() {
    let work = tempdir().unwrap();
    // 2 GiB unpacked, in some 2 MB.
    let zeros = vec![0; 64 * 1024 * 1024];
    let part = gzip(&zeros);
    let header = Raw::default().add(&Header {
        name: "big",
        size: Some(2 << 30),
        ..Header::default()
    });
    let mut bytes = gzip(&header.0);
    for _ in 0..32 {
        bytes.extend_from_slice(&part);
    }
    let archive = work.path().join("big.tar.gz");
    fs::write(&archive, &bytes).unwrap();
    let cancel = CancellationToken::new();
    let target = work.path().join("target");
    fs::create_dir(&target).unwrap();
    let source = source(&archive).cancelled_by(cancel.clone());
    let running = tokio::spawn({
        let target = target.clone();
        async move { unpack(source, &target, &live(""), Progress::hidden()).await }
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    while !target.join("big").exists() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let asked = Instant::now();
    cancel.cancel();
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (ErrorKind::Interrupted, "run.interrupted")
    );
    assert!(
        asked.elapsed() < Duration::from_secs(2),
        "{:?}",
        asked.elapsed()
    );

    let source = Source::new(&archive, "x", None, None).cancelled_by(cancel);
    let dest = work.path().join("dest");
    for error in [
        hash_file(&source, Progress::hidden()).await.unwrap_err(),
        walk(source.clone(), &live(""), Progress::hidden())
            .await
            .unwrap_err(),
        read_through(source.clone(), Progress::hidden())
            .await
            .unwrap_err(),
        copy_verified(source, &dest, 0o600, None, Progress::hidden())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Interrupted);
    }
    assert!(!dest.exists());
}

/// A file system of its own, as small as one wants, gone with the guard.
struct Tmpfs(PathBuf);

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.to_str().unwrap()]);
    }
}

#[tokio::test]
async fn a_full_disk_is_named() {
    let work = tempdir().unwrap();
    let disk = work.path().join("disk");
    fs::create_dir(&disk).unwrap();
    run(
        "mount",
        &[
            "-t",
            "tmpfs",
            "-o",
            "size=1m",
            "none",
            disk.to_str().unwrap(),
        ],
    );
    let _unmount = Tmpfs(disk.clone());
    let target = disk.join("target");
    fs::create_dir(&target).unwrap();
    let archive = work.path().join("a.tar.gz");
    let small = content(2000, 1);
    let many = (0..1000).fold(Raw::default(), |raw, number| {
        raw.file(&format!("{number}"), &small)
    });
    for (raw, name) in [
        (
            Raw::default().file("large", &content(3_000_000, 1)),
            "large",
        ),
        (many, ""),
    ] {
        raw.gzip(&archive);
        let error = unpack_with(&archive, &target, &live("")).await.unwrap_err();
        assert_eq!(
            (error.code(), error.kind()),
            ("io.disk_full", ErrorKind::Failed),
            "{error}"
        );
        assert!(
            error
                .message()
                .contains(target.join(name).to_str().unwrap()),
            "{error}"
        );
        assert!(error.hint_text().unwrap().contains("space"));
        fs::remove_dir_all(&target).unwrap();
        fs::create_dir(&target).unwrap();
    }
    let dest = disk.join("copy");
    let error = copy_verified(source(&archive), &dest, 0o600, None, Progress::hidden())
        .await
        .unwrap_err();
    assert_eq!(error.code(), "io.disk_full", "{error}");
    assert!(error.message().contains("disk/copy") && !dest.exists());
}

#[tokio::test]
async fn missing_things_are_named() {
    let work = tempdir().unwrap();
    let archive = work.path().join("a.tar.gz");
    let error = unpack_with(&archive, work.path(), &live(""))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "io.not_found");
    assert!(error.message().contains("a.tar.gz"), "{error}");
    Raw::default().file("a", b"").gzip(&archive);
    let error = unpack_with(&archive, &work.path().join("no"), &live(""))
        .await
        .unwrap_err();
    assert!(error.message().contains("/no"), "{error}");
    run("mkfifo", &[work.path().join("pipe").to_str().unwrap()]);
    for path in [work.path().join("pipe"), work.path().to_path_buf()] {
        let error = hash_file(&source(&path), Progress::hidden())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Verification, "{error}");
    }
}

#[test]
fn sizes_are_estimated_without_reading() {
    let work = tempdir().unwrap();
    let data = content(1_000_000, 1);
    let plain = work.path().join("a.tar");
    fs::write(&plain, &data).unwrap();
    let name = |end: &str| work.path().join(format!("a.tar{end}"));
    fs::write(name(".gz"), gzip(&data)).unwrap();
    run("zstd", &["-q", plain.to_str().unwrap()]);
    run(
        "sh",
        &[
            "-c",
            &format!(
                "zstd -q < {} > {}",
                plain.display(),
                name(".piped").display()
            ),
        ],
    );
    fs::write(name(".short"), b"\x1f\x8b").unwrap();
    for (end, size) in [
        ("", 1_000_000),
        (".gz", 1_000_000),
        (".zst", 1_000_000),
        (".short", 2),
    ] {
        assert_eq!(estimate_unpacked(name(end)).unwrap(), size, "{end}");
    }
    assert!(estimate_unpacked(name(".piped")).unwrap() >= 1_000_000);
    // More than 4 GiB, of which the trailer only says the rest.
    let large: u64 = 64 << 20;
    fs::write(name(".wrapped"), gzip(&data)).unwrap();
    let file = fs::File::options()
        .write(true)
        .open(name(".wrapped"))
        .unwrap();
    file.set_len(large).unwrap();
    file.write_all_at(&5_u32.to_le_bytes(), large - 4).unwrap();
    assert_eq!(estimate_unpacked(name(".wrapped")).unwrap(), (1 << 32) + 5);
    // Of several members it says the size of the last; that this is the rest of 4 GiB is not believed.
    let members = [gzip(&data), gzip(&content(1000, 2))].concat();
    fs::write(name(".members"), &members).unwrap();
    assert_eq!(
        estimate_unpacked(name(".members")).unwrap(),
        4 * members.len() as u64
    );
    // What does not shrink becomes a little larger, and is no 4 GiB for that.
    fs::write(name(".grown"), gzip(b"hello")).unwrap();
    assert_eq!(estimate_unpacked(name(".grown")).unwrap(), 5);
    assert_eq!(
        estimate_unpacked(name(".none")).unwrap_err().code(),
        "io.not_found"
    );
}
