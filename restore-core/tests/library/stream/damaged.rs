//! Archives that are cut, changed or none at all.

use super::real::everything;
use super::*;

pub(super) fn small_archive(work: &Path) -> Vec<u8> {
    let tree = work.join("tree");
    fs::create_dir_all(tree.join("d")).unwrap();
    fs::write(tree.join("a"), content(700, 1)).unwrap();
    fs::write(tree.join("d/b"), content(1500, 2)).unwrap();
    fs::write(tree.join("d/c"), b"").unwrap();
    let archive = work.join("whole.tar");
    tar(&archive, &tree, &["--format=pax"]);
    fs::read(&archive).unwrap()
}

async fn judged(bytes: &[u8], path: &Path) -> Result<(), Error> {
    fs::write(path, bytes).unwrap();
    walk(source(path), &live(""), Progress::hidden())
        .await
        .map(|_| ())
}

#[tokio::test]
async fn an_archive_cut_anywhere_is_truncated() {
    let work = tempdir().unwrap();
    let plain = small_archive(work.path());
    let cut = work.path().join("cut");
    let last = plain.iter().rposition(|byte| *byte != 0).unwrap();
    let end = (last + 1).next_multiple_of(512) + 512;
    for length in (0..end).step_by(128).chain([1, 511, 513, end - 1]) {
        let error = judged(&plain[..length], &cut).await.expect_err("cut");
        assert_eq!(error.code(), "archive.truncated", "{length}: {error}");
        assert_eq!(error.kind(), ErrorKind::Verification);
        assert!(error.hint_text().is_some());
    }
    // One zero block is an end; whatever padding follows it may be missing.
    judged(&plain[..end], &cut).await.unwrap();
    judged(&plain, &cut).await.unwrap();

    let zipped = gzip(&plain);
    let zstd = work.path().join("whole.tar.zst");
    run(
        "zstd",
        &[
            "-q",
            work.path().join("whole.tar").to_str().unwrap(),
            "-o",
            zstd.to_str().unwrap(),
        ],
    );
    let zstd = fs::read(zstd).unwrap();
    let two = [zipped.clone(), gzip(b"")].concat();
    for (whole, from) in [(&zipped, 2), (&zstd, 4), (&two, zipped.len() + 1)] {
        for length in from..whole.len() {
            let error = judged(&whole[..length], &cut).await.expect_err("cut");
            assert_eq!(
                error.code(),
                "archive.truncated",
                "{length} of {}: {error}",
                whole.len()
            );
        }
        judged(whole, &cut).await.unwrap();
    }
}

#[tokio::test]
async fn a_flipped_byte_is_noticed() {
    let work = tempdir().unwrap();
    let plain = small_archive(work.path());
    let whole = gzip(&plain);
    let bad = work.path().join("bad.tar.gz");
    let mut unchanged = 0;
    // Behind the header, whose time, flags and system nobody checks.
    for at in 10..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        match judged(&bytes, &bad).await {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Verification, "{at}: {error}"),
            // The same bytes can be compressed in several ways: a copy of another equal place.
            Ok(()) => {
                let mut same = Vec::new();
                flate2::read::GzDecoder::new(&bytes[..])
                    .read_to_end(&mut same)
                    .unwrap();
                assert!(same == plain, "{at}");
                unchanged += 1;
            }
        }
    }
    assert!(
        unchanged < whole.len() / 20,
        "{unchanged} of {}",
        whole.len()
    );
    // The two bytes that end the sum itself mean nothing.
    for at in (0..512).filter(|at| !(154..156).contains(at)) {
        let mut bytes = plain.clone();
        bytes[at] ^= 0x55;
        let error = judged(&bytes, &bad).await.expect_err("flipped");
        assert_eq!(error.kind(), ErrorKind::Verification, "{at}: {error}");
    }
}

