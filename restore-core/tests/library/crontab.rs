//! A crontab: verified, installed, taken back, whether cron has it or a file.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

use restore_core::platform::Discard;
use restore_core::{ErrorKind, Severity};
use restore_testing::archives::{ID, Site, code};

const FILE: &str = "
    [components.it]
    kind = 'crontab'
    file = '@/crontab'
";
const GOOD: &str = "# jobs\nMAILTO=ops@example.org\n0 2 * * * /opt/scripts/backup.sh\n";

fn site(text: &str) -> Site {
    let site = Site::new();
    let artifact = site.artifact(&format!("configs/crontab-{ID}.txt"));
    std::fs::write(artifact, text).unwrap();
    site.list();
    site
}

fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// cron would take the CR of such a line for the end of its command.
#[tokio::test]
async fn line_ends_of_windows_are_told_and_not_installed() {
    let site = site(&GOOD.replace('\n', "\r\n"));
    let component = site.component(FILE);
    let cx = site.context().await;
    let inspection = component.inspect(&cx).await.unwrap();
    let told: Vec<(Severity, &str)> = inspection
        .findings
        .iter()
        .map(|it| (it.severity, it.code.as_str()))
        .collect();
    assert_eq!(told, [(Severity::Warning, "crontab.crlf")]);
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    assert_eq!(read(&site.path("crontab")).as_deref(), Some(GOOD));
    assert!(component.check(&cx).await.unwrap()[0].passed);
}

#[tokio::test]
async fn a_crontab_file_comes_back_and_goes_back() {
    for before in [Some("0 3 * * * old PASSWORD=secret\n"), Some(""), None] {
        let site = site(GOOD);
        let file = site.path("crontab");
        if let Some(text) = before {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o640)).unwrap();
            std::os::unix::fs::chown(&file, Some(7), Some(8)).unwrap();
        }
        let live = || read(&file);
        let before = before.map(str::to_owned);
        let component = site.component(FILE);
        let cx = site.context().await;
        let inspection = component.inspect(&cx).await.unwrap();
        assert_eq!(inspection.findings, []);
        component.undo(&cx).await.unwrap();
        let staged = component.stage(&cx).await.unwrap();
        assert_eq!(component.stage(&cx).await.unwrap(), staged);
        assert_eq!(staged.facts["jobs"], 1);
        component.undo(&cx).await.unwrap();
        assert_eq!(live(), before);

        component.cut_over(&cx).await.unwrap();
        component.cut_over(&cx).await.unwrap();
        assert_eq!(live().as_deref(), Some(GOOD));
        assert!(component.check(&cx).await.unwrap()[0].passed);
        let replaced = component.replaced_at(&cx).await.unwrap();
        assert_eq!(replaced.is_some(), before.is_some());
        if before.is_some() {
            let meta = std::fs::metadata(&file).unwrap();
            assert_eq!(
                (meta.mode() & 0o7777, meta.uid(), meta.gid()),
                (0o640, 7, 8)
            );
            let kept = std::fs::metadata(replaced.unwrap()).unwrap();
            assert_eq!(kept.mode() & 0o077, 0, "crontabs hold passwords");
        }
        component.discard(&cx, Discard::Staged).await.unwrap();
        assert!(component.check(&cx).await.unwrap()[0].passed);

        component.undo(&cx).await.unwrap();
        component.undo(&cx).await.unwrap();
        assert_eq!(live(), before);
        assert!(!component.check(&cx).await.unwrap()[0].passed);
        component.cut_over(&cx).await.unwrap();
        // Killed while the old text was being kept.
        let run = cx.run();
        let torn = format!("state/scratch/{run}/{}-it.crontab.old", run.folder());
        std::fs::write(site.path(&torn), "half").unwrap();
        component.discard(&cx, Discard::Replaced).await.unwrap();
        component.discard(&cx, Discard::Replaced).await.unwrap();
        assert_eq!(live().as_deref(), Some(GOOD));
        let left: Vec<_> = std::fs::read_dir(site.path("state/scratch"))
            .unwrap()
            .collect();
        assert!(left.is_empty(), "{left:?}");
        if before.is_some() {
            assert_eq!(code(component.undo(&cx).await), "crontab.old_gone");
        }
    }
}

