//! A Redis that no component restores, and that the restore of something else has to stop.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::durable::Ground;
use crate::site::ID;

/// A queue without save points that holds 20 keys, and a tree whose restore stops it.
struct Queue(Ground);

/// How the platform starts the queue: by a command that it names, or by a script.
const COMMAND: &str = "command = [\"redis-server\", \"PATH/redis.conf\", \"--daemonize\", \"no\"]\npid_file = \"r.pid\"";
const SCRIPT: &str = "start = [\"sh\", \"-c\", \"redis-server PATH/redis.conf\"]\n\
                      stop = [\"sh\", \"-c\", \"kill $(cat PATH/r.pid)\"]\n\
                      status = [\"sh\", \"-c\", \"kill -0 $(cat PATH/r.pid)\"]";

impl Queue {
    fn new(config: &str) -> Self {
        let queue = Self(Ground::new(config, &["SET restored 1"]));
        for n in 0..20 {
            queue.0.redis(&format!("SET live:{n} x"));
        }
        queue.0.write("live/app/x", "x");
        queue.0.write("made/app/x", "y");
        let script = format!(
            "rm -r b/{ID} && mkdir b/{ID} && tar -C made -czf b/{ID}/app-{ID}.tar.gz app && cd b/{ID} && sha256sum app-* >SHA256SUMS"
        );
        let made = Command::new("sh")
            .args(["-ec", &script])
            .current_dir(queue.0.dir.path())
            .status();
        assert!(made.unwrap().success());
        queue.site(COMMAND, "");
        queue
    }

    /// The site's configuration: how the queue is started, and more sections.
    fn site(&self, how: &str, more: &str) {
        let how = how.replace("PATH", &self.0.dir.path().display().to_string());
        self.0.write(
            "restore.toml",
            &format!(
                "[site]\nname = \"t\"\nstate = \"state\"\nsafety_backup = false\n\
                 [stores.main]\nkind = \"directory\"\npath = \"b\"\n\
                 [services.queue]\n{how}\nendpoint = \"127.0.0.1:{}\"\nready = \"tcp\"\n\
                 [components.tree]\nkind = \"files\"\nroot = \"live\"\ntree = \"app\"\nstops = [\"queue\"]\n\
                 archive = [\"app-{{id}}.tar.gz\"]\n{more}",
                self.0.port
            ),
        );
    }

    /// A check of it, and how that signs in.
    fn check(&self, password: &str, keys: &str) -> String {
        self.0.write("password", password);
        let mode = PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(self.0.path("password"), mode).unwrap();
        format!(
            "[checks.queue]\nkind = \"redis\"\nservice = \"queue\"\nmin_keys = 0\ntimeout = \"5s\"\n{keys}\n"
        )
    }

    /// Restores the tree, and the queue has what it had.
    fn runs_and_keeps(&self) {
        self.0.restore(&["run", ID, "--yes"]).exits(0);
        assert_eq!(self.0.redis("DBSIZE"), "20");
        assert_eq!(
            std::fs::read_to_string(self.0.path("live/app/x")).unwrap(),
            "y"
        );
    }
}

const LOST: &str = "what it holds may be lost";

#[test]
fn it_loses_nothing() {
    let queue = Queue::new("save \"\"");
    queue.runs_and_keeps();
    queue.0.restore(&["rollback", "--yes"]).exits(0);
    assert_eq!(queue.0.redis("DBSIZE"), "20");
    queue.0.restore(&["confirm", "--yes"]).exits(0);

    // One that lets nobody in is told of, and a check of it says how to sign in.
    queue.0.redis("CONFIG SET requirepass hush");
    let ran = queue.0.restore(&["plan", ID]).exits(0);
    assert!(ran.out.contains(LOST), "{}", ran.out);
    let check = queue.check("hush", "password_file = \"password\"");
    queue.site(COMMAND, &check);
    let ran = queue.0.restore(&["plan", ID]).exits(0);
    assert!(!ran.out.contains(LOST), "{}", ran.out);
}

/// What starts it is a script: that it is a Redis only a check of it says.
#[test]
fn one_that_a_script_starts_is_known_by_its_check() {
    let queue = Queue::new("save \"\"");
    let check = queue.check("", "");
    queue.site(SCRIPT, &check);
    queue.runs_and_keeps();
}

