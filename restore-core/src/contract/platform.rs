//! What runs the services: the traits that a platform implements.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::contract::{Images, Nodes, Program, ServiceState, Stacks, Volume};
use crate::model::{Endpoint, Finding, Result, Timestamp};
use crate::sys::absent::AbsentDirectory;
use crate::sys::process::command::{Command, Process, Scratch};

/// What runs the services of a site.
///
/// Every method that waits has a deadline, waits for a condition instead of a time, and says
/// in its error what it waited for and what it saw instead.
#[async_trait]
pub trait Platform: Send + Sync {
    /// A few words for people: "local processes of this machine".
    fn describe(&self) -> String;

    /// The names of all services that the site names.
    fn services(&self) -> Vec<String>;

    /// What the service is and does right now. `NotFound` for a name the platform lacks.
    async fn service(&self, name: &str) -> Result<ServiceState>;

    /// Makes `replicas` instances run and returns once exactly these do: for 0, once the last
    /// process has really exited (not merely been asked to); otherwise once all run and are
    /// ready by the service's own definition. May be called again at any time; asking for what
    /// already is changes nothing. On failure the error carries the service's last log lines.
    async fn scale(&self, name: &str, replicas: u32) -> Result<()>;

    /// As [`scale`](Self::scale), but where some of the instances have no place to run (a machine is away or
    /// takes no work) it returns once all others run, unless these are fewer than `least`. With a `least` of
    /// 0 it does not wait for any to run. Without an implementation it waits for all, as `scale` does.
    async fn scale_at_least(&self, name: &str, replicas: u32, _least: u32) -> Result<()> {
        self.scale(name, replicas).await
    }

    /// Starts a program in the context of a service, which need not run.
    async fn exec(&self, service: &str, command: Command) -> Result<Box<dyn Process>>;

    /// The service's log lines since `since`, at most the last `limit`; empty where it has no log.
    async fn logs(&self, service: &str, since: Timestamp, limit: usize) -> Result<Vec<String>>;

    /// Starts the same program once for each running instance of a service, in the context of
    /// that instance: what each of several has to be told by itself, such as a reload. Where none
    /// runs, once as [`exec`](Self::exec) does.
    async fn exec_each(&self, service: &str, command: Command) -> Result<Vec<Box<dyn Process>>> {
        Ok(vec![self.exec(service, command).await?])
    }

    /// Where a client of this process can connect to the service.
    async fn endpoint(&self, service: &str) -> Result<Endpoint>;

    /// Where a program that [`exec`](Self::exec) runs in the context of the service connects to
    /// the service's own server.
    async fn endpoint_inside(&self, service: &str) -> Result<Endpoint> {
        self.endpoint(service).await
    }

    /// A volume by its exact name. `NotFound` where the site or the engine has none of that
    /// name; looking never creates one.
    async fn volume(&self, name: &str) -> Result<Arc<dyn Volume>>;

    /// Where a volume of the site would be that is not there, and that a run which may create what is
    /// absent makes: a directory of this host. `None` where it is there, and where the platform makes
    /// none. Changes nothing.
    async fn absent_volume(&self, _name: &str) -> Result<Option<AbsentDirectory>> {
        Ok(None)
    }

