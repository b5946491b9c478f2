//! What backups say of the networks and volumes of a swarm, so that those of which a stack's files say that they
//! are made elsewhere are made as they were.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::contract::StackSource;
use crate::model::{Error, ErrorKind, Finding, Result, RunId};
use crate::platforms::docker::json::text;

/// The networks of a backup, as `docker network inspect` prints them.
pub(super) const NETWORKS: &str = "configs/swarm-network-*.json";
/// Its volumes, as `docker volume inspect` does.
pub(super) const VOLUMES: &str = "configs/swarm-volume-*.json";

/// By this label a run knows what it has made.
pub(super) const MADE_BY: &str = "restore.run";

/// What the swarm chooses for each network, and chooses anew.
const VXLAN: &str = "com.docker.network.driver.overlay.vxlanid_list";

/// What is said of a network or volume as it is just now.
const PASSING: [&str; 8] = [
    "Containers",
    "Services",
    "Peers",
    "Status",
    "Created",
    "CreatedAt",
    "Mountpoint",
    "UsageData",
];

/// What is in the names of options whose values nobody else may read; of names without what separates their words.
const SECRETS: [&str; 12] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "credential",
    "accesskey",
    "accountkey",
    "apikey",
    "encryptionkey",
    "privatekey",
    "sharedkey",
];

/// How the networks of a swarm were made: files of a backup, none for those that an engine makes by itself.
pub(super) fn networks(listed: Vec<Value>) -> Vec<(String, Vec<u8>)> {
    let of_swarm = |network: &Value| {
        text(network, "/Scope").as_deref() == Some("swarm")
            && network.get("Ingress") != Some(&Value::Bool(true))
    };
    files(NETWORKS, listed.into_iter().filter(of_swarm))
}

/// How volumes with a name were made. Not of those whose options hold a secret, nor of those that are the
/// swarm's own: they are made in another way.
pub(super) fn volumes(listed: Vec<Value>) -> Vec<(String, Vec<u8>)> {
    let is_kept = |volume: &Value| {
        let name = text(volume, "/Name").unwrap_or_default();
        let made_up = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        !made_up && volume.get("ClusterVolume").is_none_or(Value::is_null) && !has_secret(volume)
    };
    files(VOLUMES, listed.into_iter().filter(is_kept))
}

fn has_secret(volume: &Value) -> bool {
    let options = volume.get("Options").and_then(Value::as_object);
    let mut options = options.into_iter().flatten();
    options.any(|(key, value)| {
        let value = value.as_str().unwrap_or_default();
        // `o` and the like have several in one.
        let mut inside = value
            .split([',', ';', ' '])
            .filter_map(|it| it.split_once('='));
        is_secret(key, value) || inside.any(|(key, value)| is_secret(key, value))
    })
}

/// Whether an option is one that nobody else may read. What names the file that has a secret is none.
fn is_secret(name: &str, value: &str) -> bool {
    let name: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let names_file = name.ends_with("file") || (name == "credentials" && value.starts_with('/'));
    let says = (name.ends_with("pass") && name != "bypass")
        || ["key", "sas"].contains(&name.as_str())
        || SECRETS.iter().any(|it| name.contains(it));
    // `https://user:password@host`.
    let in_address = value.split_once("://").is_some_and(|(_, rest)| {
        let host = rest.split('/').next().unwrap_or_default();
        host.rsplit_once('@')
            .is_some_and(|(user, _)| user.contains(':'))
    });
    !value.is_empty() && ((says && !names_file) || in_address)
}

fn files(pattern: &str, all: impl Iterator<Item = Value>) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for mut one in all {
        // What is no name of a file is none that a stack's files can name either.
        let name = text(&one, "/Name").filter(|name| is_plain(name));
        let (Some(name), Some(says)) = (name, one.as_object_mut()) else {
            continue;
        };
        says.retain(|key, _| !PASSING.contains(&key.as_str()));
        let described = serde_json::to_vec_pretty(&json!([one])).unwrap_or_default();
        files.push((pattern.replace('*', &name), described));
    }
    files.sort();
    files
}

fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    !name.is_empty() && !name.starts_with('.') && name.chars().all(plain)
}

