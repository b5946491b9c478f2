//! Which configuration a call means.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use restore_core::{Error, ErrorKind, Result};

/// The variable that names the configuration.
const VARIABLE: &str = "RESTORE_CONFIG";
/// Where it is looked for when nothing names it.
const PLACES: [&str; 2] = ["./restore.toml", "/etc/restore/restore.toml"];

/// The configuration: `--config`, else the environment's, else the first of the usual places.
pub(crate) fn find(option: Option<&Path>) -> Result<PathBuf> {
    let path = choose(
        option,
        std::env::var_os(VARIABLE),
        &PLACES.map(PathBuf::from),
    )?;
    // Messages name it in full, and its directory is where relative paths begin.
    std::path::absolute(&path).map_err(|e| Error::io(format!("find {}", path.display()), e))
}

fn choose(
    option: Option<&Path>,
    variable: Option<OsString>,
    places: &[PathBuf],
) -> Result<PathBuf> {
    if let Some(path) = option {
        return Ok(path.to_owned());
    }
    if let Some(path) = variable.filter(|path| !path.is_empty()) {
        return Ok(path.into());
    }
    if let Some(path) = places.iter().find(|path| path.exists()) {
        return Ok(path.clone());
    }
    let tried: Vec<String> = places
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    Err(Error::new(
        ErrorKind::Config,
        "cli.no_config",
        format!(
            "no configuration: {VARIABLE} is not set, and there is no {}",
            tried.join(" and no ")
        ),
    )
    .hint(format!("name it with --config FILE or in {VARIABLE}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_wins() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        std::fs::write(&two, "").unwrap();
        let places = [one, two.clone()];
        let named = Path::new("named");
        let variable = Some(OsString::from("variable"));
        assert_eq!(
            choose(Some(named), variable.clone(), &places).unwrap(),
            named
        );
        assert_eq!(
            choose(None, variable, &places).unwrap(),
            Path::new("variable")
        );
        assert_eq!(choose(None, Some(OsString::new()), &places).unwrap(), two);
        assert_eq!(choose(None, None, &places).unwrap(), two);
        let error = choose(None, None, &places[..1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("one"), "{error}");
    }
}
