//! Which components a request means, and which of their paths.

use std::collections::BTreeMap;

use super::Preflight;
use crate::contract::SharedComponent;
use crate::model::{Error, ErrorKind, Result};

impl Preflight<'_> {
    /// The components asked for, in the site's order, each with its paths. The platform then knows the nodes of
    /// the request.
    pub(crate) async fn select(&self) -> Result<Vec<(SharedComponent, Vec<String>)>> {
        self.substitute_nodes();
        self.request.ensure_something()?;
        if self.request.is_beside() {
            return Ok(vec![(self.the_one_beside()?, Vec::new())]);
        }
        let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for path in &self.request.paths {
            let owner = self.owner_of(path).await?;
            paths
                .entry(owner.name().to_owned())
                .or_default()
                .push(path.clone());
        }
        self.ensure_known()?;
        let all = self.request.only.is_empty() && paths.is_empty();
        Ok(self
            .site
            .components()
            .iter()
            .filter(|component| {
                all || paths.contains_key(component.name())
                    || self
                        .request
                        .only
                        .iter()
                        .any(|name| name == component.name())
            })
            .map(|component| {
                let paths = paths.get(component.name()).cloned().unwrap_or_default();
                (component.clone(), paths)
            })
            .collect())
    }

    fn ensure_known(&self) -> Result<()> {
        let request = &self.request;
        let words = request.allow_missing.iter().chain(&request.allow_empty);
        let mut named = request.only.iter().chain(words);
        let Some(name) = named.find(|name| self.site.component(name).is_none()) else {
            return Ok(());
        };
        let components = self.site.components().iter();
        let known: Vec<&str> = components.map(|component| component.name()).collect();
        Err(Error::new(
            ErrorKind::Config,
            "plan.unknown_component",
            format!("this site has no component {name:?}"),
        )
        .hint(format!("it has {}", known.join(", "))))
    }

    /// The component that is restored beside what is live: the one that is named, or the only one
    /// that can be.
    fn the_one_beside(&self) -> Result<SharedComponent> {
        self.ensure_known()?;
        let request = &self.request;
        let refused = |message: &str, hint: String| {
            Error::new(ErrorKind::Config, "plan.not_beside", message).hint(hint)
        };
        if request.over.is_some() || !request.paths.is_empty() {
            let hint = "leave --over and --path away: nothing live is replaced";
            let message = "what is left beside what is live goes over no run, and has no paths";
            return Err(refused(message, hint.to_owned()));
        }
        if request.restore_as.is_some() && !request.tables.is_empty() {
            let hint = "--as restores the whole database beside the live one; --table only \
                        tables, into the live database, in a schema of their own";
            let message = "a database under another name, or tables: not both at once";
            return Err(refused(message, hint.to_owned()));
        }
        let components = self.site.components().iter();
        let can: Vec<&SharedComponent> = components.filter(|it| it.restores_beside()).collect();
        let names: Vec<&str> = can.iter().map(|it| it.name()).collect();
        match (request.only.as_slice(), can.as_slice()) {
            ([], [one]) => Ok(SharedComponent::clone(one)),
            (_, []) => Err(refused(
                "this site has no component that can be restored beside what is live",
                "databases can (kind = \"postgres\"); `restore get` brings files out of archives"
                    .to_owned(),
            )),
            ([], _) => Err(refused(
                "one component is restored beside what is live, and none is named",
                format!("name it: --only {}", names.join(" or --only ")),
            )),
            ([name], _) => match can.iter().find(|it| it.name() == name) {
                Some(one) => Ok(SharedComponent::clone(one)),
                None => Err(refused(
                    &format!(
                        "{name} cannot be restored beside what is live, under another name or by tables"
                    ),
                    format!(
                        "of this site {} can; `restore get` brings files out of archives",
                        names.join(", ")
                    ),
                )),
            },
            (_, _) => Err(refused(
                "one component at a time is restored beside what is live",
                "name one with --only, and run again for the next".to_owned(),
            )),
        }
    }

    /// The component whose tree a path lies in: the one with the longest prefix, the one whose name the
    /// path begins with, or the one that has it on the machine.
    async fn owner_of(&self, path: &str) -> Result<&SharedComponent> {
        let below = |prefix: &str| {
            path == prefix
                || path
                    .strip_prefix(prefix)
                    .is_some_and(|rest| rest.starts_with('/'))
        };
        let owners = || {
            let components = self.site.components().iter();
            components.filter_map(|component| Some((component.path_prefix()?, component)))
        };
        let longest = owners()
            .filter(|(prefix, _)| below(prefix))
            .max_by_key(|(prefix, _)| prefix.len());
        let named = || owners().find(|(_, component)| below(component.name()));
        if let Some((_, component)) = longest.or_else(named) {
            return Ok(component);
        }
        for (_, component) in owners() {
            if let Some(contents) = component.contents()
                && contents.inside(path).await.is_some()
            {
                return Ok(component);
            }
        }
        let known: Vec<String> = owners().map(|(prefix, _)| prefix).collect();
        Err(Error::new(
            ErrorKind::Config,
            "plan.unknown_path",
            format!("no component of this site restores the path {path:?}"),
        )
        .hint(format!(
            "paths are named as `restore show ID --files` lists them, or below {}",
            known.join(", ")
        )))
    }
}