/// What a backup says of the network or volume of this name, if anything.
pub(super) fn of_backup(source: &StackSource, pattern: &str, name: &str) -> Result<Option<Value>> {
    let path = pattern.replace('*', name);
    let Some(content) = source.files.get(&path) else {
        return Ok(None);
    };
    let unreadable = || {
        Error::new(
            ErrorKind::Verification,
            "swarm.record_unreadable",
            format!("{path} does not describe a network or volume called {name}"),
        )
        .hint("restore another backup, or make it by hand (docker network create, docker volume create) before the restore")
    };
    let read: Value = serde_json::from_slice(content).map_err(|_| unreadable())?;
    // As `docker inspect` prints it, in a list; as the engine answers, alone.
    let one = match read {
        Value::Array(mut all) if all.len() == 1 => all.pop().unwrap_or_default(),
        one => one,
    };
    match text(&one, "/Name").as_deref() == Some(name) {
        true => Ok(Some(one)),
        false => Err(unreadable()),
    }
}

/// What to ask the engine for: a network as a backup describes it, else a plain one. Its subnets are left to the
/// swarm where other networks have `taken` one of them.
pub(super) fn network(
    name: &str,
    described: Option<&Value>,
    taken: &[String],
    run: &RunId,
) -> Value {
    let of = |key: &str| described.and_then(|it| it.get(key));
    let driver = of("Driver").and_then(Value::as_str);
    let driver = driver.filter(|it| !it.is_empty()).unwrap_or("overlay");
    let mut spec = Map::new();
    spec.insert("Name".to_owned(), json!(name));
    spec.insert("CheckDuplicate".to_owned(), json!(true));
    spec.insert("Driver".to_owned(), json!(driver));
    spec.insert("Labels".to_owned(), labels(described, run));
    if driver != "overlay" {
        spec.insert("Scope".to_owned(), json!("swarm"));
    }
    for key in ["Attachable", "Internal", "EnableIPv6"] {
        if of(key) == Some(&Value::Bool(true)) {
            spec.insert(key.to_owned(), json!(true));
        }
    }
    let mut options = object(of("Options"));
    options.retain(|key, _| key != VXLAN);
    if !options.is_empty() {
        spec.insert("Options".to_owned(), Value::Object(options));
    }
    let from = object(of("ConfigFrom"));
    if from.get("Network").is_some_and(|it| *it != json!("")) {
        spec.insert("ConfigFrom".to_owned(), Value::Object(from));
    }
    let mut ipam = object(of("IPAM"));
    let config = ipam.remove("Config");
    ipam.retain(|_, value| says_something(value));
    let is_free = described.is_some_and(|it| taken_of(it, taken).is_none());
    if let Some(Value::Array(all)) = config.filter(|_| is_free) {
        let filled = |it: &Value| {
            let mut it = object(Some(it));
            it.retain(|_, value| says_something(value));
            Value::Object(it)
        };
        let all: Vec<Value> = all.iter().map(filled).filter(says_something).collect();
        if !all.is_empty() {
            ipam.insert("Config".to_owned(), Value::Array(all));
        }
    }
    if !ipam.is_empty() {
        spec.insert("IPAM".to_owned(), Value::Object(ipam));
    }
    Value::Object(spec)
}

/// The same of a volume.
pub(super) fn volume(name: &str, described: Option<&Value>, run: &RunId) -> Value {
    let of = |key: &str| described.and_then(|it| it.get(key));
    let mut spec = Map::new();
    spec.insert("Name".to_owned(), json!(name));
    spec.insert("Labels".to_owned(), labels(described, run));
    if let Some(driver) = of("Driver").filter(|it| says_something(it)) {
        spec.insert("Driver".to_owned(), driver.clone());
    }
    let options = object(of("Options"));
    if !options.is_empty() {
        spec.insert("DriverOpts".to_owned(), Value::Object(options));
    }
    Value::Object(spec)
}

/// The entries of an object that say something; nothing of what is none.
fn object(value: Option<&Value>) -> Map<String, Value> {
    let all = value.and_then(Value::as_object).cloned();
    let all = all.unwrap_or_default().into_iter();
    all.filter(|(_, value)| !value.is_null() && *value != json!({}))
        .collect()
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
        _ => true,
    }
}

/// The labels that it had, and which run has made it now.
fn labels(described: Option<&Value>, run: &RunId) -> Value {
    let mut labels = object(described.and_then(|it| it.get("Labels")));
    labels.insert(MADE_BY.to_owned(), json!(run.as_str()));
    Value::Object(labels)
}

/// The subnets of the networks of a swarm.
pub(super) fn subnets(networks: &[Value]) -> Vec<String> {
    let of_swarm = |network: &&Value| text(network, "/Scope").as_deref() == Some("swarm");
    networks
        .iter()
        .filter(of_swarm)
        .flat_map(subnets_of)
        .collect()
}

