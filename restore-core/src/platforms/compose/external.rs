//! Networks and volumes of which a project's files say that they are made elsewhere: Docker Compose makes none of them,
//! and nothing starts without. Where they are gone a run makes them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::ComposePlatform;
use super::projects::is_empty;
use crate::contract::{StackPart, StackPlan, StackSource};
use crate::model::{Error, ErrorKind, Finding, Result, RunId};
use crate::platforms::docker::engine::Refused;
use crate::platforms::docker::json::{encoded, text};
use crate::platforms::docker::yaml;

/// By this label a run knows what it has made.
const MADE_BY: &str = "restore.run";

/// The kinds of parts.
const NETWORK: &str = "network";
const VOLUME: &str = "volume";

/// Networks that every engine has.
const BUILT_IN: [&str; 3] = ["bridge", "host", "none"];

/// The names that are made elsewhere, by their keys in this section of the files; what a later one says of a key
/// holds.
fn named(documents: &[Value], section: &str) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for document in documents {
        let all = document.get(section).and_then(Value::as_object);
        for (key, described) in all.into_iter().flatten() {
            let external = described.get("external");
            let is_external = external.is_some_and(|it| it.is_object() || yaml::is_true(it));
            if !is_external {
                continue;
            }
            let given = external.and_then(|it| it.get("name"));
            let given = given.or(described.get("name")).and_then(Value::as_str);
            names.insert(key.clone(), given.unwrap_or(key).to_owned());
        }
    }
    names
}

fn is_made_by(thing: &Value, run: &RunId) -> bool {
    let label = thing.get("Labels").and_then(|it| it.get(MADE_BY));
    label.and_then(Value::as_str) == Some(run.as_str())
}

impl ComposePlatform {
    /// Adds to the plan of a project what its files say is made elsewhere, and is not there.
    pub(super) async fn plan_external(
        &self,
        project: &str,
        source: &StackSource,
        plan: &mut StackPlan,
    ) -> Result<()> {
        let read = source.compose.iter().map(|(_, text)| yaml::document(text));
        // What is wrong with the files Docker Compose says, which knows more of them.
        let Ok(documents) = read.collect::<std::result::Result<Vec<Value>, _>>() else {
            return Ok(());
        };
        let mut made = Vec::new();
        let mut unknown = Vec::new();
        for (kind, section) in [(NETWORK, "networks"), (VOLUME, "volumes")] {
            for (key, name) in named(&documents, section) {
                if name.contains('$') {
                    unknown.push(format!("{section}: {key}"));
                    continue;
                }
                let built_in = kind == NETWORK && BUILT_IN.contains(&name.as_str());
                let part = StackPart::new(kind, name).external();
                if built_in || made.contains(&part) || self.external_part(&part).await?.is_some() {
                    continue;
                }
                made.push(part);
            }
        }
        if !made.is_empty() {
            let names: Vec<String> = made.iter().map(ToString::to_string).collect();
            plan.findings.push(
                Finding::warning(
                    "compose.made_plain",
                    project,
                    format!(
                        "its files say that this is made elsewhere, and no backup says how: it is made without options: {}",
                        names.join(", ")
                    ),
                )
                .hint("where it had a driver or options make it by hand before the restore (docker network create, docker volume create)"),
            );
        }
        if !unknown.is_empty() {
            plan.findings.push(
                Finding::warning(
                    "compose.name_unknown",
                    project,
                    format!(
                        "names of what is made elsewhere hold variables, and whether it is there is known when the project is deployed: {}",
                        unknown.join(", ")
                    ),
                )
                .hint("make what is absent by hand before the restore"),
            );
        }
        plan.parts.extend(made);
        Ok(())
    }

    /// Makes those of the parts that are made elsewhere.
    pub(super) async fn make_external(
        &self,
        source: &StackSource,
        parts: &[StackPart],
    ) -> Result<()> {
        for part in parts.iter().filter(|part| part.external) {
            if let Some(there) = self.external_part(part).await? {
                if is_made_by(&there, &source.run) {
                    continue;
                }
                return Err(Error::new(
                    ErrorKind::Failed,
                    "create.there_since",
                    format!("the {part} was absent when the run was planned, and somebody has made one since"),
                )
                .hint("`restore rollback`, and plan again"));
            }
            let (name, labels) = (&part.name, json!({MADE_BY: source.run.as_str()}));
            let (path, spec) = match part.kind.as_str() {
                NETWORK => (
                    "/networks/create",
                    json!({"Name": name, "CheckDuplicate": true, "Driver": "bridge", "Labels": labels}),
                ),
                _ => ("/volumes/create", json!({"Name": name, "Labels": labels})),
            };
            let what = format!("make the {part}");
            let made = self.engine.post(&what, path, &spec).await;
            made.map_err(|e| e.hint(format!("`docker {} create` says more", part.kind)))?;
        }
        Ok(())
    }

    /// Removes those of them that the run has made; those that stay, as somebody uses them or something is in them
    /// that is not to go (`data`).
    pub(super) async fn remove_external(
        &self,
        run: &RunId,
        parts: &[StackPart],
        data: bool,
    ) -> Result<Vec<StackPart>> {
        let mut left = Vec::new();
        for part in parts.iter().filter(|part| part.external) {
            let Some(there) = self.external_part(part).await? else {
                continue;
            };
            let may_go = part.kind != VOLUME || data || is_empty(&there);
            let what = format!("remove the {part}, which the run had made");
            let path = format!("/{}s/{}", part.kind, encoded(&part.name));
            let gone = match may_go && is_made_by(&there, run) {
                true => match self.engine.delete(&what, &path).await {
                    Ok(()) => true,
                    Err(e) if e.is(&Refused::NotFound) => true,
                    Err(e) if e.is_retryable() => return Err(e),
                    // Somebody else uses it by now.
                    Err(_) => false,
                },
                false => false,
            };
            if !gone {
                left.push(part.clone());
            }
        }
        Ok(left)
    }

    /// What the engine says of a network or volume, where it is there.
    async fn external_part(&self, part: &StackPart) -> Result<Option<Value>> {
        let (engine, name) = (&self.engine, part.name.as_str());
        if part.kind == VOLUME {
            return engine.volume(name).await;
        }
        let path = format!(
            "/networks?filters={}",
            encoded(&json!({"name": [name]}).to_string())
        );
        let listed = engine
            .patiently(|| async {
                engine.docker().await?;
                engine.get("list the networks", &path).await
            })
            .await?;
        let mut all = listed.as_array().into_iter().flatten();
        let there = all.find(|it| text(it, "/Name").as_deref() == Some(name));
        Ok(there.cloned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_engine() {
        let read = |text: &str| yaml::document(text).unwrap();
        let documents = [
            read(
                "networks: {front: {external: on}, inner: null, own: {name: mine}}\nvolumes: {data: {external: 'true', name: exact}}",
            ),
            read(
                "volumes: {old: {external: {name: legacy}}, data: {external: true, name: later}, no: {external: false}}",
            ),
        ];
        let all = |section: &str| -> Vec<(String, String)> {
            named(&documents, section).into_iter().collect()
        };
        let pair = |key: &str, name: &str| (key.to_owned(), name.to_owned());
        assert_eq!(all("networks"), [pair("front", "front")]);
        assert_eq!(
            all("volumes"),
            [pair("data", "later"), pair("old", "legacy")]
        );
    }
}
