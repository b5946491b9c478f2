//! The kinds of components that this library has.

use std::sync::Arc;

use super::crontab::Crontab;
use super::files::Files;
use super::image::ImageComponent;
use super::postgres::{Cluster, Postgres};
use super::redis::Redis;
use super::volume::VolumeComponent;
use crate::contract::{ComponentDeps, ComponentFactory, Registry, SharedComponent, Table};
use crate::model::Result;

impl Default for Registry {
    /// The kinds of this library: `postgres`, `postgres_cluster`, `redis`, `volume`, `files`,
    /// `crontab`, `image`.
    fn default() -> Self {
        fn of(
            make: fn(&str, Table, &ComponentDeps) -> Result<SharedComponent>,
        ) -> ComponentFactory {
            Arc::new(make)
        }
        Self::empty()
            .with("postgres", of(Postgres::from_table))
            .with("postgres_cluster", of(Cluster::from_table))
            .with("redis", of(Redis::from_table))
            .with("volume", of(VolumeComponent::from_table))
            .with("files", of(Files::from_table))
            .with("crontab", of(Crontab::from_table))
            .with("image", of(ImageComponent::from_table))
    }
}
