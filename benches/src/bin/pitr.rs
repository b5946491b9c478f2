//! How long users are turned away by a recovery to a point in time, with little log to replay and
//! with ten times as much.
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use restore_benches::{Result, runtime, shell};
use restore_core::{BackupRequest, PlanRequest, RecoveryTarget, RunOptions, Site};

const BIN: &str = "/usr/lib/postgresql/15/bin";
/// Rows of a kilobyte or so, written in a transaction for each thousand.
const LITTLE: u32 = 100_000;

fn main() -> Result<()> {
    println!("| log to replay | staged in | downtime |\n|---|---|---|");
    for rows in [LITTLE, 10 * LITTLE] {
        let work = tempfile::tempdir_in("/tmp")?;
        measure(work.path(), rows)?;
    }
    Ok(())
}

fn measure(root: &Path, rows: u32) -> Result<()> {
    let at = root.display();
    shell(&format!(
        "chmod 755 {at}; cd {at}; mkdir data archive sock backups; chown postgres data archive sock
         setpriv --reuid=postgres --regid=postgres --init-groups \
           {BIN}/initdb --no-sync -A trust -U boss -D {at}/data >/dev/null
         printf '%s\\n' \"listen_addresses = ''\" \"unix_socket_directories = '{at}/sock'\" \
           \"archive_mode = on\" \"archive_command = 'cp %p {at}/archive/%f'\" >> data/postgresql.conf"
    ))?;
    std::fs::write(
        root.join("restore.toml"),
        format!(
            "[site]\nname = 'bench'\nstate = 'state'\nsafety_backup = false\n\
             [stores.main]\nkind = 'directory'\npath = 'backups'\n\
             [services.postgres]\ncommand = ['{BIN}/postgres', '-D', '{at}/data']\nuser = 'postgres'\n\
             endpoint = '{at}/sock:5432'\nstop_signal = 'SIGINT'\n\
             [volumes.pgdata]\npath = 'data'\n\
             [components.cluster]\nkind = 'postgres_cluster'\nservice = 'postgres'\n\
             volume = 'pgdata'\nuser = 'boss'\nwal_archive = 'archive'\n"
        ),
    )?;
    let runtime = runtime()?;
    let site = runtime.block_on(Site::open(&root.join("restore.toml")))?;
    runtime.block_on(site.platform().scale("postgres", 1))?;
    let done = runtime.block_on(recover(&site, root, rows));
    runtime.block_on(site.platform().scale("postgres", 0))?;
    done
}

async fn recover(site: &Site, root: &Path, rows: u32) -> Result<()> {
    sql(root, "CREATE TABLE t (n int, x text)")?;
    let request = BackupRequest::all().base(true);
    site.back_up(request, RunOptions::new()).await?;
    sql(
        root,
        &format!(
            "DO $$ BEGIN FOR i IN 1..{} LOOP INSERT INTO t SELECT i, repeat(md5(i::text || n), 30) \
             FROM generate_series(1, 1000) n; COMMIT; END LOOP; END $$",
            rows / 1000
        ),
    )?;
    sql(root, "SELECT pg_switch_wal()")?;
    sql(root, "SELECT pg_sleep(3)")?;
    let request = PlanRequest::all().to("latest".parse::<RecoveryTarget>()?);
    let backup = site.backup_for("latest", &request).await?;
    let plan = site.plan_with(&backup, request, &RunOptions::new()).await?;
    let facts = plan
        .component("cluster")
        .map(|it| it.inspection.facts.clone());
    let bytes = facts
        .and_then(|it| it.get("wal_bytes")?.as_u64())
        .unwrap_or(0);
    let began = Instant::now();
    let report = site.run(plan, RunOptions::new()).await?;
    let all = began.elapsed().as_secs_f64();
    let down = report.downtime_seconds.unwrap_or(0.0);
    println!(
        "| {} MB | {:.1} s | {down:.2} s |",
        bytes / 1_000_000,
        all - down
    );
    Ok(())
}

fn sql(root: &Path, sql: &str) -> Result<()> {
    let done = Command::new(format!("{BIN}/psql"))
        .args([
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "boss",
            "-d",
            "postgres",
            "-c",
            sql,
            "-h",
        ])
        .arg(root.join("sock"))
        .output()?;
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned().into()),
    }
}
