//! What users see of a restore.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use restore_core::run::{Boundary, Outcome};
use restore_core::{PlanRequest, RunOptions};

use super::ground::{Ground, until};
use super::stack::settled;

/// One request: when, and what came of it: the status and whether it came with the page.
struct Asked {
    began: Instant,
    ended: Instant,
    answer: Result<(u16, bool), String>,
}

/// Asks like a user, every 100 ms, until told to stop.
struct User {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<Asked>>,
}

impl User {
    fn start(port: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let answers = Arc::new(AtomicUsize::new(0));
        let counted = answers.clone();
        let thread = std::thread::spawn(move || {
            let mut all = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let began = Instant::now();
                let answer = ask(&port, "/health", "www.example.test");
                let ended = Instant::now();
                all.push(Asked {
                    began,
                    ended,
                    answer,
                });
                counted.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100).saturating_sub(ended - began));
            }
            all
        });
        Self {
            stop,
            answers,
            thread,
        }
    }

    /// Waits until it has asked a few times more.
    async fn goes_on(&self) {
        let before = self.answers.load(Ordering::Relaxed);
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.answers.load(Ordering::Relaxed) < before + 6 {
            assert!(Instant::now() < deadline, "the user gets no answers");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn end(self) -> Vec<Asked> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn whole(port: &str, path: &str, host: &str) -> Result<String, String> {
    let words = |e: std::io::Error| e.to_string();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).map_err(words)?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .map_err(words)?;
    let request = match host {
        "" => format!("GET {path} HTTP/1.0\r\n\r\n"),
        host => format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    };
    stream.write_all(request.as_bytes()).map_err(words)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(words)?;
    Ok(answer)
}

fn ask(port: &str, path: &str, host: &str) -> Result<(u16, bool), String> {
    let answer = whole(port, path, host)?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| format!("no answer: {answer:?}"))?;
    Ok((status, answer.contains("Back soon")))
}

/// When each boundary was.
type Moments = Arc<Mutex<BTreeMap<String, Instant>>>;

fn noting() -> (RunOptions, Moments) {
    let moments = Moments::default();
    let noted = moments.clone();
    let hook = move |boundary: &Boundary| {
        let mut moments = noted.lock().unwrap();
        moments.insert(boundary.record.clone(), Instant::now());
        Ok(())
    };
    (RunOptions::new().boundary(Arc::new(hook)), moments)
}

/// A full restore and its way back on a platform that is well: before and after no request fails,
/// in between there is the page and nothing else, and no connection is ever refused.
pub async fn users_meet_the_page_or_the_platform(ground: &Ground) {
    let site = ground.site().await;
    for (undo, what) in [("", "the restore"), ("undo:", "the rollback")] {
        let user = User::start(ground.swarm.setting("HTTP_PORT"));
        user.goes_on().await;
        let (options, moments) = noting();
        let began = Instant::now();
        let report = match undo {
            "" => ground.run(&site, PlanRequest::all(), options).await,
            _ => site.rollback(None, options).await.unwrap(),
        };
        let took = began.elapsed().as_secs_f64();
        assert!(
            [Outcome::Restored, Outcome::RolledBack].contains(&report.outcome),
            "{}",
            report.to_text()
        );
        user.goes_on().await;
        let asked = user.end();
        let moments = moments.lock().unwrap().clone();
        let at = |record: &str| {
            let record = record.replace("maintenance", &format!("{undo}maintenance"));
            moments[&record]
        };
        let (from, up) = (at("intent maintenance:on"), at("done maintenance:on"));
        let (down, to) = (at("intent maintenance:off"), at("done maintenance:off"));
        let mut seen = [0, 0, 0];
        for one in &asked {
            let since = one.began.saturating_duration_since(from);
            let answer = one.answer.clone();
            let (status, page) = answer.unwrap_or_else(|e| panic!("{what}: {since:?}: {e}"));
            if one.ended < from || one.began > to {
                assert_eq!(
                    (status, page),
                    (200, false),
                    "{what}: outside of the downtime"
                );
                seen[usize::from(one.began > to)] += 1;
            } else if one.began > up && one.ended < down {
                assert_eq!(
                    (status, page),
                    (503, true),
                    "{what}: {since:?} into the downtime"
                );
                seen[2] += 1;
            } else {
                // nginx changes over.
                assert!(
                    [(200, false), (503, true)].contains(&(status, page)),
                    "{what}: {status}"
                );
            }
        }
        assert!(seen.iter().all(|count| *count > 2), "{what}: {seen:?}");
        println!(
            "{what}: {took:.1} s, of which {:.1} s of downtime; {} requests, {} met the page",
            (to - from).as_secs_f64(),
            asked.len(),
            seen[2]
        );
        ground.is(&ground.at_backup, what);
    }
    ground.confirm(&site).await;
}

