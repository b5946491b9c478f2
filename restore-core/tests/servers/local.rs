//! Services that are processes of this machine.

use std::time::{Duration, Instant};

use restore_core::platform::{Command, Endpoint, Platform};
use restore_core::{ErrorKind, Timestamp};
use restore_testing::local::{Ground, free_port, lives, until};
use tokio::io::AsyncReadExt;

/// A service that says that it is up and ends on SIGTERM.
const PLAIN: &str = r#"
[services.app]
command = ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.02; done # @"]
stop_timeout = "10s"
"#;

async fn running(platform: &dyn Platform, name: &str) -> u32 {
    let state = platform.service(name).await.unwrap();
    assert_eq!(state.running, state.desired);
    state.running
}

fn pid_of(ground: &Ground, name: &str) -> i32 {
    let record = ground.read(&format!("state/services/{name}.pid"));
    record.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn it_starts_and_stops_once_however_often_it_is_asked() {
    let ground = Ground::new();
    let platform = ground.platform(PLAIN);
    assert_eq!(running(&*platform, "app").await, 0);
    platform.scale("app", 0).await.unwrap();
    platform.scale("app", 1).await.unwrap();
    let pid = pid_of(&ground, "app");
    platform.scale("app", 1).await.unwrap();
    // What another process would see and do is the same.
    let other = ground.platform(PLAIN);
    other.scale("app", 1).await.unwrap();
    assert_eq!(pid_of(&ground, "app"), pid);
    assert_eq!(running(&*other, "app").await, 1);
    assert_eq!(
        other.service("app").await.unwrap().detail,
        format!("pid {pid}")
    );
    other.scale("app", 0).await.unwrap();
    assert!(!lives(pid));
    assert_eq!(ground.read("state/services/app.log"), "up\nbye\n");
    assert_eq!(running(&*platform, "app").await, 0);
    platform.scale("app", 0).await.unwrap();
}

/// A server that finds its files by relative paths serves another directory where it is started in another.
#[tokio::test]
async fn a_service_is_started_in_its_directory_and_not_in_ours() {
    let ground = Ground::new();
    std::fs::create_dir(ground.path().join("www")).unwrap();
    let platform = ground.platform(
        r#"
[services.app]
command = ["sh", "-c", "pwd > @/app.at; while :; do sleep 0.02; done"]
directory = "www"
[services.plain]
command = ["sh", "-c", "pwd > @/plain.at; while :; do sleep 0.02; done"]
[services.triple]
start = ["sh", "-c", "pwd > @/triple.at"]
stop = ["true"]
status = ["test", "-e", "triple.at"]
[services.lost]
command = ["sh", "-c", "sleep 600; : @"]
directory = "gone"
"#,
    );
    let top = ground.path().to_str().unwrap().to_owned();
    for (name, expected) in [
        ("app", format!("{top}/www\n")),
        ("plain", format!("{top}\n")),
        ("triple", format!("{top}\n")),
    ] {
        platform.scale(name, 1).await.unwrap();
        let file = format!("{name}.at");
        until("it said where it is", || ground.read(&file) == expected).await;
        let pwd = Command::new(["pwd"]);
        let mut said = String::new();
        let mut process = platform.exec(name, pwd).await.unwrap();
        let mut stdout = process.stdout().unwrap();
        stdout.read_to_string(&mut said).await.unwrap();
        assert!(process.wait().await.unwrap().success());
        assert_eq!(said, expected, "{name}");
    }
    // One that was started in another directory than the site would have it is told of.
    let other = ground.platform("[services.app]\ncommand = ['sh', '-c', ': @']\n");
    let findings = other.inspect(&["app".to_owned()]).await.unwrap();
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!(findings[0].code, "local.other_directory");
    assert!(findings[0].message.contains("/www now"), "{findings:?}");
    for name in ["app", "plain"] {
        platform.scale(name, 0).await.unwrap();
    }
    let error = platform.scale("lost", 1).await.unwrap_err();
    assert_eq!(error.code(), "local.no_directory");
    let findings = platform
        .inspect(&["app".to_owned(), "lost".to_owned()])
        .await
        .unwrap();
    let codes: Vec<&str> = findings.iter().map(|it| it.code.as_str()).collect();
    assert_eq!(codes, ["local.no_directory"]);
    assert_eq!(findings[0].subject, "lost");
}

#[tokio::test]
async fn stopping_waits_for_the_real_end() {
    let ground = Ground::new();
    let platform = ground.platform(
        r#"
[services.app]
command = ["sh", "-c", "trap 'sleep 0.7; echo saved >> @/data; exit 0' TERM; while :; do sleep 0.02; done"]
"#,
    );
    platform.scale("app", 1).await.unwrap();
    platform.scale("app", 0).await.unwrap();
    assert_eq!(ground.read("data"), "saved\n");
}

#[tokio::test]
async fn what_ignores_the_signal_is_killed_and_that_is_said() {
    let ground = Ground::new();
    let platform = ground.platform(
        r#"
[services.app]
command = ["sh", "-c", "trap '' TERM; while :; do sleep 0.02; done # @"]
stop_timeout = "300ms"
"#,
    );
    platform.scale("app", 1).await.unwrap();
    let pid = pid_of(&ground, "app");
    platform.scale("app", 0).await.unwrap();
    assert!(!lives(pid));
    let state = platform.service("app").await.unwrap();
    assert_eq!(state.running, 0);
    assert_eq!(
        state.detail,
        "killed: it did not end within 300ms of SIGTERM"
    );
    let why = state.killed.as_deref();
    assert_eq!(why, Some("it did not end within 300ms of SIGTERM"));
    // The next start is a new life.
    platform.scale("app", 1).await.unwrap();
    assert_eq!(platform.service("app").await.unwrap().killed, None);
    platform.scale("app", 0).await.unwrap();
}

#[tokio::test]
async fn processes_that_outlive_their_leader_are_waited_for() {
    let ground = Ground::new();
    let sections = r#"
[services.app]
command = ["sh", "-c", "(trap 'sleep 0.5; echo child >> @/data; exit' TERM; while :; do sleep 0.02; done) & echo $! > @/child; while :; do sleep 0.02; done"]
"#;
    let platform = ground.platform(sections);
    platform.scale("app", 1).await.unwrap();
    platform.scale("app", 0).await.unwrap();
    let child: i32 = ground.read("child").trim().parse().unwrap();
    assert!(!lives(child));
    assert_eq!(ground.read("data"), "child\n");

    // The leader is killed by someone else: what it left behind is still the service.
    platform.scale("app", 1).await.unwrap();
    let leader = rustix::process::Pid::from_raw(pid_of(&ground, "app")).unwrap();
    let child: i32 = ground.read("child").trim().parse().unwrap();
    rustix::process::kill_process(leader, rustix::process::Signal::KILL).unwrap();
    let other = ground.platform(sections);
    until("the leader is gone", || {
        !lives(leader.as_raw_nonzero().get())
    })
    .await;
    let state = other.service("app").await.unwrap();
    assert_eq!(state.running, 1, "{state:?}");
    assert!(state.detail.contains("left behind"), "{state:?}");
    other.scale("app", 1).await.unwrap();
    assert!(!lives(child), "a new one does not start beside the old one");
    other.scale("app", 0).await.unwrap();
    assert_eq!(other.service("app").await.unwrap().running, 0);
}

#[tokio::test]
async fn what_dies_at_the_start_says_why() {
    let ground = Ground::new();
    let platform = ground.platform(
        r#"
[services.app]
command = ["sh", "-c", "echo cannot open the thing; exit 7 # @"]
"#,
    );
    let error = platform.scale("app", 1).await.unwrap_err();
    assert_eq!(error.code(), "local.died");
    assert!(error.message().contains("exit code 7"), "{error}");
    assert!(error.message().contains("cannot open the thing"), "{error}");
    assert!(error.hint_text().is_some());
    assert_eq!(platform.service("app").await.unwrap().running, 0);
}

#[tokio::test]
async fn ready_means_that_the_endpoint_answers() {
    let ground = Ground::new();
    let port = free_port();
    let script = ground.file(
        "serve.py",
        "import socket, sys, time\ntime.sleep(0.5)\ns = socket.create_server(('127.0.0.1', int(sys.argv[1])))\ntime.sleep(600)\n",
    );
    let section = |port: u16, late: &str| {
        format!(
            "[services.app]\ncommand = ['python3', '{}', '{port}']\nendpoint = '127.0.0.1:{late}'\nready = 'tcp'\nstart_timeout = '3s'\n",
            script.display()
        )
    };
    let platform = ground.platform(&section(port, &port.to_string()));
    platform.scale("app", 1).await.unwrap();
    std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(
        platform.endpoint("app").await.unwrap(),
        Endpoint::new("127.0.0.1", port)
    );

    // A second service at the same place would be answered for by the first.
    let other = Ground::new();
    let error = other
        .platform(&section(port, &port.to_string()))
        .scale("app", 1)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "local.endpoint_taken");
    platform.scale("app", 0).await.unwrap();

    let deaf = ground.platform(&section(port, &free_port().to_string()));
    let begun = Instant::now();
    let error = deaf.scale("app", 1).await.unwrap_err();
    assert_eq!(error.code(), "local.not_ready");
    assert!(error.message().contains("refused"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    deaf.scale("app", 0).await.unwrap();
}

#[tokio::test]
async fn a_recycled_pid_is_not_the_service() {
    let ground = Ground::new();
    // A process is known by its number and when it began, which the kernel tells in hundredths of a second: this
    // test and the service must not have begun in the same one.
    std::thread::sleep(Duration::from_millis(50));
    let platform = ground.platform(PLAIN);
    platform.scale("app", 1).await.unwrap();
    let record = ground.read("state/services/app.pid");
    platform.scale("app", 0).await.unwrap();
    // Someone else got the number: here, this test.
    let mut words: Vec<String> = record.split(' ').map(str::to_owned).collect();
    words[0] = std::process::id().to_string();
    ground.file("state/services/app.pid", &words.join(" "));
    assert_eq!(platform.service("app").await.unwrap().running, 0);
    platform.scale("app", 0).await.unwrap();
    platform.scale("app", 1).await.unwrap();
    assert_ne!(
        pid_of(&ground, "app").unsigned_abs(),
        std::process::id(),
        "and this test still runs"
    );
    platform.scale("app", 0).await.unwrap();
}

#[tokio::test]
async fn one_that_was_started_and_not_written_down_is_found() {
    let ground = Ground::new();
    let platform = ground.platform(PLAIN);
    platform.scale("app", 1).await.unwrap();
    let pid = pid_of(&ground, "app");
    // As if we had been killed right after the fork.
    std::fs::remove_file(ground.path().join("state/services/app.pid")).unwrap();
    let other = ground.platform(PLAIN);
    other.scale("app", 1).await.unwrap();
    assert_eq!(pid_of(&ground, "app"), pid);
    std::fs::remove_file(ground.path().join("state/services/app.pid")).unwrap();
    other.scale("app", 0).await.unwrap();
    assert!(!lives(pid));
}

/// What a script or a change of the user ends in has nothing of the command left.
#[tokio::test]
async fn one_that_has_become_another_program_or_another_users_is_found_too() {
    let ground = Ground::new();
    let script = ground.file("run.sh", "#!/bin/sh\nexec sleep 600 # there\n");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, open).unwrap();
    let mut commands = vec![r#"["@/run.sh"]"#];
    if rustix::process::geteuid().is_root() {
        commands.push(
            r#"["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--", "@/run.sh"]"#,
        );
    }
    for command in commands {
        let sections = format!("[services.app]\ncommand = {command}\nstop_timeout = '10s'\n");
        let platform = ground.platform(&sections);
        platform.scale("app", 1).await.unwrap();
        let pid = pid_of(&ground, "app");
        let line = || std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        until("it is another program", || {
            line().starts_with(b"sleep\x00600")
        })
        .await;
        // As if we had been killed right after the fork: what was written down before stays.
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
        let environment = String::from_utf8(environment).unwrap();
        let token = environment
            .split('\0')
            .find_map(|entry| entry.strip_prefix("RESTORE_SERVICE_START="))
            .expect("each start has a token");
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let record = ground.file(
            "state/services/app.pid",
            &format!("starting {token} {boot}"),
        );
        let other = ground.platform(&sections);
        other.scale("app", 1).await.unwrap();
        assert_eq!(pid_of(&ground, "app"), pid, "{command}");
        // Another start's token is not this one's.
        std::fs::write(&record, format!("starting {token}0 {boot}")).unwrap();
        assert_eq!(running(&*other, "app").await, 0, "{command}");
        std::fs::write(&record, format!("starting {token} {boot}")).unwrap();
        other.scale("app", 0).await.unwrap();
        assert!(!lives(pid), "{command}");
    }
}

/// Anybody can name our mark in the environment of a process of his own.
#[tokio::test]
async fn a_mark_in_somebody_elses_environment_is_not_believed() {
    use std::os::unix::process::CommandExt;
    let ground = Ground::new();
    let platform = ground.platform(PLAIN);
    let record = ground.path().join("state/services/app.pid");
    let start = |program: &str, arguments: &[&str], user: Option<u32>| {
        let mut command = std::process::Command::new(program);
        command
            .args(arguments)
            .env("RESTORE_SERVICE", &record)
            .process_group(0);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        command.spawn().unwrap()
    };
    // Of the right user and another program; and the other way round.
    let mut fakes = vec![start("sleep", &["600"], None)];
    if rustix::process::geteuid().is_root() {
        fakes.push(start("sh", &["-c", "sleep 600; true"], Some(65_534)));
    }
    assert_eq!(running(&*platform, "app").await, 0);
    platform.scale("app", 1).await.unwrap();
    let pid = pid_of(&ground, "app");
    assert!(fakes.iter().all(|fake| fake.id() != pid.unsigned_abs()));
    // Nor is it stopped with the service.
    std::fs::remove_file(&record).unwrap();
    platform.scale("app", 0).await.unwrap();
    assert!(!lives(pid));
    for fake in &mut fakes {
        assert!(fake.try_wait().unwrap().is_none());
        let _ = rustix::process::kill_process_group(
            rustix::process::Pid::from_raw(fake.id().cast_signed()).unwrap(),
            rustix::process::Signal::KILL,
        );
        fake.wait().unwrap();
    }
}

#[tokio::test]
async fn postgres_started_by_others_is_adopted_and_runs_as_its_user() {
    let ground = Ground::new();
    let data = ground.path().join("pg");
    std::fs::create_dir(&data).unwrap();
    let bin = "/usr/lib/postgresql/15/bin";
    let sh = |script: &str| {
        let status = std::process::Command::new("sh")
            .args(["-ec", script])
            .current_dir("/")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{script}");
    };
    let port = free_port();
    let d = data.display();
    sh(&format!(
        "chown postgres {d}; runuser -u postgres -- {bin}/initdb -D {d} -A trust --no-sync; \
         runuser -u postgres -- {bin}/pg_ctl -D {d} -w -l {d}/log -o '-p {port} -k {d}' start"
    ));
    let sections = format!(
        r#"
[services.postgres]
command = ["{bin}/postgres", "-D", "@/pg", "-p", "{port}", "-k", "@/pg"]
user = "postgres"
pid_file = "pg/postmaster.pid"
endpoint = "@/pg:{port}"
ready = "tcp"
stop_signal = "SIGINT"
"#
    );
    let platform = ground.platform(&sections);
    let first: i32 = ground
        .read("pg/postmaster.pid")
        .lines()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(
        platform.service("postgres").await.unwrap().detail,
        format!("pid {first}")
    );
    platform.scale("postgres", 0).await.unwrap();
    assert!(!lives(first));
    assert!(!data.join("postmaster.pid").exists());
    platform.scale("postgres", 1).await.unwrap();
    let second = pid_of(&ground, "postgres");
    assert_ne!(first, second);
    assert!(
        ground
            .read("pg/postmaster.pid")
            .starts_with(&format!("{second}\n"))
    );
    let (uid, _) = platform.owner("postgres").await.unwrap().unwrap();
    let owner =
        std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{second}")).unwrap());
    assert_eq!(owner, uid);
    assert_ne!(uid, 0);

    let mut whoami = platform
        .exec(
            "postgres",
            Command::new(["sh", "-c", "id -un; id -Gn; echo $HOME"]),
        )
        .await
        .unwrap();
    let mut said = String::new();
    whoami
        .stdout()
        .unwrap()
        .read_to_string(&mut said)
        .await
        .unwrap();
    assert!(whoami.wait().await.unwrap().success());
    let expected = std::process::Command::new("id")
        .args(["-Gn", "postgres"])
        .output()
        .unwrap();
    let groups = String::from_utf8(expected.stdout).unwrap();
    assert!(said.starts_with(&format!("postgres\n{groups}/")), "{said}");
    platform.scale("postgres", 0).await.unwrap();
    assert!(!lives(second));
}

#[tokio::test]
async fn a_triple_is_started_asked_and_stopped_by_its_commands() {
    let ground = Ground::new();
    let sections = r#"
[services.web]
start = ["sh", "-c", "sleep 600 & echo $! > @/web.pid; echo started"]
stop = ["sh", "-c", "kill $(cat @/web.pid) && rm @/web.pid"]
status = ["sh", "-c", "test -e @/web.pid"]
pid_file = "web.pid"
[services.broken]
start = ["sh", "-c", "echo no such unit >&2; exit 5"]
stop = ["true"]
status = ["false"]
[services.stubborn]
start = ["true"]
stop = ["true"]
status = ["true"]
stop_timeout = "200ms"
[services.lost]
start = ["/no/such/program"]
stop = ["true"]
status = ["false"]
"#;
    let platform = ground.platform(sections);
    assert_eq!(running(&*platform, "web").await, 0);
    platform.scale("web", 1).await.unwrap();
    let pid: i32 = ground.read("web.pid").trim().parse().unwrap();
    platform.scale("web", 1).await.unwrap();
    assert_eq!(running(&*platform, "web").await, 1);
    assert_eq!(ground.read("web.pid").trim(), pid.to_string());
    platform.scale("web", 0).await.unwrap();
    platform.scale("web", 0).await.unwrap();
    assert!(!lives(pid));
    assert_eq!(running(&*platform, "web").await, 0);

    let error = platform.scale("broken", 1).await.unwrap_err();
    assert!(error.message().contains("exit code 5"), "{error}");
    assert!(error.message().contains("no such unit"), "{error}");
    let error = platform.scale("stubborn", 0).await.unwrap_err();
    assert_eq!(error.code(), "local.does_not_end");
    let error = platform.scale("lost", 1).await.unwrap_err();
    assert_eq!(error.code(), "local.no_program");
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let ground = Ground::new();
    std::fs::create_dir(ground.path().join("data")).unwrap();
    let sections = format!("{PLAIN}[volumes.data]\npath = 'data'\n[volumes.gone]\npath = 'gone'\n");
    let platform = ground.platform(&sections);
    let error = platform.scale("app", 3).await.unwrap_err();
    assert_eq!(error.code(), "local.scale");
    let error = platform.service("ap").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.hint_text().unwrap().contains("app"));
    assert!(platform.endpoint("app").await.is_err());
    let volume = platform.volume("data").await.unwrap();
    assert_eq!(volume.path(), Some(ground.path().join("data")));
    for name in ["gone", "dat"] {
        let error = platform.volume(name).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{name}");
    }
    assert!(!ground.path().join("gone").exists());
    let error = ground
        .try_platform("[services.app]\ncomand = ['x']\n")
        .err()
        .unwrap();
    assert_eq!(error.hint_text(), Some("did you mean `command`?"));
}

#[tokio::test]
async fn logs_are_those_since_the_moment() {
    let ground = Ground::new();
    let platform = ground.platform(PLAIN);
    ground.file("state/services/app.log", "ERROR of yesterday\n");
    let platform_of_today = ground.platform(PLAIN);
    drop(platform);
    let since = Timestamp::now();
    platform_of_today.scale("app", 1).await.unwrap();
    until("it is up", || {
        ground.read("state/services/app.log").ends_with("up\n")
    })
    .await;
    let lines = platform_of_today.logs("app", since, 10).await.unwrap();
    assert_eq!(lines, ["up"]);
    platform_of_today.scale("app", 0).await.unwrap();
    let lines = platform_of_today.logs("app", since, 1).await.unwrap();
    assert_eq!(lines, ["bye"]);
}

/// Run by the next test in a process of its own.
#[tokio::test]
async fn helper_starts_a_service_and_ends() {
    let Ok(dir) = std::env::var("RESTORE_TEST_GROUND") else {
        return;
    };
    let text = format!(
        "[site]\nname = 't'\nstate = 'state'\n[stores]\n[components]\n{}",
        PLAIN.replace('@', &dir)
    );
    let config = restore_core::config::SiteConfig::from_toml(&text).unwrap();
    let state = std::path::Path::new(&dir).join("state");
    let platform =
        restore_core::platform::local::make(&config, std::path::Path::new(&dir), &state).unwrap();
    platform.scale("app", 1).await.unwrap();
    // A scratch server, though, must not stay.
    let scratch = platform
        .scratch(
            "app",
            Command::new(["sh", "-c", &format!("sleep 600; : {dir} scratch")]),
        )
        .await
        .unwrap();
    assert!(scratch.is_running());
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_service_outlives_us_and_a_scratch_server_does_not() {
    let ground = Ground::new();
    let helper = restore_testing::test_again(module_path!(), "helper_starts_a_service_and_ends");
    let status = tokio::process::Command::from(helper)
        .env("RESTORE_TEST_GROUND", ground.path())
        .env("SECRET_OF_OURS", "hunter2")
        .stdout(std::process::Stdio::null())
        .status()
        .await
        .unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(9)
    );
    let platform = ground.platform(PLAIN);
    assert_eq!(running(&*platform, "app").await, 1);
    let pid = pid_of(&ground, "app");
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("hunter2"));
    let mark = format!("{} scratch", ground.path().display());
    until("the scratch server is gone", || {
        restore_testing::local::processes(&mark).is_empty()
    })
    .await;
    platform.scale("app", 0).await.unwrap();
    assert!(!lives(pid));
}

