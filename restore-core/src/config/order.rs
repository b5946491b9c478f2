//! `after` of `[services.NAME]`: which services wait for which.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Map;

use super::{SiteConfig, parse_section, section};
use crate::error::{Error, ErrorKind, Result};

/// Which services must run when another starts, and outlive it when both stop.
#[derive(Clone, Debug, Default)]
pub(crate) struct ServiceOrder(Vec<(String, BTreeSet<String>)>);

impl ServiceOrder {
    /// Reads `after` of all services. Without that key a service waits for all that the file names
    /// before it; with it for those, and for whatever these wait for.
    pub(crate) fn read(config: &SiteConfig) -> Result<Self> {
        let mut order: Vec<(String, BTreeSet<String>)> = Vec::new();
        for (name, section) in &config.services {
            let path = format!("services.{name}");
            let named = match section.get("after") {
                None => order.iter().map(|(name, _)| name.clone()).collect(),
                Some(named) => {
                    let key = Map::from_iter([("after".to_owned(), named.clone())]);
                    parse_section::<After>(&path, key)?.after
                }
            };
            let mut all = BTreeSet::new();
            for earlier in named {
                let Some((_, its)) = order.iter().find(|(known, _)| *known == earlier) else {
                    return Err(not_before(config, name, &earlier));
                };
                all.extend(its.iter().cloned());
                all.insert(earlier);
            }
            order.push((name.clone(), all));
        }
        Ok(Self(order))
    }

    /// Those of `among` that the service waits for; `None` where the configuration does not know
    /// it.
    pub(crate) fn waits_for<'a>(
        &self,
        service: &str,
        among: impl Iterator<Item = &'a str>,
    ) -> Option<Vec<String>> {
        let (_, all) = self.0.iter().find(|(name, _)| name == service)?;
        Some(
            among
                .filter(|name| all.contains(*name))
                .map(str::to_owned)
                .collect(),
        )
    }
}

#[derive(Deserialize)]
struct After {
    after: Vec<String>,
}

fn not_before(config: &SiteConfig, name: &str, named: &str) -> Error {
    let known: Vec<&str> = config.services.keys().map(String::as_str).collect();
    let error = |what: &str| {
        Error::new(
            ErrorKind::Config,
            "config.service_order",
            format!("[services.{name}] is to start after {named:?}, {what}"),
        )
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
        let waits = |name| order.waits_for(name, ["c", "b", "a"].into_iter());
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
        let waits = |name| order.waits_for(name, ["a", "c"].into_iter());
        assert_eq!(waits("d"), Some(vec!["a".to_owned()]));
        assert_eq!(waits("c"), Some(vec![]));
    }

    #[test]
    fn a_service_cannot_wait_for_one_that_starts_later() {
        for (services, part) in [
            ("[services.a]\nafter = ['b']\n[services.b]\n", "not named before"),
            ("[services.a]\nafter = ['a']\n", "not named before"),
            ("[services.a]\n[services.b]\nafter = ['aa']\n", "none of that name"),
            ("[services.a]\nafter = 'b'\n", "services.a"),
        ] {
            let error = order(services).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
