//! `after` and `wait` of `[services.NAME]`: which services wait for which.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::{ConfigFault, section, table};
use crate::contract::{SiteConfig, parse_section};
use crate::model::{Error, ErrorKind, Result};

/// Which services come up before another, and outlive it when both stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceOrder(Vec<Position>);

#[derive(Clone, Debug)]
struct Position {
    name: String,
    after: BTreeSet<String>,
    waits: bool,
}

/// The keys of a service's section that are not its platform's.
#[derive(Deserialize)]
struct Keys {
    after: Option<Vec<String>>,
    wait: Option<bool>,
}

impl ServiceOrder {
    /// Reads the keys of all services. Without `after` a service comes after all that the file
    /// names before it; with it after those, and after whatever these come after.
    pub(crate) fn read(config: &SiteConfig) -> Result<Self> {
        let mut order: Vec<Position> = Vec::new();
        for (name, section) in &config.services {
            let path = format!("services.{name}");
            let mut keys = table(&path, section)?;
            keys.retain(|key, _| key == "after" || key == "wait");
            let keys: Keys = parse_section(&path, keys)?;
            let named = keys
                .after
                .unwrap_or_else(|| order.iter().map(|it| it.name.clone()).collect());
            let mut after = BTreeSet::new();
            for earlier in named {
                let Some(known) = order.iter().find(|known| known.name == earlier) else {
                    return Err(not_before(config, name, &earlier));
                };
                after.extend(known.after.iter().cloned());
                after.insert(earlier);
            }
            order.push(Position {
                name: name.clone(),
                after,
                waits: keys.wait.unwrap_or(true),
            });
        }
        Ok(Self(order))
    }

    fn place(&self, service: &str) -> Option<&Position> {
        self.0.iter().find(|place| place.name == service)
    }

    /// Those of `among` that the service comes after; `None` where the configuration does not
    /// know it.
    pub(crate) fn after<'a>(
        &self,
        service: &str,
        among: impl Iterator<Item = &'a str>,
    ) -> Option<Vec<String>> {
        let after = &self.place(service)?.after;
        let found = among.filter(|name| after.contains(*name));
        Some(found.map(str::to_owned).collect())
    }

    /// Whether it is started only once those are ready.
    pub(crate) fn waits(&self, service: &str) -> bool {
        self.place(service).is_none_or(|place| place.waits)
    }
}

fn not_before(config: &SiteConfig, name: &str, named: &str) -> Error {
    let known: Vec<&str> = config.services.keys().map(String::as_str).collect();
    let error = |what: &str| {
        Error::new(
            ErrorKind::Config,
            "config.service_order",
            format!("[services.{name}] is to come after {named:?}, {what}"),
        )
        .because(ConfigFault::ServiceOrder)
    };
    if known.contains(&named) {
        error("which is not named before it").hint(
            "services are named in the order of starting: move that section up, or take the name out",
        )
    } else {
        error("but the site has none of that name").hint(section::suggestion(named, &known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(services: &str) -> Result<ServiceOrder> {
        let rest = "[site]\nname = 's'\nstate = 'x'\n[stores]\n[components]\n";
        ServiceOrder::read(&SiteConfig::from_toml(&format!("{rest}{services}"))?)
    }

    #[test]
    fn without_the_key_a_service_waits_for_all_before_it() {
        let order = order("[services.a]\n[services.b]\n[services.c]\n").unwrap();
        let waits = |name| order.after(name, ["c", "b", "a"].into_iter());
        assert_eq!(waits("a"), Some(vec![]));
        assert_eq!(waits("c"), Some(vec!["b".to_owned(), "a".to_owned()]));
        assert_eq!(waits("d"), None);
    }

    #[test]
    fn what_a_service_waits_for_may_wait_itself() {
        let order = order(
            "[services.a]\n[services.b]\nafter = ['a']\n[services.c]\nafter = []\n[services.d]\nafter = ['b']\n",
        )
        .unwrap();
        let waits = |name| order.after(name, ["a", "c"].into_iter());
        assert_eq!(waits("d"), Some(vec!["a".to_owned()]));
        assert_eq!(waits("c"), Some(vec![]));
        assert!(order.waits("d"));
    }

    #[test]
    fn a_service_may_come_up_by_itself() {
        let order = order("[services.a]\n[services.b]\nwait = false\n").unwrap();
        assert!(order.waits("a") && !order.waits("b"));
        assert_eq!(
            order.after("b", ["a"].into_iter()),
            Some(vec!["a".to_owned()])
        );
    }

    #[test]
    fn a_service_cannot_wait_for_one_that_starts_later() {
        for (services, part) in [
            (
                "[services.a]\nafter = ['b']\n[services.b]\n",
                "not named before",
            ),
            ("[services.a]\nafter = ['a']\n", "not named before"),
            (
                "[services.a]\n[services.b]\nafter = ['aa']\n",
                "none of that name",
            ),
            ("[services.a]\nafter = 'b'\n", "services.a"),
        ] {
            let error = order(services).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
