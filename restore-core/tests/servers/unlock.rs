//! An encrypted backup that comes from another host.

use std::sync::{Arc, Mutex};

use restore_core::{Event, FetchOptions, Site};
use restore_testing::locked::*;
use restore_testing::processes;
use restore_testing::remote::*;
use restore_testing::sshd::{Sshd, Wire};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn over_a_wire_that_is_cut_it_goes_on_and_the_passphrase_is_nowhere_to_be_seen() {
    let locked = Locked::new();
    locked.encrypt();
    let sshd = Sshd::start();
    let wire = Wire::to(sshd.port);
    let site = json!({
        "site": {"name": "x", "state": "state"},
        "stores": {
            "plain": {"kind": "directory", "path": "plain", "unlocked": true},
            "nas": {
                "kind": "ssh", "host": "nas", "config": sshd.good_client(wire.port),
                "path": locked.path("main"), "passphrase_file": "pass", "gnupg_home": "gnupg",
            },
        },
        "components": {},
    });
    let config = restore_core::config::SiteConfig::from_value(site).unwrap();
    let registry = restore_core::component::Registry::default();
    let site = Site::from_config(config, locked.dir.path(), &registry).unwrap();
    site.stores()[1].1.list().await.unwrap();
    wire.cut_after(8_000_000, false);
    let seen = Arc::new(Mutex::new(String::new()));
    let sink = seen.clone();
    let options = FetchOptions::new().events(Arc::new(move |event: &Event| {
        let mut seen = sink.lock().unwrap();
        if matches!(event, Event::Progress { .. }) && !seen.contains("--passphrase-fd 0") {
            seen.push_str(&processes());
        }
        seen.push_str(&format!("{event:?}\n"));
    }));
    let report = site.fetch(ID, options).await.unwrap();
    locked.assert_unpacked();
    let seen = seen.lock().unwrap().clone();
    assert!(seen.contains("fetch.again"), "the wire was not cut");
    assert!(
        seen.contains("--passphrase-fd 0"),
        "gpg was not seen at work"
    );
    for secret in ["correct horse", "battery-staple"] {
        assert!(!seen.contains(secret) && !format!("{report:?}").contains(secret));
    }
    // Nor in an error: all that it could be in.
    std::fs::write(locked.path("pass"), "battery-staple of another\n").unwrap();
    std::fs::remove_dir_all(locked.path("plain").join(ID)).unwrap();
    let error = site.fetch(ID, FetchOptions::new()).await.unwrap_err();
    assert_eq!(error.code(), "unlock.wrong_passphrase");
    assert!(!format!("{error:?}").contains("battery"));
}
