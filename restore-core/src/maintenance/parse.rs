//! What `nginx -T` says: which file is read where, and which servers there are.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::servers::{Server, server};
use super::tokens;
use super::tokens::{ConfigFile, Directive};
use crate::model::FILE_NAME;

/// Stands for the place at which our file is, or would be, read.
const HERE: &str = "\0here";

/// Includes nested deeper than this go round in circles.
const DEEPEST: usize = 16;

/// An nginx's configuration, as far as maintenance mode needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// The servers of all `http` blocks in the order in which nginx reads them, ours left out.
    pub(crate) servers: Vec<Server>,
    /// How many of them come before the place at which our file is read; `None` where nginx
    /// does not read our directory inside `http`.
    pub(crate) before_ours: Option<usize>,
    /// Where `stream` servers listen: a page cannot turn their users away.
    pub(crate) streams: Vec<String>,
}

impl Config {
    /// Reads the output of `nginx -T`. `conf_dir` is our directory as nginx names it.
    pub(crate) fn parse(dump: &str, conf_dir: &Path) -> Self {
        let files = tokens::files(dump);
        let mut config = Self::default();
        let Some(main) = files.first() else {
            return config;
        };
        let prefix = Path::new(&main.path).parent().unwrap_or(Path::new("/"));
        let reader = Includes {
            files: &files,
            prefix,
            ours: conf_dir.join(FILE_NAME),
            real_dir: conf_dir.canonicalize().ok(),
        };
        let tree = reader.expand(tokens::directives(&main.text), 0);
        for directive in &tree {
            match (directive.name.as_str(), &directive.block) {
                ("http", Some(block)) => config.read_http(block),
                ("stream", Some(block)) => config.streams.extend(
                    block
                        .iter()
                        .filter(|inner| inner.name == "server")
                        .flat_map(|inner| inner.block.iter().flatten())
                        .filter(|inner| inner.name == "listen")
                        .filter_map(|listen| listen.args.first().cloned()),
                ),
                _ => {}
            }
        }
        config
    }

    fn read_http(&mut self, block: &[Directive]) {
        for directive in block {
            match (directive.name.as_str(), &directive.block) {
                (HERE, _) => {
                    self.before_ours.get_or_insert(self.servers.len());
                }
                ("server", Some(block)) => self.servers.push(server(block)),
                _ => {}
            }
        }
    }
}

/// Puts included files where they are included.
struct Includes<'a> {
    files: &'a [ConfigFile],
    prefix: &'a Path,
    /// Our file, whether it is there or not.
    ours: PathBuf,
    /// Our directory without symbolic links, where it can be seen from here.
    real_dir: Option<PathBuf>,
}

impl Includes<'_> {
    fn expand(&self, directives: Vec<Directive>, depth: usize) -> Vec<Directive> {
        let mut found = Vec::new();
        for mut directive in directives {
            if directive.name == "include" && directive.block.is_none() {
                if let (Some(pattern), true) = (directive.args.first(), depth < DEEPEST) {
                    found.extend(self.included(pattern, depth));
                }
                continue;
            }
            directive.block = directive.block.map(|block| self.expand(block, depth));
            found.push(directive);
        }
        found
    }

    fn included(&self, pattern: &str, depth: usize) -> Vec<Directive> {
        let full = self.prefix.join(pattern);
        let full = full.to_string_lossy();
        let mut here: Option<PathBuf> = None;
        if self.matches_ours(&full) {
            // Under the name that sorts it among its neighbours.
            let dir = Path::new(&*full).parent().unwrap_or(Path::new("/"));
            here = Some(dir.join(FILE_NAME));
        }
        let mut paths: Vec<(PathBuf, Option<&ConfigFile>)> = self
            .files
            .iter()
            .filter(|file| matches(&full, &file.path))
            .map(|file| (PathBuf::from(&file.path), Some(file)))
            .filter(|(path, _)| !path.ends_with(FILE_NAME))
            .collect();
        paths.extend(here.map(|path| (path, None)));
        // As glob(3) does in the C locale: by bytes.
        paths.sort_by(|a, b| a.0.as_os_str().cmp(b.0.as_os_str()));
        paths
            .into_iter()
            .flat_map(|(_, file)| match file {
                Some(file) => self.expand(tokens::directives(&file.text), depth + 1),
                None => vec![Directive {
                    name: HERE.to_owned(),
                    args: Vec::new(),
                    block: None,
                }],
            })
            .collect()
    }

    /// Whether a pattern takes our file in: by name, or because its directory is ours under
    /// another name.
    fn matches_ours(&self, pattern: &str) -> bool {
        if matches(pattern, &self.ours.to_string_lossy()) {
            return true;
        }
        let path = Path::new(pattern);
        let (Some(dir), Some(name), Some(real)) = (path.parent(), path.file_name(), &self.real_dir)
        else {
            return false;
        };
        matches(&name.to_string_lossy(), FILE_NAME)
            && dir.canonicalize().is_ok_and(|dir| dir == *real)
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    pattern == path
        || Pattern::new(pattern).is_ok_and(|pattern| pattern.matches_with(path, options))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dump: &str) -> Config {
        Config::parse(dump, Path::new("/etc/nginx/conf.d"))
    }

    const MAIN: &str = "# configuration file /etc/nginx/nginx.conf:\n";

    #[test]
    fn order_is_that_of_the_includes() {
        let dump = format!(
            "{MAIN}http {{ include mime.types; include conf.d/*.conf; \
             include /etc/nginx/sites-enabled/*; }} stream {{ server {{ listen 5432; }} }}\n\
             # configuration file /etc/nginx/sites-enabled/x:\nserver {{ server_name x; }}\n\
             # configuration file /etc/nginx/conf.d/b.conf:\nserver {{ server_name b; }}\n\
             # configuration file /etc/nginx/conf.d/00-a.conf:\nserver {{ server_name a; }}\n\
             # configuration file /etc/nginx/conf.d/00-restore-maintenance.conf:\n\
             server {{ server_name ours; }}\n"
        );
        let config = config(&dump);
        let names: Vec<&str> = config.servers.iter().map(|s| s.names[0].as_str()).collect();
        assert_eq!(names, ["a", "b", "x"]);
        assert_eq!(config.before_ours, Some(1));
        assert_eq!(config.streams, ["5432"]);
    }

    #[test]
    fn a_directory_that_is_not_read_inside_http_is_none_of_ours() {
        for http in ["", "include other.d/*.conf;", "include conf.d/*.inc;"] {
            let dump = format!("{MAIN}http {{ {http} server {{ listen 80; }} }}");
            assert_eq!(config(&dump).before_ours, None, "{http}");
        }
        let dump = format!("{MAIN}stream {{ include conf.d/*.conf; }} http {{ }}");
        assert_eq!(config(&dump).before_ours, None);
    }

    #[test]
    fn a_directory_under_another_name_is_ours() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("real")).unwrap();
        std::os::unix::fs::symlink("real", dir.path().join("conf.d")).unwrap();
        let dump = format!(
            "# configuration file {}/nginx.conf:\nhttp {{ include conf.d/*.conf; }}",
            dir.path().display()
        );
        let config = Config::parse(&dump, &dir.path().join("real"));
        assert_eq!(config.before_ours, Some(0));
    }

    #[test]
    fn files_that_include_each_other_come_to_an_end() {
        let dump = format!(
            "{MAIN}http {{ include a; }}\n# configuration file /etc/nginx/a:\ninclude a;\nserver {{ }}\n"
        );
        assert_eq!(config(&dump).servers.len(), DEEPEST);
    }
}
