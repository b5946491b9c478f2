//! The commands of the tutorial and of the how-to pages, typed on a platform in the order in which they stand
//! there.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use restore_testing::pages;

use super::support::{Ran, Whole};

pub const TUTORIAL: &str = "docs/tutorial.md";
pub const DISASTER: &str = "docs/how-to/after-a-disaster.md";

/// Commands that cannot be typed on this platform.
struct Elsewhere {
    page: &'static str,
    /// The section's heading; empty: all of the page.
    section: &'static str,
    /// What they take, as the page itself says it: a page without it has no place in this list.
    takes: &'static str,
    why: &'static str,
}

impl Elsewhere {
    fn means(&self, heading: &str) -> bool {
        self.section.is_empty() || self.section == heading
    }
}

static ELSEWHERE: [Elsewhere; 5] = [
    Elsewhere {
        page: DISASTER,
        section: "With Docker",
        takes: "--secrets",
        why: "an engine without a swarm, which the demo's and the library's own scene of it have",
    },
    Elsewhere {
        page: "docs/how-to/another-host.md",
        section: "",
        takes: "kind = \"ssh\"",
        why: "a store on another host, another host, and a second site; what moves to another host is what \
              comes back after a disaster",
    },
    Elsewhere {
        page: "docs/how-to/compose.md",
        section: "",
        takes: "kind = \"compose\"",
        why: "a Docker engine; a first configuration of the example on Compose is tried by a test of its own",
    },
    Elsewhere {
        page: "docs/how-to/point-in-time.md",
        section: "",
        takes: "wal_archive",
        why: "an archive of PostgreSQL's log, and moments that only its reader knows",
    },
    Elsewhere {
        page: "docs/how-to/swarm.md",
        section: "",
        takes: "kind = \"swarm\"",
        why: "a Docker engine; a first configuration of the example swarm is tried by the library's tests",
    },
];

/// A section with what it has its reader type.
struct Section {
    page: String,
    heading: String,
    lines: Vec<String>,
}

/// The sections with commands of ours, in the order of the pages; those of the list above with their entry.
fn sections() -> Vec<(Section, Option<&'static Elsewhere>)> {
    let mut found = Vec::new();
    for (page, text) in pages::all() {
        if page != TUTORIAL && !page.starts_with("docs/how-to/") {
            continue;
        }
        for (heading, text) in pages::sections(&text) {
            let lines = pages::typed(&text);
            if !lines.iter().any(|line| line.starts_with("restore ")) {
                continue;
            }
            let mut entries = ELSEWHERE.iter();
            let elsewhere = entries.find(|it| it.page == page && it.means(&heading));
            let page = page.clone();
            let section = Section {
                page,
                heading,
                lines,
            };
            found.push((section, elsewhere));
        }
    }
    found
}

#[test]
fn every_page_is_typed_or_named_with_a_reason() {
    let all = pages::all();
    for entry in &ELSEWHERE {
        let what = format!("{} {:?}: {}", entry.page, entry.section, entry.why);
        let (_, text) = all
            .iter()
            .find(|(page, _)| page == entry.page)
            .expect(&what);
        let mut parts = pages::sections(text).into_iter();
        let takes =
            parts.any(|(heading, text)| entry.means(&heading) && text.contains(entry.takes));
        assert!(takes, "it does not take {}: {what}", entry.takes);
        let mut sections = sections().into_iter();
        let used = sections.any(|(_, it)| it.is_some_and(|it| std::ptr::eq(it, entry)));
        assert!(used, "it has no commands: {what}");
    }
    let typed = sections().into_iter().filter(|(_, it)| it.is_none());
    let lines: usize = typed.map(|(section, _)| section.lines.len()).sum();
    assert!(lines > 50, "{lines} lines are typed");
}

/// Somebody who types what a page says, on a platform in whose folder all paths of the page are.
pub struct Reader<'a> {
    whole: &'a Whole,
    /// What no `--config` names.
    config: PathBuf,
}

impl<'a> Reader<'a> {
    pub fn new(whole: &'a Whole) -> Self {
        Self {
            whole,
            config: whole.hosting.config(),
        }
    }

    /// Types a page from its beginning to its end.
    pub fn types(&mut self, page: &str) {
        let mut count = 0;
        for (section, elsewhere) in sections() {
            if section.page == page && elsewhere.is_none() {
                count += self.types_section(&section);
            }
        }
        assert!(count > 0, "{page} has nothing to type");
    }

