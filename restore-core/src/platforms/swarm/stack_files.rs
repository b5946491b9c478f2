//! What the compose files of a stack name besides what its services run: networks, volumes, configs and
//! secrets, and which of them are made elsewhere.
//!
//! What they mean is for `docker stack deploy` to say, which reads them when it makes the stack. Read here is only
//! what has to be known before: names.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde_json::Value;

use crate::model::{Error, ErrorKind, Result};
use crate::platforms::docker::yaml;

/// A network, volume, config or secret of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// What the engine calls it.
    pub(super) name: String,
    /// It is made elsewhere.
    pub(super) external: bool,
    /// The file of this host that it is made from.
    pub(super) file: Option<PathBuf>,
}

/// All of it, of all files of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StackFiles {
    pub(super) services: Vec<String>,
    pub(super) networks: Vec<Named>,
    pub(super) volumes: Vec<Named>,
    pub(super) configs: Vec<Named>,
    pub(super) secrets: Vec<Named>,
    /// Names that hold variables, which only the deployment can fill in.
    pub(super) unknown: Vec<String>,
}

impl StackFiles {
    /// Reads the files of a stack; what a later one says of a name holds.
    pub(super) fn read(stack: &str, files: &[(PathBuf, String)]) -> Result<Self> {
        let mut documents = Vec::new();
        for (path, content) in files {
            let document = yaml::document(content).map_err(|why| {
                Error::new(
                    ErrorKind::Preflight,
                    "swarm.compose_unreadable",
                    format!("{} cannot be read as a compose file: {why}", path.display()),
                )
                .hint("correct `compose` of the component, or restore another backup; redeploy = false restores the files alone")
            })?;
            documents.push((path.as_path(), document));
        }
        let mut found = Self::default();
        let mut default_network = false;
        for (_, document) in &documents {
            for (key, service) in entries(document, "services") {
                let name = format!("{stack}_{key}");
                if !found.services.contains(&name) {
                    found.services.push(name);
                }
                default_network |= matches!(service.get("networks"), None | Some(Value::Null));
            }
        }
        let mut unknown = Vec::new();
        let mut all = |section: &str| {
            let mut of_section: BTreeMap<String, Named> = BTreeMap::new();
            for (path, document) in &documents {
                for (key, described) in entries(document, section) {
                    match named(stack, key, described, path) {
                        Some(named) => drop(of_section.insert(key.clone(), named)),
                        None => unknown.push(format!("{section}: {key}")),
                    }
                }
            }
            of_section
        };
        let mut networks = all("networks");
        if default_network && !networks.contains_key("default") {
            let named = Named {
                name: format!("{stack}_default"),
                external: false,
                file: None,
            };
            networks.insert("default".to_owned(), named);
        }
        found.networks = networks.into_values().collect();
        found.volumes = all("volumes").into_values().collect();
        found.configs = all("configs").into_values().collect();
        found.secrets = all("secrets").into_values().collect();
        found.unknown = unknown;
        Ok(found)
    }
}

fn entries<'a>(
    document: &'a Value,
    section: &str,
) -> impl Iterator<Item = (&'a String, &'a Value)> {
    let section = document.get(section).and_then(Value::as_object);
    section.into_iter().flatten()
}

/// What the engine calls it; `None` where that holds a variable.
fn named(stack: &str, key: &str, described: &Value, of: &Path) -> Option<Named> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let external = described.get("external");
    let is_external = external.is_some_and(|it| it.is_object() || yaml::is_true(it));
    let given = text(external.and_then(|it| it.get("name"))).or(text(described.get("name")));
    let name = match (given, is_external) {
        (Some(name), _) => name,
        (None, true) => key.to_owned(),
        (None, false) => format!("{stack}_{key}"),
    };
    let file = text(described.get("file")).filter(|_| !is_external);
    if name.contains('$') || file.as_deref().is_some_and(|file| file.contains('$')) {
        return None;
    }
    // A path is one of the directory of the file that names it.
    let file = file.map(|file| plain(&of.parent().unwrap_or(Path::new("/")).join(file)));
    Some(Named {
        name,
        external: is_external,
        file,
    })
}

/// A path without `.` and `..`, by its words alone: the directories that it leads through may not be there yet.
pub(super) fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if plain.file_name().is_some() => {
                plain.pop();
            }
            // Above the root there is the root.
            Component::ParentDir if plain.has_root() => {}
            part => plain.push(part),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<StackFiles> {
        StackFiles::read("shop", &[("/opt/shop/stack.yml".into(), text.to_owned())])
    }

    fn names(named: &[Named]) -> Vec<(&str, bool)> {
        let named = named.iter();
        named.map(|it| (it.name.as_str(), it.external)).collect()
    }

    #[test]
    fn names_are_those_that_the_engine_will_know() {
        let found = read(
            r#"
version: "3.8"
x-outside: &outside {external: true}
services:
  web: &web
    image: web
    networks: [front]
  worker: {<<: *web}
  alone: {image: x}
networks:
  front: *outside
  back:
    driver: overlay
  old: {external: {name: legacy}}
volumes:
  data:
  shared: {external: true, name: shared_data}
  own: {name: exact}
  of_variable: {name: "${PREFIX}_data"}
configs:
  site.conf: {file: ./site.conf}
  tls.conf: {external: yes}
secrets:
  db.pass: {file: ../secrets/db.pass}
  tls.key:
    external: true
    name: tls.key.v2
"#,
        )
        .unwrap();
        assert_eq!(found.services, ["shop_web", "shop_worker", "shop_alone"]);
        assert_eq!(
            names(&found.networks),
            [
                ("shop_back", false),
                ("shop_default", false),
                ("front", true),
                ("legacy", true)
            ]
        );
        assert_eq!(
            names(&found.volumes),
            [
                ("shop_data", false),
                ("exact", false),
                ("shared_data", true)
            ]
        );
        assert_eq!(
            names(&found.configs),
            [("shop_site.conf", false), ("tls.conf", true)]
        );
        assert_eq!(
            names(&found.secrets),
            [("shop_db.pass", false), ("tls.key.v2", true)]
        );
        let file = found.secrets[0].file.as_deref();
        assert_eq!(file, Some(Path::new("/opt/secrets/db.pass")));
        assert_eq!(found.unknown, ["volumes: of_variable"]);
    }

    #[test]
    fn paths_are_made_plain() {
        for (path, is) in [
            ("/opt/shop/./x/../y", "/opt/shop/y"),
            ("/opt/shop/../../../x", "/x"),
            ("../a/../../b", "../../b"),
            ("a/..", ""),
        ] {
            assert_eq!(plain(Path::new(path)), PathBuf::from(is), "{path}");
        }
    }

    #[test]
    fn what_is_no_compose_file_is_an_error() {
        for text in ["a: [", "services: {a: *nothing}"] {
            let error = read(text).unwrap_err();
            assert_eq!(error.code(), "swarm.compose_unreadable", "{text}");
        }
        assert_eq!(read("").unwrap(), StackFiles::default());
        assert_eq!(read("- a\n- b").unwrap(), StackFiles::default());
    }
}
