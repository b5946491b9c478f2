//! How fast is a backup made: a tree packed, compressed and hashed in one pass, against
//! `tar czf f && sha256sum f`; and a whole platform, against the operators' own script, which
//! `restore backup` writes the same files as.
use std::io::Write;
use std::path::Path;
use std::process::Command;

use restore_benches::{Result, head, median, row, runtime, shell, timed, write_content};
use restore_core::Progress;
use restore_core::stream::{Compression, PackPolicy, Sink, SinkFile, pack};
use restore_testing::{Hosting, run as succeed};

const ROUNDS: usize = 5;
const LARGE: usize = 400_000_000;
const SMALL: usize = 50_000;
/// Rows and megabytes of volumes of the platform.
const PLATFORM: (u32, u32) = (100_000, 150);

fn main() -> Result<()> {
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
        let size = 200 + each * 7919 % 8000;
        write_content(&directory.join(format!("{each}.php")), size, seed)?;
    }
    head();
    trees(&large, "400 MB in 8 files")?;
    trees(&small, "50,000 small files")?;
    platform()?;
    println!(
        "\nmedian of {ROUNDS}; ours is durable and verified by nothing but its own hash, theirs is followed by `sync`"
    );
    Ok(())
}

struct Plain(std::fs::File);

impl Write for Plain {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl SinkFile for Plain {
    fn seal(self: Box<Self>) -> std::io::Result<()> {
        self.0.sync_all()
    }
}

fn trees(tree: &Path, what: &str) -> Result<()> {
    let runtime = runtime()?;
    let archive = tree.with_extension("tar");
    let ours = |compression: Compression| -> Result<()> {
        let sink = Sink::new("archive", Box::new(Plain(std::fs::File::create(&archive)?)));
        let policy = PackPolicy::new(".", compression);
        let cancel = tokio_util::sync::CancellationToken::new();
        runtime.block_on(pack(tree, policy, sink, Progress::hidden(), cancel))?;
        Ok(())
    };
    let theirs = |packed: &str| {
        let (from, to) = (tree.display(), archive.display());
        shell(&format!(
            "tar {packed} -cf {to} -C {from} . && sha256sum {to} > /dev/null && sync {to}"
        ))
    };
    for (format, compression, mark) in [
        ("-z", Compression::Gzip(6), Some(0.5)),
        ("--zstd", Compression::Zstd(3), Some(1.0)),
    ] {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            shell("sync")?;
            a.push(timed(|| theirs(format))?.1);
            shell("sync")?;
            b.push(timed(|| ours(compression))?.1);
        }
        row(
            &format!("{what}: `tar {format} && sha256sum`"),
            median(a),
            median(b),
            mark,
        );
    }
    Ok(())
}

fn platform() -> Result<()> {
    let (rows, megabytes) = PLATFORM;
    let hosting = Hosting::new(rows, megabytes);
    let program = std::env::current_exe()?.with_file_name("restore");
    if !program.exists() {
        return Err(format!("{} is missing: `make build` makes it", program.display()).into());
    }
    let ours = |more: &[&str]| {
        let mut command = Command::new(&program);
        command
            .arg("--config")
            .arg(hosting.config())
            .args(["--progress", "off", "backup"])
            .args(more);
        succeed(&mut command);
        Ok(())
    };
    let theirs = || {
        hosting.back_up();
        shell("sync")
    };
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        let [script, gzip, zstd] = &mut times;
        shell("sync")?;
        script.push(timed(theirs)?.1);
        shell("sync")?;
        gzip.push(timed(|| ours(&[]))?.1);
        shell("sync")?;
        zstd.push(timed(|| ours(&["--compression", "zstd"]))?.1);
    }
    let [script, gzip, zstd] = times.map(median);
    let what = format!("a platform of {rows} rows and {megabytes} MB");
    row(&format!("{what}: the script"), script, gzip, Some(1.0));
    row(
        &format!("{what}: the script, ours zstd"),
        script,
        zstd,
        None,
    );
    Ok(())
}
