//! How fast is a backup fetched, against what an operator types: `rsync -a` over the same ssh
//! from the same sshd, then `sha256sum -c`.
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use restore_benches::{Result, head, median, row, runtime, shell, timed, write_content};
use restore_core::component::Registry;
use restore_core::config::SiteConfig;
use restore_core::{FetchOptions, Site};

const ID: &str = "20240215-020000";
const ROUNDS: usize = 7;

fn main() -> Result<()> {
    let work = tempfile::tempdir()?;
    let at = |name: &str| work.path().join(name);
    let _sshd = Sshd::start(work.path())?;
    println!("median of {ROUNDS}, page cache warm, sshd on loopback\n");
    head();
    for (name, sizes) in [
        ("4 files of 128 MiB", vec![128 << 20; 4]),
        ("one file of 512 MiB", vec![512 << 20]),
        ("2,000 files of 16 KiB", vec![16 << 10; 2000]),
    ] {
        for folder in ["there", "theirs", "ours"] {
            let _ = std::fs::remove_dir_all(at(folder));
            std::fs::create_dir(at(folder))?;
        }
        make_backup(&at("there").join(ID), &sizes)?;
        let site = site(work.path())?;
        let runtime = runtime()?;
        let ours = || -> Result<()> {
            runtime.block_on(site.fetch(ID, FetchOptions::new()))?;
            Ok(())
        };
        let theirs = || {
            shell(&format!(
                "rsync -a -e 'ssh -F {config}' bench:{there}/{ID} {theirs}/ && cd {theirs}/{ID} && \
                 grep '|' MANIFEST.txt | awk -F'|' '{{print $3 \"  \" $1}}' | sha256sum -c --quiet",
                config = at("ssh_config").display(),
                there = at("there").display(),
                theirs = at("theirs").display(),
            ))
        };
        let (mut theirs_times, mut ours_times) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            theirs_times.push(timed(theirs)?.1);
            ours_times.push(timed(ours)?.1);
            // Nothing is deleted between: that would be measured too.
            for folder in ["theirs", "ours"] {
                std::fs::rename(at(folder).join(ID), at(folder).join(format!("{round}")))?;
            }
        }
        let name = format!("{name}: `rsync -a && sha256sum -c`");
        row(&name, median(theirs_times), median(ours_times), Some(1.0));
    }
    Ok(())
}

fn make_backup(folder: &Path, sizes: &[usize]) -> Result<()> {
    std::fs::create_dir_all(folder.join("volumes"))?;
    for (seed, size) in (1..).zip(sizes) {
        write_content(&folder.join(format!("volumes/{seed}.tar.gz")), *size, seed)?;
    }
    shell(&format!(
        "cd {} && (echo 'Backup ID: {ID}'; sha256sum volumes/* | \
         while read hash name; do echo \"$name|1|$hash\"; done; echo 'Total Files: {}') > MANIFEST.txt",
        folder.display(),
        sizes.len()
    ))
}

fn site(work: &Path) -> Result<Site> {
    let site = serde_json::json!({
        "site": {"name": "bench", "state": "state"},
        "stores": {
            "ours": {"kind": "directory", "path": "ours"},
            "there": {
                "kind": "ssh", "host": "bench", "path": work.join("there"), "config": "ssh_config",
            },
        },
        "components": {},
    });
    Ok(Site::from_config(
        SiteConfig::from_value(site)?,
        work,
        &Registry::default(),
    )?)
}

/// An sshd of our own on loopback.
struct Sshd(Child);

impl Sshd {
    fn start(work: &Path) -> Result<Self> {
        let at = |name: &str| -> PathBuf { work.join(name) };
        std::fs::create_dir_all("/run/sshd")?;
        for key in ["host", "client"] {
            shell(&format!(
                "ssh-keygen -q -t ed25519 -N '' -f {}",
                at(key).display()
            ))?;
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let host = std::fs::read_to_string(at("host.pub"))?;
        std::fs::write(at("known_hosts"), format!("[127.0.0.1]:{port} {host}"))?;
        std::fs::write(
            at("sshd_config"),
            format!(
                "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\n\
                 PidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin prohibit-password\n\
                 Subsystem sftp internal-sftp\n",
                at("host").display(),
                at("client.pub").display()
            ),
        )?;
        std::fs::write(
            at("ssh_config"),
            format!(
                "Host bench\n HostName 127.0.0.1\n Port {port}\n IdentityFile {}\n \
                 IdentitiesOnly yes\n UserKnownHostsFile {}\n",
                at("client").display(),
                at("known_hosts").display()
            ),
        )?;
        let child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(at("sshd_config"))
            .stderr(File::create(at("sshd.log"))?)
            .stdin(Stdio::null())
            .spawn()?;
        let started = Self(child);
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > deadline {
                return Err("sshd does not listen".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(started)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
