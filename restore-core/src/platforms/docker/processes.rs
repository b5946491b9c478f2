//! Processes in containers: whose they are, and what they are.

use serde_json::Value;

use super::engine::{Engine, Refused};
use super::json::text;
use crate::model::Result;

impl Engine {
    /// The user and group of a container's first process; `None` where it does not run.
    pub(crate) async fn owner_in(&self, container: &str) -> Result<Option<(u32, u32)>> {
        let container = format!("/containers/{container}");
        let seen = self
            .get("look at a container", &format!("{container}/json"))
            .await?;
        let pid = seen.pointer("/State/Pid").and_then(Value::as_u64);
        let Some(pid) = pid.filter(|pid| *pid > 0) else {
            return Ok(None);
        };
        if !self.is_here() {
            let listed = self
                .get(
                    "list a container's processes",
                    &format!("{container}/top?ps_args=-eo%20pid,uid,gid"),
                )
                .await?;
            return Ok(listed_owner(&listed, pid));
        }
        let Ok(status) = tokio::fs::read(format!("/proc/{pid}/status")).await else {
            return Ok(None);
        };
        let status = String::from_utf8_lossy(&status);
        let id = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            // Real, effective, saved, file system.
            line.split_whitespace().nth(1)?.parse().ok()
        };
        Ok(id("Uid:").zip(id("Gid:")))
    }

    /// The command lines of a container's processes; none where it has ended meanwhile.
    pub(crate) async fn programs_in(&self, container: &str) -> Result<Vec<String>> {
        let path = format!("/containers/{container}/top?ps_args=-eo%20pid,args");
        let listed = match self.get("list a container's processes", &path).await {
            Ok(listed) => listed,
            Err(error) if error.is(&Refused::NotFound) || error.is(&Refused::Conflict) => {
                return Ok(Vec::new());
            }
            Err(error) => return Err(error),
        };
        let processes = listed.get("Processes").and_then(Value::as_array);
        let lines = processes.into_iter().flatten();
        Ok(lines.filter_map(|process| text(process, "/1")).collect())
    }
}

/// Who runs a process, from the engine's list of a container's processes.
fn listed_owner(listed: &Value, pid: u64) -> Option<(u32, u32)> {
    let processes = listed.get("Processes")?.as_array()?;
    processes.iter().find_map(|process| {
        let number = |at: usize| process.get(at)?.as_str()?.trim().parse::<u32>().ok();
        (u64::from(number(0)?) == pid).then_some((number(1)?, number(2)?))
    })
}

/// `1000:1000`, or `1000`, in numbers.
pub(crate) fn user_numbers(user: &str) -> Option<(u32, u32)> {
    match user.split_once(':') {
        Some((uid, gid)) => Some((uid.parse().ok()?, gid.parse().ok()?)),
        None => user.parse().ok().map(|uid| (uid, uid)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_a_process_is_read_from_the_engines_list() {
        let listed = serde_json::json!({"Titles": ["PID", "UID", "GID"],
            "Processes": [["7", "472", "0"], ["8", "1", "2"]]});
        assert_eq!(listed_owner(&listed, 7), Some((472, 0)));
        assert_eq!(listed_owner(&listed, 9), None);
        assert_eq!(user_numbers("999:998"), Some((999, 998)));
        assert_eq!(user_numbers("redis"), None);
    }
}