/// Killed between keeping the old text and installing the new one, and after it.
#[tokio::test]
async fn the_text_before_the_first_attempt_is_what_an_undo_brings_back() {
    let site = site(GOOD);
    let file = site.path("crontab");
    std::fs::write(&file, "0 3 * * * old\n").unwrap();
    let component = site.component(FILE);
    let cx = site.context().await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    // A new process, the same facts.
    let component = site.component(FILE);
    let cx = site.context().await;
    component.cut_over(&cx).await.unwrap();
    component.undo(&cx).await.unwrap();
    assert_eq!(read(&file).as_deref(), Some("0 3 * * * old\n"));
    // Its text is there, the new one is not installed: as after a kill between the two.
    component.undo(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    assert_eq!(read(&file).as_deref(), Some(GOOD));
}

#[tokio::test]
async fn what_was_edited_since_the_restore_is_kept() {
    let site = site(GOOD);
    let file = site.path("crontab");
    std::fs::write(&file, "0 3 * * * old\n").unwrap();
    let component = site.component(FILE);
    let cx = site.context().await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    let kept = |suffix: &str| {
        site.path("state/scratch")
            .join(site.run.as_str())
            .join(format!("crontab.it.since{suffix}"))
    };
    for (edited, suffix) in [("0 4 * * * first\n", ""), ("0 5 * * * second\n", "-2")] {
        std::fs::write(&file, edited).unwrap();
        assert!(!kept(suffix).exists());
        component.undo(&cx).await.unwrap();
        component.undo(&cx).await.unwrap();
        assert_eq!(read(&file).as_deref(), Some("0 3 * * * old\n"));
        assert_eq!(read(&kept(suffix)).as_deref(), Some(edited));
        assert_eq!(
            std::fs::metadata(kept(suffix)).unwrap().mode() & 0o7777,
            0o600
        );
    }
    assert_eq!(read(&kept("")).as_deref(), Some("0 4 * * * first\n"));
    component.discard(&cx, Discard::Staged).await.unwrap();
    component.discard(&cx, Discard::Replaced).await.unwrap();
    assert!(kept("").exists(), "it is nobody's but the operator's");
}

#[tokio::test]
async fn what_is_no_crontab_is_refused_before_it_is_staged() {
    let site = site("# fine\n0 2 * * * fine\n2 * * nonsense\n");
    std::fs::write(site.path("crontab"), "live\n").unwrap();
    let component = site.component(FILE);
    let cx = site.context().await;
    let error = component.stage(&cx).await.unwrap_err();
    assert_eq!(error.code(), "crontab.syntax");
    assert_eq!(error.kind(), ErrorKind::Verification);
    assert!(error.message().contains("line 3"), "{error}");
    assert!(!error.message().contains("nonsense"), "{error}");

    let artifact = site.artifact(&format!("configs/crontab-{ID}.txt"));
    std::fs::write(&artifact, "0 2 * * * changed\n").unwrap();
    assert_eq!(code(component.stage(&cx).await), "hash.mismatch");
    std::fs::remove_file(&artifact).unwrap();
    let cx = site.context().await;
    assert_eq!(code(component.stage(&cx).await), "archive.missing");
    let findings = component.inspect(&cx).await.unwrap().findings;
    assert_eq!(findings[0].severity, Severity::Error);
    assert_eq!(
        code(component.cut_over(&cx).await),
        "crontab.nothing_staged"
    );
    component.undo(&cx).await.unwrap();
    assert_eq!(read(&site.path("crontab")).as_deref(), Some("live\n"));
}

#[tokio::test]
async fn a_last_line_without_an_end_gets_one() {
    let site = site("0 2 * * * job");
    let component = site.component(FILE);
    let cx = site.context().await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    assert_eq!(
        read(&site.path("crontab")).as_deref(),
        Some("0 2 * * * job\n")
    );
}

#[tokio::test]
async fn a_user_or_a_file_not_both_and_not_neither() {
    let site = Site::new();
    for keys in ["", "user = 'root'\nfile = '/x'", "user = '-r'"] {
        let config = format!("[components.it]\nkind = 'crontab'\n{keys}");
        assert_eq!(code(site.try_component(&config)), "crontab.which", "{keys}");
    }
}

/// A user that Debian has and nobody uses.
const USER: &str = "games";

fn crontab(action: &str, input: &str) -> Option<String> {
    let mut child = Command::new("crontab")
        .args(["-u", USER, action])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    output
        .status
        .success()
        .then(|| String::from_utf8(output.stdout).unwrap())
}

/// Puts back whatever crontab the user had.
struct Kept(Option<String>);

impl Drop for Kept {
    fn drop(&mut self) {
        match &self.0 {
            Some(text) => crontab("-", text),
            None => crontab("-r", ""),
        };
    }
}

/// That cron goes on during the swap is said.
#[tokio::test]
async fn a_users_crontab_goes_through_cron() {
    let _kept = Kept(crontab("-l", ""));
    for before in [None, Some(""), Some("# old\n0 3 1 1 * true\n")] {
        crontab("-r", "");
        if let Some(text) = before {
            crontab("-", text).unwrap();
        }
        // It must never fire, whatever runs here.
        let restored = "# restored\n0 3 1 1 * true\n";
        let site = site(restored);
        let config = format!("[components.it]\nkind = 'crontab'\nuser = '{USER}'");
        let component = site.component(&config);
        let cx = site.context().await;
        let findings = component.inspect(&cx).await.unwrap().findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].code, "crontab.fires");
        component.stage(&cx).await.unwrap();
        component.cut_over(&cx).await.unwrap();
        component.cut_over(&cx).await.unwrap();
        assert_eq!(crontab("-l", "").as_deref(), Some(restored));
        assert!(component.check(&cx).await.unwrap()[0].passed);
        component.undo(&cx).await.unwrap();
        component.undo(&cx).await.unwrap();
        assert_eq!(crontab("-l", "").as_deref(), before);
    }
    let stops = format!("[components.it]\nkind = 'crontab'\nuser = '{USER}'\nstops = ['cron']");
    let site = site(GOOD);
    let component = site.component(&stops);
    assert_eq!(component.stops(), ["cron"]);
    assert_eq!(
        component
            .inspect(&site.context().await)
            .await
            .unwrap()
            .findings,
        []
    );
}

