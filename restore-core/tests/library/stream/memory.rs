//! The data path's memory does not grow with the data: in a process of its own, whose peak nothing
//! else disturbs.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use flate2::write::GzEncoder;
use restore_core::Progress;
use restore_core::stream::{UnpackPolicy, hash_file, read_through, unpack};
use restore_testing::stream::*;
use tempfile::tempdir;

/// The most memory in KiB that the process ever had, without the program's own pages, which are
/// those of every test in it.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let value = |name: &str| -> u64 {
        let mut lines = status.lines();
        let rest = lines.find_map(|line| line.strip_prefix(name)).unwrap();
        rest.trim().trim_end_matches(" kB").parse().unwrap()
    };
    value("VmHWM:") - value("RssFile:")
}

fn archive(path: &Path, add: impl FnOnce(&mut GzEncoder<File>)) {
    let mut encoder = GzEncoder::new(File::create(path).unwrap(), flate2::Compression::fast());
    add(&mut encoder);
    encoder.write_all(&[0; 1024]).unwrap();
    encoder.finish().unwrap();
}

#[test]
fn two_archives_at_once_stay_below_30_mib() {
    const ALONE: &str = "RESTORE_STREAM_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let mut again =
            restore_testing::test_again(module_path!(), "two_archives_at_once_stay_below_30_mib");
        restore_testing::run(again.env(ALONE, "1"));
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(alone());
}

async fn alone() {
    let work = tempdir().unwrap();
    let (large, many) = (
        work.path().join("large.tar.gz"),
        work.path().join("many.tar.gz"),
    );
    let part = content(4 << 20, 1);
    archive(&large, |encoder| {
        for number in 0..2 {
            let size = Some(40 * part.len() as u64);
            let name = format!("large-{number}");
            let header = Raw::default().add(&Header {
                name: &name,
                size,
                ..Header::default()
            });
            encoder.write_all(&header.0).unwrap();
            for _ in 0..40 {
                encoder.write_all(&part).unwrap();
            }
        }
    });
    archive(&many, |encoder| {
        for directory in 0..100 {
            for number in 0..300 {
                let name = format!("directory-{directory}/some-file-with-a-name-{number}");
                let raw = Raw::default().file(&name, &part[number..number + 2000]);
                let raw = raw
                    .symlink(&format!("{name}.link"), "x")
                    .hard_link(&format!("{name}.same"), &name);
                encoder.write_all(&raw.0).unwrap();
            }
        }
    });
    drop(part);
    let (one, two) = (work.path().join("1"), work.path().join("2"));
    std::fs::create_dir(&one).unwrap();
    std::fs::create_dir(&two).unwrap();
    // Forgets what making the archives took.
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    let policy = UnpackPolicy::default();
    let first = unpack(source(&large), &one, &policy, Progress::hidden());
    let second = unpack(source(&many), &two, &policy, Progress::hidden());
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.unwrap().files, second.unwrap().links), (2, 60_000));
    hash_file(&source(&large), Progress::hidden())
        .await
        .unwrap();
    read_through(source(&large), Progress::hidden())
        .await
        .unwrap();
    let peak = peak();
    eprintln!("peak: {peak} KiB");
    assert!(peak < 30 * 1024, "{peak} KiB");
}
