//! Throwaway containers that are as those of a service.

use serde_json::json;

use super::snapshot::ServiceSnapshot;
use crate::platforms::docker::json::text;
use crate::platforms::docker::throwaway::{Recipe, mounts_of};
use crate::sys::process::command::Command;

impl<'a> Recipe<'a> {
    /// A container as those of the service are; `user` instead of the service's own.
    pub(super) fn of(
        site: &'a str,
        view: &ServiceSnapshot,
        command: &'a Command,
        user: Option<String>,
    ) -> Self {
        let spec = "/TaskTemplate/ContainerSpec";
        let mounts = view.spec.pointer(&format!("{spec}/Mounts"));
        Self {
            site,
            of: format!("the service {}", view.name),
            image: view.image(),
            mounts: mounts_of(mounts.cloned().unwrap_or_else(|| json!([]))),
            user: user.or_else(|| text(&view.spec, &format!("{spec}/User"))),
            dir: text(&view.spec, &format!("{spec}/Dir")),
            command,
            program: None,
        }
    }
}