    /// Types all how-to pages, but for what is named in the list and what destroys the platform. Their
    /// sections are alternatives: after each one what it has done is taken back.
    pub fn types_how_to_pages(&mut self) {
        for (section, elsewhere) in sections() {
            if [TUTORIAL, DISASTER].contains(&section.page.as_str()) || elsewhere.is_some() {
                continue;
            }
            self.types_section(&section);
            if !section.lines.iter().any(|it| it.starts_with("restore run")) {
                continue;
            }
            for verb in ["rollback", "confirm"] {
                let ran = self.restore(&format!("restore {verb}"));
                // There may be no run for it.
                assert!(matches!(ran.code, Some(0 | 2)), "{ran:?}");
            }
        }
    }

    /// How many commands of ours it has.
    fn types_section(&mut self, section: &Section) -> usize {
        let mut count = 0;
        for line in &section.lines {
            let what = format!("{}, {:?}: {line}", section.page, section.heading);
            println!("{what}");
            let first = line.split(' ').next().unwrap_or_default();
            if first == "restore" {
                count += 1;
                let mut ran = self.restore(line);
                ran.what = what;
                let ran = match line.starts_with("restore rollback") {
                    true => ran.taken_back(),
                    false => ran.exits(0),
                };
                // A name that a page looks for is one that is found.
                assert!(!ran.out.contains("Nothing in it is called"), "{ran:?}");
            } else if let Some(file) = line.strip_prefix("export RESTORE_CONFIG=") {
                self.config = PathBuf::from(self.here(file));
                self.keeps_its_state_here();
            } else if first.ends_with("/damage.sh") {
                self.whole.damaged();
            }
        }
        count
    }

    fn restore(&self, line: &str) -> Ran {
        let words = pages::words(line);
        let mut words: Vec<String> = words[1..].iter().map(|word| self.here(word)).collect();
        // Its backups are not signed.
        if let Some(at) = words.iter().position(|word| word == "--signed-by") {
            words.drain(at..at + 2);
        }
        let verb = words.iter().find(|word| !word.starts_with('-'));
        let verb = verb.cloned().unwrap_or_default();
        match verb.as_str() {
            // Nobody is there to be asked.
            "run" | "rollback" | "confirm" => words.push("--yes".to_owned()),
            // What else runs here is no part of the platform.
            "init"
                if !words
                    .iter()
                    .any(|word| word == "--from" || word == "--below") =>
            {
                words.extend(["--below".to_owned(), self.root().to_owned()]);
            }
            _ => {}
        }
        for word in &words {
            let is_here = !word.starts_with('/') || word.starts_with(self.root());
            assert!(is_here, "{line}: {word} is none of the platform's paths");
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_restore"));
        command.args(&words).env("RESTORE_CONFIG", &self.config);
        command.current_dir(self.root()).stdin(Stdio::null());
        Ran::of(&[line], command.output().unwrap())
    }

    /// A word of a page as it is here: paths are the platform's, ids those of its backup.
    fn here(&self, word: &str) -> String {
        let root = self.root();
        let outside = format!("{root}/out");
        std::fs::create_dir_all(&outside).unwrap();
        for (there, here) in [
            ("/srv/tutorial", root.to_owned()),
            ("/mnt/backups", format!("{root}/backups")),
            ("/var/backups", format!("{root}/backups")),
            ("/usr/local", outside.clone()),
            ("/root", outside),
        ] {
            if let Some(rest) = word.strip_prefix(there)
                && (rest.is_empty() || rest.starts_with('/'))
            {
                return here + rest;
            }
        }
        let is_id = word.len() == 15
            && word.char_indices().all(|(at, c)| match at {
                8 => c == '-',
                _ => c.is_ascii_digit(),
            });
        match is_id {
            true => self.whole.id.clone(),
            false => word.to_owned(),
        }
    }

    fn root(&self) -> &str {
        self.whole.hosting.root().to_str().unwrap()
    }

    /// A test leaves nothing outside of its folder: the journals that the file would have below /var/lib go
    /// where the platform is.
    fn keeps_its_state_here(&self) {
        let text = std::fs::read_to_string(&self.config).unwrap();
        let mut lines = text.lines();
        let state = lines.find(|line| line.starts_with("state = ")).unwrap();
        std::fs::write(&self.config, text.replace(state, "state = \"first-state\"")).unwrap();
    }
}
