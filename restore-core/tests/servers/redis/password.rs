//! The server's password: in no process's arguments, in nothing that is said or kept.

use super::assert_same;
use restore_testing::redis::{Case, Form, Server, back_up};

/// No process has the password among its arguments, at any time.
#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_in_no_arguments_and_no_facts() {
    const PASSWORD: &str = "s3cret-f0r-n0b0dy";
    let case = Case::new(Server::new(&["appendonly yes"]).with_password(PASSWORD), "");
    let content = back_up(&case, Form::Aof);
    case.server().start().unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let watcher = std::thread::spawn(move || {
        let (mut looks, mut seen) = (0, Vec::new());
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let arguments = String::from_utf8_lossy(&arguments).into_owned();
                if arguments.contains(PASSWORD) {
                    seen.push(arguments);
                }
                looks += usize::from(!seen.is_empty() || entry.path().ends_with("1"));
            }
        }
        (looks, seen)
    });
    let staged = case.restore().await;
    stop.send(()).unwrap();
    let (looks, seen) = watcher.join().unwrap();
    assert!(looks > 1);
    assert_eq!(seen, Vec::<String>::new());
    let started = format!("{:?}", case.platform.started.lock().unwrap());
    assert!(started.contains("restore-scratch.conf") && !started.contains(PASSWORD));
    assert!(!format!("{staged:?} {:?}", case.facts).contains(PASSWORD));
    assert_same(&case.server().content(), &content);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_without_saying_it() {
    let case = Case::new(Server::new(&[]).with_password("right"), "");
    back_up(&case, Form::Rdb);
    case.server().start().unwrap();
    std::fs::write(case.server().password_file(), "wr0ng-0ne").unwrap();
    let inspection = case.component.inspect(&case.cx().await).await.unwrap();
    assert_eq!(inspection.findings[0].code, "redis.auth");
    assert!(!format!("{inspection:?}").contains("wr0ng-0ne"));
}
