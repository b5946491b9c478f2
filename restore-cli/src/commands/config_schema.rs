//! `restore config schema`.

use restore_core::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::printer::Answer;

/// The JSON Schema of restore.toml.
pub(super) const SCHEMA: &str = include_str!("../../../docs/restore.schema.json");

/// Prints it.
pub(super) fn config_schema() -> Result<Answer> {
    let schema: Value = serde_json::from_str(SCHEMA).map_err(|e| {
        Error::new(
            ErrorKind::Internal,
            "cli.schema",
            format!("the schema is no JSON: {e}"),
        )
    })?;
    Answer::new("schema", &schema, SCHEMA.to_owned())
}
