//! How much memory the program takes does not follow from how much it restores: ten times as much, and
//! with `RESTORE_TEST_EXHAUSTIVE=1` more than 2 GiB, is verified, read through, restored and backed up
//! again within 72 MiB.

mod archive;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use archive::Archive;
use restore_testing::{Sample, peak_memory};

const ID: &str = "20240215-020000";
const MIB: u64 = 1 << 20;
const LIMIT: u64 = 72 * MIB;

/// The large volume's archive: so many files where everything is tried, and where not.
const LARGE: u64 = 9;
const LARGE_AS_A_RULE: u64 = 3;
const LARGE_EACH: u64 = 240 * MIB;

/// The other one's: what is kept for each file would show.
const SMALL: u64 = 60_000;
const SMALL_EACH: u64 = 600;

fn large() -> u64 {
    match Sample::of_this_run().is_exhaustive() {
        true => LARGE,
        false => LARGE_AS_A_RULE,
    }
}

/// The backup, the restored volumes, the backup of those, and some air.
fn needed() -> u64 {
    3 * (large() * LARGE_EACH + SMALL * 4096) + 512 * MIB
}

#[test]
fn stays_below_72_mib_whatever_the_size() {
    // On the disk that things are built on: temporary files may be kept in memory.
    let site = tempfile::Builder::new()
        .prefix("memory-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .unwrap();
    let dir = site.path();
    let (free, needed) = (free(dir), needed());
    assert!(
        free >= needed,
        "this test writes {} MiB below {}, where {} MiB are free: make room and run it again",
        needed / MIB,
        dir.display(),
        free / MIB
    );
    back_up(dir);
    for args in [
        &["verify", ID][..],
        &["verify", ID, "--deep"],
        &["run", ID, "--yes"],
        &["backup", "--level", "1"],
    ] {
        let started = Instant::now();
        let peak = peak(dir, args);
        println!(
            "restore {}: {} MiB in {:.1} s",
            args.join(" "),
            peak / MIB,
            started.elapsed().as_secs_f64()
        );
        assert!(
            peak < LIMIT,
            "`restore {}` took {} MiB",
            args.join(" "),
            peak / MIB
        );
    }
    // It was indeed everything.
    let large = dir.join(format!("volumes/metrics/{}", large() - 1));
    assert_eq!(large.metadata().unwrap().len(), LARGE_EACH);
    let small = dir.join(format!(
        "volumes/uploads/{}/{}",
        (SMALL - 1) / 100,
        SMALL - 1
    ));
    assert_eq!(small.metadata().unwrap().len(), SMALL_EACH);
    assert!(!dir.join("volumes/uploads/own").exists());
}

/// Two volumes that hold something else, and a backup of them with checksums.
fn back_up(dir: &Path) {
    let backup = dir.join("backups").join(ID);
    let mut config = "[site]\nname = \"large\"\nstate = \"state\"\njobs = 2\n\
        [stores.main]\nkind = \"directory\"\npath = \"backups\"\n"
        .to_owned();
    let mut manifest = format!(
        "=== Backup Manifest ===\nBackup ID: {ID}\nCreated: Thu Feb 15 02:00:00 UTC 2024\n\
         Created By: root\nBackup Type: full\n\n=== File Checksums ===\n"
    );
    std::fs::create_dir_all(backup.join("volumes")).unwrap();
    for volume in ["metrics", "uploads"] {
        let live = dir.join("volumes").join(volume);
        std::fs::create_dir_all(&live).unwrap();
        std::fs::write(live.join("own"), "only live").unwrap();
        let file = format!("volumes/{volume}-{ID}.tar.gz");
        let mut archive = Archive::create(&backup.join(&file));
        archive.directory("./");
        if volume == "metrics" {
            for each in 0..large() {
                archive.file(&format!("./{each}"), LARGE_EACH);
            }
        } else {
            for each in 0..SMALL {
                if each % 100 == 0 {
                    archive.directory(&format!("./{}/", each / 100));
                }
                archive.file(&format!("./{}/{each}", each / 100), SMALL_EACH);
            }
        }
        let (size, sum) = archive.finish();
        assert!(volume != "metrics" || size > large() * LARGE_EACH, "{size}");
        writeln!(manifest, "{file}|{}M|{sum}", size / MIB).unwrap();
        write!(
            config,
            "[volumes.{volume}]\npath = \"volumes/{volume}\"\n\
             [components.{volume}]\nkind = \"volume\"\nvolume = \"{volume}\"\n\
             archive = [\"volumes/{volume}-{{id}}.tar.gz\"]\n"
        )
        .unwrap();
    }
    manifest += "\n=== Summary ===\nTotal Files: 2\n";
    std::fs::write(backup.join("MANIFEST.txt"), manifest).unwrap();
    std::fs::write(dir.join("restore.toml"), config).unwrap();
}

/// Bytes that the file system of `dir` has left.
fn free(dir: &Path) -> u64 {
    let df = Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(dir)
        .output()
        .unwrap();
    let text = String::from_utf8(df.stdout).unwrap();
    text.lines().last().unwrap().trim().parse().unwrap()
}

/// Runs the program, which must succeed, and returns the most memory that it ever had.
fn peak(dir: &Path, args: &[&str]) -> u64 {
    peak_memory(
        Command::new(env!("CARGO_BIN_EXE_restore"))
            .args(args)
            .current_dir(dir)
            .env_remove("RESTORE_CONFIG"),
    )
}