/// Every name on every port, with the real time, before anything is stopped; and
/// still there when nginx's container was replaced.
pub async fn the_page_is_everywhere(ground: &Ground) {
    let site = ground.site().await;
    let ports = ["HTTP_PORT", "HTTP_ALT_PORT"].map(|name| ground.swarm.setting(name));
    let hosts = [
        "www.example.test",
        "example.test",
        "api.example.test",
        "any.api.example.test",
        "elsewhere.test",
        "",
    ];
    let all_meet_it = {
        let ports = ports.clone();
        move || {
            for host in hosts {
                let answer = whole(&ports[0], "/api/version", host).unwrap();
                assert!(answer.starts_with("HTTP/1.1 503"), "{host}: {answer}");
                assert!(answer.contains("Back soon"), "{host}: {answer}");
                assert!(
                    answer.contains("Since 20") && answer.contains(" UTC"),
                    "{answer}"
                );
                assert!(!answer.contains("$("), "{answer}");
            }
            assert_eq!(ask(&ports[1], "/", "www.example.test"), Ok((503, true)));
        }
    };
    let container = ground.containers("hosting_nginx").remove(0);
    let apps = ground.containers("hosting_app").len();
    assert_eq!(apps, 2);
    let mut kill = ground.swarm.client(&["kill", &container]);
    kill.stdout(std::process::Stdio::null());
    let kill = Mutex::new(kill);
    let port = ports[0].clone();
    let hook = move |boundary: &Boundary| {
        if boundary.record == "done maintenance:on" {
            tokio::task::block_in_place(|| {
                all_meet_it();
                assert!(kill.lock().unwrap().status().unwrap().success());
                // Refused until there is another one; never anything else than the page.
                until("nginx is back", || {
                    match ask(&port, "/", "www.example.test") {
                        Ok(answer) => {
                            assert_eq!(answer, (503, true));
                            true
                        }
                        Err(_) => false,
                    }
                });
                all_meet_it();
            });
        }
        Ok(())
    };
    let options = RunOptions::new().boundary(Arc::new(hook));
    let report = ground
        .run(&site, PlanRequest::all().only(["postgres"]), options)
        .await;
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_ne!(ground.containers("hosting_nginx"), [container]);
    assert_ne!(
        ask(&ports[0], "/api/version", "www.example.test"),
        Ok((503, true))
    );
    ground.back(&site, "with another nginx").await;
}

/// A run whose checks fail: from these on users meet the page at every boundary, until the way back
/// lifts it. How many boundaries these were.
pub fn kept_out_from_the_checks_on(ground: &Ground) -> (RunOptions, Arc<AtomicUsize>) {
    let port = ground.swarm.setting("HTTP_PORT");
    let met = Arc::new(AtomicUsize::new(0));
    let (counted, lifted) = (met.clone(), AtomicBool::new(false));
    let hook = move |boundary: &Boundary| {
        let record = boundary.record.as_str();
        assert_ne!(record, "intent maintenance:off", "before the checks passed");
        let began = counted.load(Ordering::Relaxed) > 0 || record == "intent check:inside";
        if began && !lifted.load(Ordering::Relaxed) {
            let answer = ask(&port, "/health", "www.example.test");
            assert_eq!(answer, Ok((503, true)), "{record}");
            counted.fetch_add(1, Ordering::Relaxed);
        }
        if record == "intent undo:maintenance:off" {
            lifted.store(true, Ordering::Relaxed);
        }
        Ok(())
    };
    (RunOptions::new().boundary(Arc::new(hook)), met)
}

/// Waits until nginx answers: with the page, and with nothing else before it.
pub fn page_is_back(ground: &Ground) -> impl Fn() + Send + Sync + use<> {
    let port = ground.swarm.setting("HTTP_PORT");
    move || {
        until("nginx is back", || {
            let Ok(answer) = ask(&port, "/health", "www.example.test") else {
                return false;
            };
            assert_eq!(answer, (503, true));
            true
        });
    }
}

/// Nginx, which was not stopped, writes into the log that is there now.
pub fn logs_are_written(ground: &Ground) {
    let mark = format!("/mark-{}", std::process::id());
    let port = ground.swarm.setting("HTTP_PORT");
    ask(&port, &mark, "www.example.test").unwrap();
    let place = [
        "volume",
        "inspect",
        "-f",
        "{{.Mountpoint}}",
        "hosting_nginx_logs",
    ];
    let log = std::path::PathBuf::from(ground.swarm.docker(&place)).join("access.log");
    until("the request is in the live log", || {
        std::fs::read_to_string(&log).is_ok_and(|text| text.contains(&mark))
    });
}

