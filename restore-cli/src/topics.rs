//! Short texts to read at a terminal: `restore help TOPIC`. Each is a page of `docs/help` and of the
//! manual too, and fits on two screens.

/// A text.
#[derive(Debug)]
pub(crate) struct Topic {
    /// What is typed for it.
    pub(crate) name: &'static str,
    /// The page, in the little Markdown that reads well as it is.
    page: &'static str,
}

macro_rules! topics {
    ($($name:literal)*) => {
        /// All of them: those that are needed in haste come first.
        pub(crate) const TOPICS: &[Topic] = &[$(Topic {
            name: $name,
            page: include_str!(concat!("../../docs/help/", $name, ".md")),
        }),*];
    };
}

topics!("exit-codes" "states" "stuck" "parts" "point-in-time" "from-nothing" "other-backups"
    "backups" "configuration" "trust" "automation");

impl Topic {
    /// The one of this name, which may be typed as several words.
    pub(crate) fn named(words: &[String]) -> Option<&'static Self> {
        let name = words.join("-").to_lowercase();
        TOPICS.iter().find(|topic| topic.name == name)
    }

    /// Its first line.
    pub(crate) fn title(&self) -> &'static str {
        let first = self.page.lines().next().unwrap_or_default();
        first.trim_start_matches(['#', ' '])
    }

    /// What comes after its title.
    pub(crate) fn body(&self) -> &'static str {
        let rest = self.page.split_once('\n').map_or("", |(_, rest)| rest);
        rest.trim_start_matches('\n')
    }

    /// As a terminal shows it.
    pub(crate) fn text(&self) -> String {
        let title = self.title();
        let line = "-".repeat(title.chars().count());
        format!("{title}\n{line}\n\n{}", self.body())
    }
}

/// The list of them.
pub(crate) fn list() -> String {
    let wide = TOPICS.iter().map(|topic| topic.name.len()).max();
    let lines = TOPICS.iter().map(|topic| {
        let (name, wide) = (topic.name, wide.unwrap_or_default());
        format!("  {name:wide$}  {}\n", topic.title())
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn each_fits_on_two_screens_and_reads_as_it_is() {
        for Topic { name, page } in TOPICS {
            assert!(page.starts_with("# "), "{name}");
            assert!(
                page.lines().count() <= 46,
                "{name} is longer than two screens"
            );
            for line in page.lines() {
                assert!(line.len() < 80, "{name}: {line}");
                assert!(line.is_ascii(), "{name}: {line}");
                // The manual sets everything in by seven.
                assert!(
                    !line.starts_with("    ") || line.len() < 78,
                    "{name}: {line}"
                );
                let quotes = line.matches('`').count();
                assert!(
                    line.starts_with("    ") || quotes.is_multiple_of(2),
                    "{name}: {line}"
                );
            }
        }
        assert!(list().lines().all(|line| line.len() < 80), "{}", list());
    }

    #[test]
    fn every_page_is_a_topic() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/help");
        let pages = std::fs::read_dir(folder).unwrap();
        let mut pages: Vec<String> = pages
            .map(|page| page.unwrap().file_name().into_string().unwrap())
            .collect();
        pages.sort();
        let mut topics: Vec<String> = TOPICS.iter().map(|it| format!("{}.md", it.name)).collect();
        topics.sort();
        assert_eq!(pages, topics);
    }

    #[test]
    fn a_topic_may_be_typed_as_words() {
        let named = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Topic::named(&words).map(|topic| topic.name)
        };
        assert_eq!(named(&["point-in-time"]), Some("point-in-time"));
        assert_eq!(named(&["Point", "in", "time"]), Some("point-in-time"));
        assert_eq!(named(&["pointless"]), None);
    }
}
