//! How fast is an archive hashed and unpacked in one pass, against `sha256sum f && tar xzf f`:
//! a large one, one of many small files.
//!
//! Every run has a directory of its own, and nothing is deleted before the end: creating files
//! right after deleting many is several times slower, and would be all that is measured.
use std::path::{Path, PathBuf};

use restore_benches::{Result, head, median, row, runtime, shell, timed, write_content};
use restore_core::Progress;
use restore_core::stream::{Source, UnpackPolicy, unpack, walk};

const ROUNDS: usize = 7;
const LARGE: usize = 400_000_000;
const SMALL: usize = 50_000;

fn main() -> Result<()> {
    // Not where temporary files may be kept in memory.
    let work = tempfile::tempdir_in(".")?;
    let large = work.path().join("large");
    std::fs::create_dir(&large)?;
    for each in 0..8_u8 {
        write_content(&large.join(each.to_string()), LARGE / 8, each.into())?;
    }
    let small = work.path().join("small");
    for each in 0..SMALL {
        let directory = small.join(format!("{}/{}", each / 5000, each / 100));
        if each % 100 == 0 {
            std::fs::create_dir_all(&directory)?;
        }
        let seed = u64::try_from(each)?;
        write_content(
            &directory.join(format!("{each}.php")),
            200 + each * 7919 % 8000,
            seed,
        )?;
    }
    head();
    compare(&large, "400 MB in 8 files", 0.35)?;
    compare(&small, "50,000 small files", 0.75)?;
    println!(
        "\nmedian of {ROUNDS}; `sync`: theirs followed by a sync of its file system, ours always"
    );
    Ok(())
}

fn compare(tree: &Path, what: &str, mark: f64) -> Result<()> {
    let archive = tree.with_extension("tar.gz");
    let (from, file) = (tree.display(), archive.display());
    shell(&format!("tar czf {file} -C {from} . && sync"))?;
    let runtime = runtime()?;
    let fresh = |name: &str, round: usize| -> Result<PathBuf> {
        let directory = tree.with_extension(format!("{name}-{round}"));
        std::fs::create_dir(&directory)?;
        Ok(directory)
    };
    let ours = |target: &Path| {
        let source = Source::new(&archive, "archive", None, None);
        let policy = UnpackPolicy::default();
        Ok(runtime.block_on(unpack(source, target, &policy, Progress::hidden()))?)
    };
    let walked = || {
        let source = Source::new(&archive, "archive", None, None);
        Ok(runtime.block_on(walk(source, &UnpackPolicy::default(), Progress::hidden()))?)
    };
    let mut times = [const { Vec::new() }; 5];
    for round in 0..ROUNDS {
        let [plain, durable, ours_, walks, lists] = &mut times;
        // Whatever is still to be written belongs to the run before.
        let quiet = || shell("sync");
        let target = fresh("ours", round)?;
        quiet()?;
        ours_.push(timed(|| ours(&target))?.1);
        let target = fresh("theirs", round)?;
        let command = format!(
            "sha256sum {file} > /dev/null && tar xzf {file} -C {}",
            target.display()
        );
        quiet()?;
        let (started, first) = timed(|| shell(&command))?;
        let ((), rest) = timed(|| shell(&format!("sync -f {}", target.display())))?;
        let () = started;
        plain.push(first);
        durable.push(first + rest);
        walks.push(timed(walked)?.1);
        lists.push(
            timed(|| {
                shell(&format!(
                    "sha256sum {file} > /dev/null && tar tzf {file} > /dev/null"
                ))
            })?
            .1,
        );
    }
    let [plain, durable, ours, walks, lists] = times.map(median);
    row(
        &format!("{what}: `sha256sum && tar xzf`"),
        plain,
        ours,
        Some(mark),
    );
    row(&format!("{what}: the same and `sync`"), durable, ours, None);
    row(
        &format!("{what}: `sha256sum && tar tzf`, ours `walk`"),
        lists,
        walks,
        None,
    );
    Ok(())
}