/// Whatever the headers say, the answer is an error or a result: never a panic, a hang, a file
/// outside or memory without end.
#[tokio::test]
async fn random_damage_never_breaks_down() {
    let work = tempdir().unwrap();
    let tree = work.path().join("everything");
    fs::create_dir(&tree).unwrap();
    everything(&tree);
    fs::remove_file(tree.join("sub/deep/large")).unwrap();
    fs::remove_file(tree.join("sub/edge")).unwrap();
    fs::remove_file(tree.join("zz same as edge")).unwrap();
    let bad = work.path().join("bad.tar");
    let mut state = 1_u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for options in [
        &["--format=gnu", "-S"][..],
        &["--format=pax", "-S"],
        &["--format=pax", "-S", "--sparse-version=0.1"],
    ] {
        let archive = work.path().join("whole.tar");
        tar(&archive, &tree, options);
        let whole = fs::read(&archive).unwrap();
        for _ in 0..60 {
            let mut bytes = whole.clone();
            for _ in 0..=random(3) {
                let block = random(bytes.len() / 512) * 512;
                match random(4) {
                    // A header's number or name, with its sum put right again.
                    0 | 1 => {
                        let at = block + random(345);
                        bytes[at] = [b'0', b'7', 0x80, 0xff, 0, b'/', b'.', b'9'][random(8)];
                        bytes[block + 148..block + 156].fill(b' ');
                        let sum: u32 = bytes[block..block + 512]
                            .iter()
                            .map(|byte| u32::from(*byte))
                            .sum();
                        bytes[block + 148..block + 156]
                            .copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                    }
                    2 => {
                        let at = random(bytes.len());
                        bytes[at] = random(256) as u8;
                    }
                    _ => {
                        let other = random(bytes.len() / 512) * 512;
                        bytes.copy_within(block..block + 512, other);
                    }
                }
            }
            fs::write(&bad, &bytes).unwrap();
            // In memory: what the disk does at the end is not the question here.
            let target = tempfile::tempdir_in("/dev/shm").unwrap();
            match unpack_with(&bad, target.path(), &live("/srv/x")).await {
                Ok(_) => {}
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::Verification | ErrorKind::Failed),
                    "{error:?}"
                ),
            }
        }
    }
}

#[tokio::test]
async fn what_is_no_archive_is_said_to_be_none() {
    let work = tempdir().unwrap();
    let path = work.path().join("a.tar.gz");
    let whole = small_archive(work.path());
    for (bytes, code, word) in [
        (b"".to_vec(), "archive.truncated", "empty"),
        (content(5000, 3), "archive.corrupt", "not a tar archive"),
        (
            gzip(&content(5000, 3)),
            "archive.corrupt",
            "not a tar archive",
        ),
        (gzip(b""), "archive.truncated", "cut off"),
        (
            [gzip(&whole), b"garbage at the end".to_vec()].concat(),
            "archive.corrupt",
            "gzip",
        ),
        (
            [whole.clone(), content(600, 4)].concat(),
            "archive.corrupt",
            "after the end",
        ),
        (
            [whole.clone(), whole.clone()].concat(),
            "archive.corrupt",
            "after the end",
        ),
        (b"BZh91AY&SY".to_vec(), "archive.truncated", "bzip2"),
        (
            b"7z\xbc\xaf\x27\x1c\0\x04".to_vec(),
            "archive.corrupt",
            "7z",
        ),
    ] {
        let error = judged(&bytes, &path).await.expect_err(word);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.message().contains(word), "{error} lacks {word}");
        assert!(error.message().contains("a.tar.gz"), "{error}");
        assert!(error.hint_text().is_some());
    }
    // gzip's members may follow each other, inside the archive too.
    judged(&[gzip(&whole[..700]), gzip(&whole[700..])].concat(), &path)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_wrong_hash_or_size_is_an_error() {
    let work = tempdir().unwrap();
    let archive = work.path().join("a.tar.gz");
    fs::write(&archive, gzip(&small_archive(work.path()))).unwrap();
    let bytes = fs::read(&archive).unwrap();
    let right = sha256(&bytes);
    let size = bytes.len() as u64;
    for (expected_size, digest, code) in [
        (Some(size), Digest([7; 32]), Some("hash.mismatch")),
        (Some(size + 1), right, Some("archive.truncated")),
        (Some(size - 1), right, Some("hash.mismatch")),
        (Some(size), right, None),
    ] {
        let source = Source::new(&archive, "volumes/a.tar.gz", expected_size, Some(digest));
        let target = tempdir().unwrap();
        let dest = work.path().join("copy");
        let unpacked = unpack(source.clone(), target.path(), &live(""), Progress::hidden()).await;
        let copied = copy_verified(source.clone(), &dest, 0o600, None, Progress::hidden()).await;
        let through = read_through(source, Progress::hidden()).await;
        match code {
            Some(code) => {
                for error in [
                    unpacked.unwrap_err(),
                    copied.unwrap_err(),
                    through.unwrap_err(),
                ] {
                    assert_eq!(
                        (error.code(), error.kind()),
                        (code, ErrorKind::Verification)
                    );
                    assert!(error.message().contains("volumes/a.tar.gz"), "{error}");
                }
                assert!(!dest.exists());
            }
            None => {
                assert_eq!(unpacked.unwrap().digest, Some(right));
                assert_eq!(through.unwrap(), right);
                assert_eq!(copied.unwrap(), (fs::metadata(&dest).unwrap().len(), right));
            }
        }
    }
    assert_eq!(
        hash_file(&source(&archive), Progress::hidden())
            .await
            .unwrap(),
        right
    );
}