    /// The programs that run beside a volume of the site whose files are not on this host, but for
    /// our own: their command lines, as far as the platform sees them.
    async fn at_work_on(&self, _volume: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// The services that run, or are meant to, and have a volume of the site mounted: by the names
    /// that the site has for them, where it has any. Empty where the platform does not know.
    async fn in_use_by(&self, _volume: &str) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Runs a throwaway server in the context of a service (its user, its machine or image),
    /// for instance over staged data. `command` must stay in the foreground. What it reads may be a program of
    /// strangers: it reaches no network where the platform can see to that, and is spoken to by a socket in a
    /// directory.
    async fn scratch(&self, service: &str, command: Command) -> Result<Box<dyn Scratch>>;

    /// Where users of this host's network reach what the service listens on at `port` inside its
    /// containers: an address for each running instance. Empty where nothing stands in between:
    /// that port of any address of the host.
    async fn published(&self, _service: &str, _port: u16) -> Result<Vec<Endpoint>> {
        Ok(Vec::new())
    }

    /// The images that services run; `None` where they run none.
    fn images(&self) -> Option<Arc<dyn Images>> {
        None
    }

    /// The stacks that can be deployed from compose files; `None` where there is no such thing.
    fn stacks(&self) -> Option<&dyn Stacks> {
        None
    }

    /// The machines that it runs on; `None` where it knows only this one.
    fn nodes(&self) -> Option<&dyn Nodes> {
        None
    }

    /// How processes of the service see a file of this host: the path to use there, or `None`
    /// where they cannot read it and its content has to be streamed.
    async fn path_in(&self, service: &str, host_path: &Path) -> Result<Option<PathBuf>>;

    /// Where processes of the service see a volume of the site, on whichever machine they run;
    /// `None` where they do not see it, or where nobody knows.
    async fn volume_in(&self, service: &str, volume: &str) -> Result<Option<PathBuf>> {
        match self.volume(volume).await?.path() {
            Some(path) => self.path_in(service, &path).await,
            None => Ok(None),
        }
    }

    /// The user and group that the service's processes run as, where known: whoever must own
    /// what is staged for it.
    async fn owner(&self, service: &str) -> Result<Option<(u32, u32)>>;

    /// What speaks against stopping, starting or swapping the data of these services, or is
    /// worth knowing before; changes nothing.
    async fn inspect(&self, _services: &[String]) -> Result<Vec<Finding>> {
        Ok(Vec::new())
    }

    /// Why a service that runs would not count as ready, where its start waits for its endpoint to take
    /// connections: the address and what came of trying it, `127.0.0.1:8080: connection refused`. `None` where it
    /// does take them, where its start does not wait for that, or where it does not run.
    async fn unanswered(&self, _service: &str) -> Result<Option<String>> {
        Ok(None)
    }

    /// The programs of this host that start the service, stop it and ask after it.
    fn programs(&self, _service: &str) -> Vec<Program> {
        Vec::new()
    }

    /// The command of this host that starts the service; empty where something else does.
    fn start_command(&self, _service: &str) -> Vec<String> {
        Vec::new()
    }

    /// Whether programs in the context of a service are this host's own.
    fn runs_here(&self, _service: &str) -> bool {
        false
    }

    /// Removes what processes that are gone left behind of their work for this site: throwaway
    /// servers, helpers. Called with the site's lock held. May be called at any time.
    async fn tidy(&self) -> Result<()> {
        Ok(())
    }

    /// Gives services back what [`scale`](Self::scale) took from them for as long as they are down,
    /// such as the policy by which an engine starts them again by itself. It starts and stops none, and
    /// leaves alone what somebody else has changed since. Called with the site's lock held, once a run
    /// has ended and before another begins: no open run needs them to stay down.
    async fn release(&self) -> Result<()> {
        Ok(())
    }

    /// Takes the lock that keeps processes of other hosts from working on this site, besides the
    /// one that keeps those of this host from it. `action` is what others are told. `None` where
    /// only this host can work on the platform. A lock of a process that is certainly gone is
    /// taken over; any other holder is an error of kind [`Locked`](crate::ErrorKind::Locked).
    async fn lock(&self, _action: &str) -> Result<Option<Box<dyn PlatformLock>>> {
        Ok(None)
    }

    /// The error that [`lock`](Self::lock) would give now; changes nothing.
    async fn ensure_unlocked(&self) -> Result<()> {
        Ok(())
    }

    /// Who holds the lock, in words for people; `None`: nobody.
    async fn lock_holder(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Takes the lock away from its holder, on the word of a person that the holder is gone.
    /// Refused where the holder is seen to live.
    async fn break_lock(&self) -> Result<()> {
        Ok(())
    }
}

/// A lock of a platform. Dropping it keeps it held, as a crash would: release it.
#[async_trait]
pub trait PlatformLock: Send + Sync {
    /// Gives it back.
    async fn release(self: Box<Self>) -> Result<()>;
}