fn subnets_of(network: &Value) -> Vec<String> {
    let all = network.pointer("/IPAM/Config").and_then(Value::as_array);
    let all = all.into_iter().flatten();
    all.filter_map(|it| text(it, "/Subnet")).collect()
}

/// The first of the subnets of a network that shares addresses with one of these.
pub(super) fn taken_of(network: &Value, taken: &[String]) -> Option<String> {
    let mut own = subnets_of(network).into_iter();
    own.find(|own| taken.iter().any(|other| overlap(own, other)))
}

/// Whether two subnets, `10.0.1.0/24`, have addresses in common.
fn overlap(one: &str, other: &str) -> bool {
    let (Some(one), Some(other)) = (bits(one), bits(other)) else {
        return false;
    };
    let ((family, one, long), (other_family, other, other_long)) = (one, other);
    let same = long.min(other_long);
    let differ = (one ^ other).checked_shr(128 - same).unwrap_or(0);
    family == other_family && differ == 0
}

/// Whether a subnet is one of IPv4, its address from the highest bit down, and how many bits of that count.
fn bits(subnet: &str) -> Option<(bool, u128, u32)> {
    let (address, long) = subnet.split_once('/')?;
    let long: u32 = long.parse().ok()?;
    let address: IpAddr = address.parse().ok()?;
    match address {
        IpAddr::V4(address) => (long <= 32).then(|| {
            let bits = u128::from(u32::from(address)) << 96;
            (true, bits, long)
        }),
        IpAddr::V6(address) => (long <= 128).then(|| (false, u128::from(address), long)),
    }
}