/// The pid file of a service may leave before its process does.
#[tokio::test]
async fn a_triple_that_still_ends_runs_whatever_its_pid_file_says() {
    let ground = Ground::new();
    let sections = r#"
[services.web]
start = ["sh", "-c", "sleep 600 & echo $! > @/web.pid; echo started >> @/starts"]
stop = ["sh", "-c", "rm @/web.pid"]
status = ["sh", "-c", "test -e @/web.pid"]
pid_file = "web.pid"
stop_timeout = "500ms"
start_timeout = "2s"
"#;
    let platform = ground.platform(sections);
    platform.scale("web", 1).await.unwrap();
    let pid: i32 = ground.read("web.pid").trim().parse().unwrap();
    // Whoever tries again, be it another process, waits for the same one.
    for _ in 0..2 {
        let other = ground.platform(sections);
        let error = other.scale("web", 0).await.unwrap_err();
        assert_eq!(error.code(), "local.does_not_end", "{error}");
        assert!(error.message().contains(&format!("process {pid}")));
        assert_eq!(running(&*other, "web").await, 1);
        assert!(lives(pid));
    }
    // Nor is another one started beside it.
    let error = platform.scale("web", 1).await.unwrap_err();
    assert_eq!(error.code(), "local.does_not_end", "{error}");
    assert_eq!(ground.read("starts"), "started\n");
    let process = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    until("it has ended", || !lives(pid)).await;
    platform.scale("web", 0).await.unwrap();
    assert_eq!(running(&*platform, "web").await, 0);
    assert!(!ground.path().join("state/services/web.ending").exists());
}