/// nginx that runs on with what it had read, while its configuration is broken since: restored without a page,
/// and taken back to the broken files. Users are served by what it remembers.
pub async fn a_broken_web_server_serves_on(ground: &Ground) {
    // The checks are none of it, and those of what is damaged besides take their time to fail.
    let site = ground
        .site_but(|text| {
            let from = text.find("[checks.health]").unwrap();
            let to = text.find("[maintenance]").unwrap();
            format!("{}{}", &text[..from], &text[to..])
        })
        .await;
    let port = ground.swarm.setting("HTTP_PORT");
    let served = || ask(&port, "/health", "www.example.test");
    let before = served();
    assert!(matches!(before, Ok((_, false))), "{before:?}");
    let file = ground.swarm.root().join("mnt/nfs/nginx/conf.d/app.conf");
    let aside = ground.swarm.work().join("app.conf");
    std::fs::rename(&file, &aside).unwrap();
    let mut text = std::fs::read_to_string(&aside).unwrap();
    text += "server { nonsense\n";
    std::fs::write(&file, &text).unwrap();
    let broken = ground.swarm.fingerprint();

    let backup = site.backup(&ground.backup).await.unwrap();
    let plan = site
        .plan_with(&backup, PlanRequest::all(), &RunOptions::new())
        .await
        .unwrap();
    assert!(plan.refusal().is_none(), "{:?}", plan.findings);
    let told = plan
        .findings
        .iter()
        .find(|it| it.code == "maintenance.none");
    let told = &told
        .unwrap_or_else(|| panic!("{:?}", plan.findings))
        .message;
    assert!(told.contains("restored with nginx-config"), "{told}");

    let all = PlanRequest::all();
    for (request, changed) in [
        (
            all.clone()
                .no_maintenance(true)
                .only(["nginx-config", "scripts"]),
            ["nginx-config", "scripts"],
        ),
        // The same once more, as it is typed, with a downtime.
        (
            all.only(["nginx-config", "redis"]),
            ["nginx-config", "redis"],
        ),
    ] {
        let what = changed.join(" and ");
        let report = ground.run(&site, request, RunOptions::new()).await;
        let text = report.to_text();
        assert_eq!(report.outcome, Outcome::Restored, "{what}: {text}");
        ground.is_restored_in(&changed, &what);
        until("users are served", || served() == before);

        let report = site.rollback(None, RunOptions::new()).await.unwrap();
        let text = report.to_text();
        assert_eq!(report.outcome, Outcome::RolledBack, "{what}: {text}");
        let told = report
            .findings
            .iter()
            .find(|it| it.code == "files.unsound_before");
        assert_eq!(told.unwrap().subject, "nginx-config", "{text}");
        ground.is(&broken, &format!("{what}, rolled back"));
        until("users are served all the same", || served() == before);
        ground.confirm(&site).await;
        for run in site.history().await.unwrap() {
            let open = matches!(run.outcome, Outcome::Unfinished | Outcome::Stuck);
            assert!(!open, "{what}: {}", run.to_text());
        }
    }

    std::fs::rename(&aside, &file).unwrap();
    let nginx = ground.containers("hosting_nginx").remove(0);
    ground
        .swarm
        .docker(&["exec", &nginx, "nginx", "-s", "reload"]);
    ground.is(&ground.damaged, "nginx as it was");
}

/// Served by each of several replicas, which have addresses of their own only.
pub async fn every_replica_shows_the_page(ground: &Ground) {
    ground.swarm.docker(&[
        "service",
        "update",
        "--detach",
        "--publish-rm",
        "target=80,mode=host",
        "--publish-rm",
        "target=8080,mode=host",
        "--replicas",
        "2",
        "hosting_nginx",
    ]);
    settled(ground, "hosting_nginx");
    until("two of them run", || {
        ground.containers("hosting_nginx").len() == 2
    });
    // Nobody can ask from outside now.
    let site = ground
        .site_but(|text| {
            let from = text.find("[checks.health]").unwrap();
            let to = text.find("[checks.app-database]").unwrap();
            format!("{}{}", &text[..from], &text[to..])
        })
        .await;
    let ask = |container: &str| {
        ground.swarm.docker(&[
            "exec",
            container,
            "curl",
            "-s",
            "-H",
            "Host: www.example.test",
            "-w",
            "%{http_code}",
            "http://127.0.0.1/api/version",
        ])
    };
    let shown = Arc::new(Mutex::new(0));
    let counted = shown.clone();
    let containers = ground.containers("hosting_nginx");
    let client: Vec<_> = containers
        .iter()
        .map(|container| {
            let args = [
                "exec",
                container,
                "curl",
                "-s",
                "-H",
                "Host: www.example.test",
                "-w",
                "%{http_code}",
                "http://127.0.0.1/api/version",
            ];
            ground.swarm.client(&args)
        })
        .collect();
    let client = Mutex::new(client);
    let hook = move |boundary: &Boundary| {
        if boundary.record == "done maintenance:on" {
            for command in client.lock().unwrap().iter_mut() {
                let said = restore_testing::text(&command.output().unwrap());
                assert!(
                    said.contains("Back soon") && said.ends_with("503"),
                    "{said}"
                );
                *counted.lock().unwrap() += 1;
            }
        }
        Ok(())
    };
    let options = RunOptions::new().boundary(Arc::new(hook));
    let report = ground
        .run(&site, PlanRequest::all().only(["postgres"]), options)
        .await;
    assert_eq!(report.outcome, Outcome::Restored, "{}", report.to_text());
    assert_eq!(*shown.lock().unwrap(), 2);
    for container in containers {
        let said = ask(&container);
        assert!(
            !said.contains("Back soon") && said.ends_with("200"),
            "{said}"
        );
    }
}