/// What is made as it may not have been, each told once for all: `plain`, as nothing tells how it was, and networks
/// whose subnet is `taken`.
pub(super) fn findings(stack: &str, plain: &[String], taken: &[(String, String)]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !plain.is_empty() {
        findings.push(
            Finding::warning(
                "swarm.made_plain",
                stack,
                format!(
                    "the backup does not say how these were made, and they are made plain, a network as an overlay that is neither attachable nor encrypted, with a subnet that the swarm chooses, a volume as an empty one of this node: {}",
                    plain.join(", ")
                ),
            )
            .hint("make those that had options by hand before the restore: `docker network create`, `docker volume create`; backups that `restore backup` makes have them as configs/swarm-network-NAME.json and configs/swarm-volume-NAME.json"),
        );
    }
    for (network, subnet) in taken {
        findings.push(
            Finding::info(
                "swarm.subnet_taken",
                stack,
                format!("the network {network} had the addresses {subnet}, which another network of the swarm has by now: it is made with others, that the swarm chooses"),
            )
            .hint("where its addresses matter, make room for them before the restore"),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network_of_front() -> Value {
        json!({
            "Name": "front", "Id": "x", "Created": "2024", "Scope": "swarm", "Driver": "overlay", "EnableIPv6": false,
            "IPAM": {"Driver": "default", "Options": null, "Config": [
                {"Subnet": "10.99.0.0/24", "Gateway": "10.99.0.1", "AuxiliaryAddresses": {}}]},
            "Internal": false, "Attachable": true, "Ingress": false, "ConfigFrom": {"Network": ""}, "ConfigOnly": false,
            "Containers": {"c": {"Name": "web"}}, "Options": {"encrypted": "", VXLAN: "4097"},
            "Labels": {"kept": "yes", MADE_BY: "an earlier run"},
        })
    }

    fn source(files: Vec<(String, Vec<u8>)>) -> StackSource {
        let mut source = StackSource::new(RunId::generate(), "/opt/stacks");
        source.files = files.into_iter().collect();
        source
    }

    #[test]
    fn a_network_is_made_as_it_was() {
        let ingress = json!({"Name": "ingress", "Scope": "swarm", "Ingress": true});
        let bridge = json!({"Name": "bridge", "Scope": "local"});
        let files = networks(vec![ingress, network_of_front(), bridge]);
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].0, "configs/swarm-network-front.json");
        let source = source(files);
        let kept = of_backup(&source, NETWORKS, "front").unwrap().unwrap();
        assert_eq!(kept.get("Containers"), None);
        let run = &source.run;
        let mut wanted = json!({
            "Name": "front", "CheckDuplicate": true, "Driver": "overlay", "Attachable": true,
            "Labels": {"kept": "yes", MADE_BY: run.as_str()}, "Options": {"encrypted": ""},
            "IPAM": {"Driver": "default", "Config": [{"Subnet": "10.99.0.0/24", "Gateway": "10.99.0.1"}]},
        });
        assert_eq!(network("front", Some(&kept), &[], run), wanted);
        let others =
            subnets(&[json!({"Scope": "swarm", "IPAM": {"Config": [{"Subnet": "10.0.0.0/8"}]}})]);
        assert_eq!(taken_of(&kept, &others).as_deref(), Some("10.99.0.0/24"));
        wanted["IPAM"] = json!({"Driver": "default"});
        assert_eq!(network("front", Some(&kept), &others, run), wanted);
        let plain = json!({
            "Name": "front", "CheckDuplicate": true, "Driver": "overlay", "Labels": {MADE_BY: run.as_str()},
        });
        assert_eq!(network("front", None, &[], run), plain);
        assert_eq!(of_backup(&source, NETWORKS, "back").unwrap(), None);
    }

    #[test]
    fn a_volume_is_made_as_it_was() {
        let bound = json!({
            "Name": "shared", "Driver": "local", "Mountpoint": "/v/_data", "Scope": "local", "CreatedAt": "2024",
            "Options": {"type": "none", "o": "bind", "device": "/srv/x"}, "Labels": {"kept": "yes"},
        });
        let secret = json!({
            "Name": "share", "Driver": "local", "Options": {"type": "cifs", "o": "username=u,Password=p"},
        });
        let nameless = json!({"Name": "0a".repeat(32), "Driver": "local"});
        let files = volumes(vec![bound, secret, nameless]);
        assert_eq!(files.len(), 1);
        let source = source(files);
        let kept = of_backup(&source, VOLUMES, "shared").unwrap().unwrap();
        let run = &source.run;
        let wanted = json!({
            "Name": "shared", "Driver": "local", "Labels": {"kept": "yes", MADE_BY: run.as_str()},
            "DriverOpts": {"type": "none", "o": "bind", "device": "/srv/x"},
        });
        assert_eq!(volume("shared", Some(&kept), run), wanted);
        let plain = json!({"Name": "shared", "Labels": {MADE_BY: run.as_str()}});
        assert_eq!(volume("shared", None, run), plain);
    }

    #[test]
    fn options_with_secrets_are_in_no_backup() {
        for (key, value, secret) in [
            ("o", "username=u,Password=p", true),
            ("o", "name=admin,secret=AQBx==,noatime", true),
            ("o", "name=admin,secretfile=/etc/ceph/key,noatime", false),
            ("o", "credentials=/root/.smb,uid=1000", false),
            ("o", "addr=10.0.0.1,rw,nfsvers=4,sec=krb5,nolock", false),
            ("s3_secret_access_key", "x", true),
            ("token", "x", true),
            ("token", "", false),
            ("api-key", "x", true),
            ("sftp_pass", "x", true),
            ("cmd", "-o key=x", true),
            ("device", "https://u:p@host/share", true),
            ("device", "https://u@host/a:b@c", false),
            ("device", ":/exports/keys", false),
            ("keyring", "ceph", false),
        ] {
            let volume = json!({"Name": "v", "Driver": "local", "Options": {key: value}});
            assert_eq!(volumes(vec![volume]).is_empty(), secret, "{key}={value}");
        }
    }

    #[test]
    fn what_describes_another_thing_is_not_believed() {
        let path = VOLUMES.replace('*', "shared");
        for content in [
            "{",
            "[]",
            r#"[{"Name": "other"}]"#,
            r#"{"Driver": "local"}"#,
        ] {
            let source = source(vec![(path.clone(), content.as_bytes().to_vec())]);
            let error = of_backup(&source, VOLUMES, "shared").unwrap_err();
            assert_eq!(error.code(), "swarm.record_unreadable", "{content}");
        }
    }

    #[test]
    fn subnets_overlap_by_the_shorter_of_their_prefixes() {
        for (one, other, shared) in [
            ("10.0.1.0/24", "10.0.1.0/24", true),
            ("10.0.1.0/24", "10.0.0.0/16", true),
            ("10.0.0.0/16", "10.0.255.0/24", true),
            ("10.0.1.0/24", "10.0.2.0/24", false),
            ("0.0.0.0/0", "10.0.2.0/24", true),
            ("10.0.1.1/32", "10.0.1.1/32", true),
            ("fd00::/64", "fd00::/48", true),
            ("fd00::/64", "fd00:0:0:1::/64", false),
            ("::/0", "10.0.0.0/8", false),
            ("10.0.0.0/33", "10.0.0.0/8", false),
            ("10.0.0.0", "10.0.0.0/8", false),
        ] {
            assert_eq!(overlap(one, other), shared, "{one} {other}");
            assert_eq!(overlap(other, one), shared, "{other} {one}");
        }
    }
}