/// It saves by itself just when it is to be stopped.
#[test]
fn one_that_is_saving_is_waited_for() {
    let queue = Queue::new("save \"\"\nrdb-key-save-delay 100000");
    let begin = format!("redis-cli -p {} BGSAVE", queue.0.port);
    let hook = format!(
        "[hooks.saves]\nkind = \"command\"\nwhen = [\"before-stop\"]\ncommand = [\"sh\", \"-c\", \"{begin}\"]\n"
    );
    queue.site(COMMAND, &hook);
    queue.runs_and_keeps();
}

/// A user of a check may do less than what is needed: the plan says so, and who agrees to that goes on. One that
/// may save beside its work does that.
#[test]
fn what_its_user_may_do_is_said_before() {
    let queue = Queue::new(
        "save \"\"\nuser mon on >pw ~* +ping +info +acl|whoami\n\
         user may on >pw ~* +ping +info +bgsave +acl|whoami +acl|dryrun",
    );
    let check = queue.check("pw", "username = \"mon\"\npassword_file = \"password\"");
    queue.site(COMMAND, &check);
    let ran = queue.0.restore(&["plan", ID]).exits(0);
    assert!(ran.out.contains(LOST), "{}", ran.out);
    let check = queue.check("pw", "username = \"may\"\npassword_file = \"password\"");
    queue.site(COMMAND, &check);
    let ran = queue.0.restore(&["plan", ID]).exits(0);
    assert!(!ran.out.contains(LOST), "{}", ran.out);
    queue.runs_and_keeps();
}

/// The plan said that it is made to write its data. By the time of the stop it does not answer.
#[test]
fn one_that_does_not_answer_any_more_is_not_stopped() {
    let queue = Queue::new("save \"\"");
    let lock = format!("redis-cli -p {} CONFIG SET requirepass other", queue.0.port);
    let hook = format!(
        "[hooks.locks]\nkind = \"command\"\nwhen = [\"before-stop\"]\ncommand = [\"sh\", \"-c\", \"{lock}\"]\n"
    );
    queue.site(COMMAND, &hook);
    let ran = queue.0.restore(&["run", ID, "--yes"]).exits(5);
    let said = ran.out + &ran.err;
    assert!(said.contains("cannot be made to write its data"), "{said}");
    assert_eq!(queue.0.redis("-a other --no-auth-warning DBSIZE"), "20");
}

/// The plan could not ask it, and said that its data may be lost. By the time of the stop it lets everybody in: it
/// is not stopped unsaved.
#[test]
fn one_that_could_not_be_asked_for_the_plan_is_asked_again() {
    let queue = Queue::new("save \"\"");
    queue.0.redis("CONFIG SET requirepass hush");
    let ran = queue.0.restore(&["plan", ID]).exits(0);
    assert!(ran.out.contains(LOST), "{}", ran.out);
    let open = format!(
        "redis-cli -p {} -a hush --no-auth-warning CONFIG SET requirepass ''",
        queue.0.port
    );
    let hook = format!(
        "[hooks.opens]\nkind = \"command\"\nwhen = [\"before-stop\"]\ncommand = [\"sh\", \"-c\", \"{open}\"]\n"
    );
    queue.site(COMMAND, &hook);
    queue.runs_and_keeps();
}

/// It runs well, and a file without which it does not start is gone.
#[test]
fn one_that_could_not_start_again_is_not_stopped() {
    let queue = Queue::new("save \"\"");
    let conf = std::fs::read_to_string(queue.0.path("redis.conf")).unwrap();
    let more = "aclfile /nonexistent/users\n";
    queue.0.write("redis.conf", &format!("{conf}{more}"));
    let ran = queue.0.restore(&["plan", ID]).exits(4);
    let said = ran.out + &ran.err;
    assert!(said.contains("it names /nonexistent/users"), "{said}");
    queue.0.write("redis.conf", &conf);
    queue.runs_and_keeps();
}

/// Somebody deletes its append-only file, or puts another there: what it holds is in its memory only.
#[test]
fn one_whose_append_only_file_is_not_its_own_writes_it_anew() {
    let queue = Queue::new("appendonly yes\nsave \"\"");
    let live = queue.0.path("vol/appendonlydir");
    std::fs::remove_dir_all(&live).unwrap();
    std::fs::create_dir(&live).unwrap();
    let base = "appendonly.aof.1.base.rdb";
    std::fs::copy(queue.0.path("gen/dump.rdb"), live.join(base)).unwrap();
    let manifest = format!("file {base} seq 1 type b\n");
    std::fs::write(live.join("appendonly.aof.manifest"), manifest).unwrap();
    queue.runs_and_keeps();
}
