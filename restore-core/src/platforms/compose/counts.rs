//! How many containers each service of a project has, which no compose file says, and which profiles are on: backups
//! write it down, and a project that is made from nothing gets it back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::containers::{Container, SERVICE, label};
use crate::model::Finding;

/// Where backups have it.
pub(super) const READ: &[&str] = &[FILE];

/// The name of the file of a project, `*` standing for that.
const FILE: &str = "configs/compose-*.json";

/// The variable in a project's `.env` that turns profiles on.
const PROFILES: &str = "COMPOSE_PROFILES";

/// How many containers of each service are up; of one whose containers have all ended, or do so again and again: none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts(BTreeMap<String, u64>);

/// What Docker Compose is told besides the files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// The profiles that are on; empty: those of the `.env`.
    pub(super) profiles: Vec<String>,
    /// How many containers services have, `SERVICE=NUMBER`.
    pub(super) scale: Vec<String>,
}

impl Counts {
    /// Those of a project's containers; what was made for one command is no part of it.
    pub(super) fn of(containers: &[Container]) -> Self {
        let mut counts: BTreeMap<String, (u64, bool)> = BTreeMap::new();
        for container in containers.iter().filter(|it| !it.is_one_off()) {
            let labels = container.seen.pointer("/Config/Labels");
            if let Some(service) = label(labels, SERVICE) {
                let (up, works) = counts.entry(service).or_default();
                *up = up.saturating_add(u64::from(container.is_up()));
                *works |= container.is_up() && !container.is_failing();
            }
        }
        let counts = counts.into_iter();
        let counts = counts.map(|(name, (up, works))| (name, if works { up } else { 0 }));
        Self(counts.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The services of which no container was up: work that is done once, and what had failed.
    pub(super) fn idle(&self) -> BTreeSet<String> {
        let idle = self.0.iter().filter(|(_, count)| **count == 0);
        idle.map(|(name, _)| name.clone()).collect()
    }

    /// The file of a backup that has those of a project.
    pub(super) fn file_of(project: &str) -> String {
        FILE.replace('*', project)
    }

    pub(super) fn to_json(&self) -> Value {
        json!({"services": self.0})
    }

    /// As [`to_json`](Self::to_json) has written it; `None` where it is something else.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let services = value.get("services")?.as_object()?.iter();
        let counts = services.map(|(name, count)| Some((name.clone(), count.as_u64()?)));
        counts.collect::<Option<_>>().map(Self)
    }

    /// What Docker Compose has to be told to make a project so. `described`: its files in the words of the program,
    /// with the services of all profiles; `on`: the profiles of its `.env`, which are on only where none is named.
    pub(super) fn told(&self, described: &Value, on: Vec<String>) -> Told {
        let services = described.get("services").and_then(Value::as_object);
        let profiles_of = |name: &str| -> Vec<&str> {
            let profiles = services.and_then(|all| all.get(name)?.get("profiles")?.as_array());
            let profiles = profiles.into_iter().flatten();
            profiles.filter_map(Value::as_str).collect()
        };
        // Where all services were there that it turns on.
        let was_on = |profile: &str| {
            let mut names = services.into_iter().flat_map(|all| all.keys());
            names.all(|name| !profiles_of(name).contains(&profile) || self.0.contains_key(name))
        };
        let known = |name: &str| services.is_some_and(|all| all.contains_key(name));
        let mut told = Told::default();
        let of_env = on.len();
        let mut profiles = on;
        for (name, count) in self.0.iter().filter(|(name, _)| known(name)) {
            if *count == 0 {
                continue;
            }
            told.scale.push(format!("{name}={count}"));
            let of_service = profiles_of(name);
            if of_service
                .iter()
                .any(|it| profiles.iter().any(|on| on == it))
            {
                continue;
            }
            let wanted = of_service.iter().find(|it| was_on(it));
            let wanted = wanted.or(of_service.first());
            profiles.extend(wanted.map(|it| (*it).to_owned()));
        }
        if profiles.len() > of_env {
            told.profiles = profiles;
        }
        told
    }

    /// What a project lacks that has `now` these: of its services that the site names, and of what ran.
    pub(super) fn shortfall(
        &self,
        project: &str,
        now: &Self,
        named: BTreeSet<String>,
    ) -> Vec<Finding> {
        let mut wanted = named;
        let ran = self.0.iter().filter(|(_, count)| **count > 0);
        wanted.extend(ran.map(|(name, _)| name.clone()));
        wanted.retain(|name| !now.0.contains_key(name));
        let absent: Vec<String> = wanted.into_iter().collect();
        let mut findings = Vec::new();
        if !absent.is_empty() {
            findings.push(
                Finding::warning(
                    "compose.services_absent",
                    project,
                    format!(
                        "the project was made, and has no containers of services that the site names or that ran when it was backed up: {}",
                        absent.join(", ")
                    ),
                )
                .hint("are they of a profile that is not on, or of files that `compose` of the component does not name? `docker compose --profile PROFILE up -d` in its directory makes them; COMPOSE_PROFILES in its .env turns a profile on for good"),
            );
        }
        let fewer: Vec<String> = self
            .0
            .iter()
            .filter_map(|(name, count)| {
                let now = now.0.get(name).filter(|now| *now < count)?;
                Some(format!("{name} {now} in place of {count}"))
            })
            .collect();
        if !fewer.is_empty() {
            findings.push(
                Finding::warning(
                    "compose.fewer_containers",
                    project,
                    format!(
                        "fewer containers run than when it was backed up: {}",
                        fewer.join(", ")
                    ),
                )
                .hint("`docker compose up -d --scale SERVICE=NUMBER` in its directory makes the others"),
            );
        }
        findings
    }
}

/// The profiles that a project's `.env` turns on.
pub(super) fn profiles_of_env(text: &str) -> Vec<String> {
    let mut profiles = Vec::new();
    for line in text.lines().map(str::trim) {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((_, value)) = line
            .split_once('=')
            .filter(|(key, _)| key.trim() == PROFILES)
        else {
            continue;
        };
        let value = value.trim().trim_matches(['"', '\'']);
        let names = value.split(',').map(str::trim);
        let names = names.filter(|name| !name.is_empty());
        profiles = names.map(str::to_owned).collect();
    }
    profiles
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platforms::docker::yaml;

    fn counts(all: &[(&str, u64)]) -> Counts {
        let all = all.iter().map(|(name, count)| ((*name).to_owned(), *count));
        Counts(all.collect())
    }

    fn words(all: &[&str]) -> Vec<String> {
        all.iter().map(|it| (*it).to_owned()).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let all = counts(&[("web", 2), ("once", 0)]);
        assert_eq!(all.idle(), words(&["once"]).into_iter().collect());
        assert_eq!(Counts::read(&all.to_json()), Some(all));
        assert_eq!(Counts::file_of("shop"), "configs/compose-shop.json");
        for other in [
            json!({}),
            json!([]),
            json!({"services": {"web": "two"}}),
            json!({"services": {"web": {"image": "web"}}}),
        ] {
            assert_eq!(Counts::read(&other), None, "{other}");
        }
    }

    #[test]
    fn what_never_comes_up_does_not_count() {
        let container = |service: &str, status: &str, restarts: u64| {
            let seen = json!({
                "Id": service, "Name": service, "Config": {"Labels": {SERVICE: service}},
                "State": {"Status": status}, "RestartCount": restarts,
            });
            Container::read(seen).unwrap()
        };
        let all = [
            container("web", "running", 9),
            container("web", "restarting", 9),
            container("exporter", "restarting", 9),
            container("db", "restarting", 1),
            container("certbot", "exited", 0),
        ];
        let wanted = counts(&[("certbot", 0), ("db", 1), ("exporter", 0), ("web", 2)]);
        assert_eq!(Counts::of(&all), wanted);
    }

    #[test]
    fn what_ran_is_asked_for_with_its_profiles() {
        let described = yaml::document(
            "services:\n  web: {}\n  once: {}\n  admin: {profiles: [tools, debug]}\n  probe: {profiles: [debug]}\n  \
             job: {profiles: [jobs]}\n",
        )
        .unwrap();
        let told = |all: &[(&str, u64)], on: &[&str]| {
            let told = counts(all).told(&described, words(on));
            (told.profiles, told.scale)
        };
        assert_eq!(
            told(&[("web", 2), ("once", 0), ("gone", 3)], &[]),
            (Vec::new(), words(&["web=2"]))
        );
        // Of its two profiles that one which turns on nothing else.
        assert_eq!(
            told(&[("admin", 1), ("web", 1)], &[]),
            (words(&["tools"]), words(&["admin=1", "web=1"]))
        );
        assert_eq!(
            told(&[("admin", 1), ("probe", 1)], &["jobs"]),
            (
                words(&["jobs", "tools", "debug"]),
                words(&["admin=1", "probe=1"])
            )
        );
        // What the `.env` turns on needs no word.
        assert_eq!(
            told(&[("admin", 1)], &["debug"]),
            (Vec::new(), words(&["admin=1"]))
        );
        // One that had done its work is not done again.
        assert_eq!(told(&[("job", 0)], &[]), (Vec::new(), Vec::new()));
        // Of files that nobody could read.
        let told = counts(&[("web", 2)]).told(&Value::Null, Vec::new());
        assert_eq!(told, Told::default());
    }

    #[test]
    fn what_is_missing_is_named_once() {
        let ran = counts(&[("web", 3), ("tool", 1), ("once", 0), ("job", 0)]);
        let now = counts(&[("web", 1), ("once", 0), ("db", 1)]);
        let named = ["db", "tool", "cache"].map(str::to_owned).into();
        let told = ran.shortfall("shop", &now, named);
        let told: Vec<(&str, &str)> = told
            .iter()
            .map(|it| (it.code.as_str(), it.message.rsplit(": ").next().unwrap()))
            .collect();
        assert_eq!(
            told,
            [
                ("compose.services_absent", "cache, tool"),
                ("compose.fewer_containers", "web 1 in place of 3"),
            ]
        );
        assert_eq!(now.shortfall("shop", &now, BTreeSet::new()), []);
    }

    #[test]
    fn profiles_of_an_env_file_are_read() {
        let cases: [(&str, &[&str]); 4] = [
            ("", &[]),
            ("COMPOSE_PROFILES=\n", &[]),
            ("A=b\nCOMPOSE_PROFILES=tools\n", &["tools"]),
            (
                "# COMPOSE_PROFILES=no\nexport COMPOSE_PROFILES = \"tools, debug\"",
                &["tools", "debug"],
            ),
        ];
        for (text, wanted) in cases {
            assert_eq!(profiles_of_env(text), words(wanted), "{text}");
        }
    }
}