#[tokio::test]
async fn a_user_that_does_not_exist_is_named() {
    let site = site(GOOD);
    let component =
        site.component("[components.it]\nkind = 'crontab'\nuser = 'nobody-by-this-name'");
    let findings = component
        .inspect(&site.context().await)
        .await
        .unwrap()
        .findings;
    assert_eq!(findings[0].severity, Severity::Error);
    assert!(findings[0].message.contains("nobody-by-this-name"));
}

/// In a folder of somebody else's, root neither reads nor replaces what a link leads to.
#[tokio::test]
async fn a_file_that_somebody_else_could_lead_elsewhere_is_refused() {
    let site = site(GOOD);
    let theirs = site.path("theirs");
    std::fs::create_dir(&theirs).unwrap();
    let victim = site.path("victim");
    std::fs::write(&victim, "root's\n").unwrap();
    std::os::unix::fs::symlink(&victim, theirs.join("crontab")).unwrap();
    std::os::unix::fs::chown(&theirs, Some(65_534), Some(65_534)).unwrap();
    let section = |follow: &str| {
        format!("[components.it]\nkind = 'crontab'\nfile = '@/theirs/crontab'\n{follow}")
    };
    let component = site.component(&section(""));
    let cx = site.context().await;
    let inspection = component.inspect(&cx).await.unwrap();
    let codes: Vec<&str> = inspection
        .findings
        .iter()
        .map(|it| it.code.as_str())
        .collect();
    assert_eq!(codes, ["path.untrusted"]);
    component.stage(&cx).await.unwrap();
    let error = component.cut_over(&cx).await.unwrap_err();
    assert_eq!(error.code(), "path.untrusted");
    assert_eq!(read(&victim).as_deref(), Some("root's\n"));
    // The site says that it is meant.
    let component = site.component(&section("follow = true"));
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    assert_eq!(read(&victim).as_deref(), Some(GOOD));
    assert!(theirs.join("crontab").is_symlink());
}

/// A `crontab -l` that failed leaves an empty file: it looks like a crontab without jobs.
#[tokio::test]
async fn an_empty_crontab_takes_the_place_of_jobs_only_where_somebody_says_so() {
    for text in ["", "# none any more\n"] {
        let site = site(text);
        let file = site.path("crontab");
        std::fs::write(&file, "0 3 * * * old\n").unwrap();
        let component = site.component(FILE);
        let cx = site.context().await;
        let findings = component.inspect(&cx).await.unwrap().findings;
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].code, "crontab.no_jobs");
        assert_eq!(findings[0].severity, Severity::Error);
        assert_eq!(findings[0].kind, Some(ErrorKind::Preflight));
        let hint = findings[0].hint.as_deref().unwrap();
        assert!(hint.contains("--allow-empty it "), "{hint}");
        assert_eq!(code(component.stage(&cx).await), "crontab.no_jobs");

        let cx = site.context().await.with_empty(true);
        let findings = component.inspect(&cx).await.unwrap().findings;
        assert_eq!(findings[0].severity, Severity::Warning, "{findings:?}");
        component.stage(&cx).await.unwrap();
        component.cut_over(&cx).await.unwrap();
        assert_eq!(read(&file).as_deref(), Some(text));
    }
    // Nothing in the place of nothing needs no word.
    for live in [None, Some("# none\n")] {
        let site = site("");
        if let Some(live) = live {
            std::fs::write(site.path("crontab"), live).unwrap();
        }
        let component = site.component(FILE);
        component.stage(&site.context().await).await.unwrap();
    }
}