/// What is sound and not read here is named, with what to do: nobody fetches it again for that.
#[tokio::test]
async fn what_is_not_read_here_is_named_as_what_it_is() {
    let work = tempdir().unwrap();
    let path = work.path().join("a.tar.gz");
    let long = &b"\x28\xb5\x2f\xfd\0\xa8\x01\0\0"[..];
    for (bytes, message, hint) in [
        (
            &b"\x5d\0\0\x80\0\xff\xff\xff\xff"[..],
            "lzma",
            "again with gzip",
        ),
        (b"\x1f\x9d\x90garbage", "compress (.Z)", "again with gzip"),
        (b"\x89LZO\0\x0d\x0a\x1a\x0a", "lzop", "again with gzip"),
        (b"Rar!\x1a\x07\0xxxx", "rar", "again with gzip"),
        (b"\x8c\x0d\x04\x09\x03\x02", "OpenPGP", "gpg --decrypt"),
        (b"\x85\x02\x0c\x03\x11\x22", "OpenPGP", "gpg --decrypt"),
        (b"-----BEGIN PGP MESSAGE-----\n", "OpenPGP", "gpg --decrypt"),
        (
            b"age-encryption.org/v1\n-> X25519\n",
            "age",
            "age --decrypt",
        ),
        (b"Salted__12345678xxxxxxxx", "openssl enc", "openssl enc -d"),
        (long, "--long", "zstd -d --long=31"),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = both(&path, &live("")).await.expect_err(message);
        assert!(error.message().contains(message), "{error}");
        assert!(!error.message().contains("damaged"), "{error}");
        assert!(!error.message().contains("cut off"), "{error}");
        let told = error.hint_text().unwrap_or_default();
        assert!(told.contains(hint), "{error}: {told}");
        assert!(!told.contains("fetch"), "{told}");
    }
    // A tar archive may begin with a file of any name.
    for name in ["]", "Salted__", "age-encryption.org", "LZIP"] {
        let raw = Raw::default().file(name, b"1").end();
        fs::write(&path, raw.0).unwrap();
        both(&path, &live("")).await.unwrap();
    }
}

/// The parser does not take an attribute without a value: said as what it is, not as damage.
#[tokio::test]
async fn what_cannot_be_read_is_not_called_damaged() {
    let work = tempdir().unwrap();
    let archive = work.path().join("a.tar.gz");
    let raw = Raw::default().file("first", b"1");
    raw.pax(&[("SCHILY.xattr.user.empty", b"")])
        .file("second", b"2")
        .gzip(&archive);
    let error = both(&archive, &live("")).await.unwrap_err();
    assert_eq!(error.code(), "archive.corrupt");
    assert!(
        error.message().contains("behind member \"first\""),
        "{error}"
    );
    assert!(!error.message().contains("damaged"), "{error}");
    // Holes without end would be read without end.
    let mut sparse = Raw::default().file("holes", b"").0;
    sparse[156] = b'S';
    sparse[257..265].copy_from_slice(b"ustar  \0");
    // One piece of no length at 2^60, and that as the file's size.
    for number in [386, 483] {
        sparse[number] = 0x80;
        sparse[number + 4] = 0x10;
    }
    sparse[398] = b'0';
    sparse[148..156].fill(b' ');
    let sum: u32 = sparse[..512].iter().map(|byte| u32::from(*byte)).sum();
    sparse[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Raw(sparse).gzip(&archive);
    let error = both(&archive, &live("")).await.unwrap_err();
    assert!(error.message().contains("sparse"), "{error}");
}

#[tokio::test]
async fn an_archive_of_more_than_anybody_meant_is_refused() {
    let work = tempdir().unwrap();
    let path = work.path().join("it.tar");
    fs::write(&path, small_archive(work.path())).unwrap();
    // Two directories and three files of 2,200 bytes.
    for (members, bytes, refused) in [
        (0, 0, false),
        (5, 2200, false),
        (4, 0, true),
        (0, 2199, true),
    ] {
        let mut policy = live("");
        (policy.max_members, policy.max_bytes) = (members, bytes);
        let judged = walk(source(&path), &policy, Progress::hidden()).await;
        let code = judged.err().map(|error| error.code().to_owned());
        let expected = refused.then(|| "archive.too_large".to_owned());
        assert_eq!(code, expected, "{members} {bytes}");
    }
}
