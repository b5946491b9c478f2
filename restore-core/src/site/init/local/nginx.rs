//! What an nginx that runs says of its configuration.

use std::path::{Path, PathBuf};

use super::super::FoundProcess;

/// How an nginx was started, and what its configuration names.
pub(in super::super) struct Nginx {
    program: PathBuf,
    prefix: Option<PathBuf>,
    pub(in super::super) config: PathBuf,
    named: Option<String>,
    text: String,
}

impl Nginx {
    pub(in super::super) fn of(it: &FoundProcess) -> Self {
        let title = it.words.join(" ");
        let line = title
            .split_once("master process ")
            .map_or(title.as_str(), |it| it.1);
        let words: Vec<&str> = line.split(' ').collect();
        let option = |name: &str| {
            let at = words.iter().position(|word| *word == name)?;
            words.get(at + 1).map(|it| (*it).to_owned())
        };
        let prefix = option("-p").map(|prefix| it.directory.join(prefix));
        let named = option("-c");
        let base = prefix
            .clone()
            .unwrap_or_else(|| PathBuf::from("/etc/nginx"));
        let config = base.join(named.as_deref().unwrap_or("nginx.conf"));
        Self {
            program: it.program.clone(),
            config: config.components().collect(),
            prefix,
            named,
            text: it
                .config
                .as_ref()
                .map(|it| it.text.clone())
                .unwrap_or_default(),
        }
    }

    /// What decides what it does once it is called: its configuration, and the folder that its paths are
    /// relative to.
    pub(in super::super) fn obeys(&self) -> impl Iterator<Item = &Path> {
        let prefix = self.prefix.as_deref();
        std::iter::once(self.config.as_path()).chain(prefix)
    }

    /// The words that call it with its configuration.
    pub(super) fn call(&self, last: &[&str]) -> Vec<String> {
        let mut words = vec![self.program.to_string_lossy().into_owned()];
        if let Some(prefix) = &self.prefix {
            words.extend(["-p".to_owned(), prefix.to_string_lossy().into_owned()]);
        }
        if let Some(named) = &self.named {
            words.extend(["-c".to_owned(), named.clone()]);
        }
        words.extend(last.iter().map(|it| (*it).to_owned()));
        words
    }

    pub(super) fn directive(&self, name: &str) -> Option<&str> {
        self.text.lines().find_map(|line| {
            let rest = line.trim().strip_prefix(name)?;
            rest.starts_with(char::is_whitespace)
                .then(|| rest.trim().trim_end_matches(';').split_whitespace().next())?
        })
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        let base = self
            .prefix
            .clone()
            .unwrap_or_else(|| PathBuf::from("/usr/share/nginx"));
        base.join(name).components().collect()
    }

    /// The folder that its `http` block includes whole.
    pub(super) fn conf_dir(&self) -> Option<PathBuf> {
        let home = self.config.parent()?;
        let lines = self.text.lines().map(str::trim);
        let mut inside = lines.skip_while(|line| !line.starts_with("http"));
        inside.find_map(|line| {
            let rest = line.strip_prefix("include ")?.trim();
            let folder = rest.trim_end_matches(';').trim().strip_suffix("/*.conf")?;
            Some(home.join(folder).components().collect())
        })
    }

    pub(super) fn pid_file(&self) -> PathBuf {
        match self.directive("pid") {
            Some(pid) => self.path(pid),
            None => PathBuf::from("/run/nginx.pid"),
        }
    }

    /// Where its logs and its cache are.
    pub(in super::super) fn directories(&self) -> Vec<PathBuf> {
        let file = |name| Some(self.path(self.directive(name)?).parent()?.to_owned());
        let cache = self
            .directive("proxy_cache_path")
            .map(|path| self.path(path));
        // nginx deletes files below a cache's path that it does not know: a volume is the folder around it.
        let cache = cache.and_then(|path| {
            let parent = path.parent()?.to_owned();
            let named = parent.file_name()?.to_string_lossy().contains("cache");
            Some(if named { parent } else { path })
        });
        let mut all: Vec<PathBuf> = [file("error_log"), file("access_log"), cache]
            .into_iter()
            .flatten()
            .collect();
        all.dedup();
        all
    }
}