#[tokio::test]
async fn what_became_a_link_since_is_not_written_through() {
    let site = site(GOOD);
    let file = site.path("crontab");
    std::fs::write(&file, "0 3 * * * old\n").unwrap();
    let component = site.component(FILE);
    let cx = site.context().await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    component.way_back(&cx).await.unwrap();
    let other = site.path("other");
    std::fs::write(&other, "theirs\n").unwrap();
    std::fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink(&other, &file).unwrap();
    assert_eq!(code(component.way_back(&cx).await), "crontab.led_elsewhere");
    assert_eq!(code(component.undo(&cx).await), "crontab.led_elsewhere");
    assert_eq!(read(&other).as_deref(), Some("theirs\n"));
    assert!(file.is_symlink());
    // It may be gone altogether: then it is made again.
    std::fs::remove_file(&file).unwrap();
    component.way_back(&cx).await.unwrap();
    component.undo(&cx).await.unwrap();
    assert_eq!(read(&file).as_deref(), Some("0 3 * * * old\n"));
    assert!(!file.is_symlink());
}

/// A link that was one before the run stays one, and the way back goes through it too.
#[tokio::test]
async fn a_link_that_was_there_before_is_followed_both_ways() {
    let site = site(GOOD);
    let (file, real) = (site.path("crontab"), site.path("real"));
    std::fs::write(&real, "0 3 * * * old\n").unwrap();
    std::os::unix::fs::symlink(&real, &file).unwrap();
    let component = site.component(FILE);
    let cx = site.context().await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    assert_eq!(read(&real).as_deref(), Some(GOOD));
    component.way_back(&cx).await.unwrap();
    component.undo(&cx).await.unwrap();
    assert_eq!(read(&real).as_deref(), Some("0 3 * * * old\n"));
    assert!(file.is_symlink());
}

#[tokio::test]
async fn what_cannot_be_replaced_is_seen_while_users_are_served() {
    let site = site(GOOD);
    let file = site.path("crontab");
    std::fs::write(&file, "0 3 * * * old\n").unwrap();
    let component = site.component(FILE);
    let cx = site.context().await;
    component.stage(&cx).await.unwrap();
    component.cut_over(&cx).await.unwrap();
    component.can_undo(&cx).await.unwrap();

    let chattr = |flag: &str| {
        let ran = Command::new("chattr").arg(flag).arg(&file).output();
        ran.is_ok_and(|ran| ran.status.success())
    };
    // Not every file system has such a mark, nor may everybody set it.
    if chattr("+i") {
        let back = code(component.can_undo(&cx).await);
        assert!(chattr("-i"));
        assert_eq!(back, "crontab.immutable");
    }

    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let planned = component.inspect(&cx).await.unwrap().findings;
    assert!(
        planned.iter().any(|it| it.severity == Severity::Error),
        "{planned:?}"
    );
    component.can_undo(&cx).await.unwrap_err();
}

/// cron drops a whole file for a line of it: whether it would is asked of it.
#[tokio::test]
async fn what_cron_would_drop_is_told_of_a_file_and_refused_of_a_user() {
    let long = format!("0 2 * * * {}\n", "y".repeat(1_200));
    let site = site(&long);
    let component = site.component(FILE);
    let cx = site.context().await;
    let findings = component.inspect(&cx).await.unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].code, "crontab.dropped");
    assert_eq!(findings[0].severity, Severity::Warning);
    // It is what was live when the backup was made.
    component.stage(&cx).await.unwrap();

    let _kept = Kept(crontab("-l", ""));
    let user = format!("[components.it]\nkind = 'crontab'\nuser = '{USER}'\nstops = ['cron']");
    let component = site.component(&user);
    // Only a cron that can be asked is sure.
    if cron_can_be_asked() {
        assert_eq!(code(component.stage(&cx).await), "crontab.dropped");
    }
}

/// A range that ends before it begins is no reason to refuse a backup where cron takes it.
#[tokio::test]
async fn what_cron_takes_is_not_refused() {
    let site = site("30-10 * * * * x\n");
    let component = site.component(FILE);
    let cx = site.context().await;
    component.stage(&cx).await.unwrap();
    let findings = component.inspect(&cx).await.unwrap().findings;
    let told = usize::from(!cron_can_be_asked());
    assert_eq!(findings.len(), told, "{findings:?}");
}

/// Whether crontab(1) says that it looks at a text without installing it, as Debian's does. It is not tried
/// out: elsewhere the same option changes something.
fn cron_can_be_asked() -> bool {
    let mut asked = Command::new("crontab");
    asked.arg("-h").stdin(Stdio::null());
    asked.output().is_ok_and(|asked| {
        let said = [asked.stdout, asked.stderr].concat();
        String::from_utf8_lossy(&said).contains("dry run")
    })
}
