//! `docs/errors.md` has every code that an error or a finding of the library or of the command line can
//! have, with what it says and what to do. It is made from the source: `RESTORE_UPDATE_ERRORS=1` writes it
//! anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What is said of a code: the first place in the source that says it.
#[derive(Default)]
struct Said {
    kind: Option<String>,
    message: Option<String>,
    hint: Option<String>,
}

/// What is written by hand of the codes whose meaning or next step the source does not say beside them.
const BY_HAND: &str = include_str!("error_codes.toml");

/// Words of the source that look like codes and are none: names of files, labels, attributes, placement keys.
const NO_CODES: [&str; 28] = [
    "backup_label.old",
    "blobs.toc",
    "checksums.md5",
    "checksums.sha256",
    "node.hostname",
    "node.id",
    "node.role",
    "postgres.pass",
    "postmaster.opts",
    "recovery.signal",
    "redis.pass",
    "restore.action",
    "restore.boot",
    "restore.host",
    "restore.pid",
    "restore.run",
    "restore.seen",
    "restore.since",
    "restore.site",
    "restore.space",
    "restore.start",
    "rpc.statd",
    "security.capability",
    "system.posix_acl_access",
    "system.posix_acl_default",
    "tablespace_map.old",
    "test.killed",
    "tls.key",
];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                sources(&path, into);
            }
        } else if path.extension().is_some_and(|it| it == "rs") {
            into.push(path);
        }
    }
}

/// A text of a source file, and from where to where it stands there, quotes included.
struct Text {
    start: usize,
    end: usize,
    text: String,
}

/// A source file without its tests.
struct Source {
    /// The source with blanks in the place of texts, characters and comments: as long as the source, in ASCII.
    code: String,
    texts: Vec<Text>,
}

impl Source {
    fn read(source: &str) -> Self {
        let mut code = source.as_bytes().to_vec();
        let mut texts = Vec::new();
        let mut at = 0;
        while at < source.len() {
            let rest = &source[at..];
            let mut text = None;
            let length = if rest.starts_with("//") {
                rest.find('\n').unwrap_or(rest.len())
            } else if let Some(length) = character(rest) {
                length
            } else if let Some(raw) = rest.strip_prefix("r#\"") {
                let length = raw.find("\"#").unwrap();
                text = Some(raw[..length].to_owned());
                length + 5
            } else if let Some(raw) = rest.strip_prefix("r\"") {
                let length = raw.find('"').unwrap();
                text = Some(raw[..length].to_owned());
                length + 3
            } else if let Some(quote) = rest.strip_prefix('"') {
                let (said, length) = quoted(quote);
                text = Some(said);
                length + 1
            } else {
                at += rest.chars().next().map_or(1, char::len_utf8);
                continue;
            };
            for byte in &mut code[at..at + length] {
                if *byte != b'\n' {
                    *byte = b' ';
                }
            }
            if let Some(text) = text {
                let end = at + length;
                texts.push(Text {
                    start: at,
                    end,
                    text,
                });
            }
            at += length;
        }
        for byte in &mut code {
            if !byte.is_ascii() {
                *byte = b' ';
            }
        }
        let code = String::from_utf8(code).unwrap();
        let mut source = Self { code, texts };
        if let Some(end) = source.tests() {
            source.code.truncate(end);
            source.texts.retain(|text| text.end <= end);
        }
        source
    }

    /// Where the module of the tests begins.
    fn tests(&self) -> Option<usize> {
        let mut places = self.code.match_indices("#[cfg(test)]");
        places.find_map(|(at, mark)| {
            let mut next = at + mark.len();
            loop {
                let rest = self.code[next..].trim_start();
                next = self.code.len() - rest.len();
                if !rest.starts_with("#[") {
                    let line = rest.lines().next().unwrap_or_default().trim_end();
                    return (line.starts_with("mod ") && line.ends_with('{')).then_some(at);
                }
                next = self.closing(next + 1) + 1;
            }
        })
    }

    /// The bracket that is open at a place.
    fn opening(&self, at: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for (place, byte) in self.code.as_bytes()[..at].iter().enumerate().rev() {
            match byte {
                b')' | b']' | b'}' => depth += 1,
                b'(' | b'[' | b'{' if depth == 0 => return Some(place),
                b'(' | b'[' | b'{' => depth -= 1,
                _ => {}
            }
        }
        None
    }

    /// The end of what the bracket at a place opens.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        for (place, byte) in self.code.bytes().enumerate().skip(open) {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' if depth <= 1 => return place,
                b')' | b']' | b'}' => depth -= 1,
                _ => {}
            }
        }
        self.code.len()
    }

    /// The end of an expression that begins at a place: the first of these marks outside of brackets.
    fn ends_at(&self, from: usize, marks: &[u8]) -> usize {
        let mut depth = 0_usize;
        for (place, byte) in self.code.bytes().enumerate().skip(from) {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' if depth == 0 => return place,
                b')' | b']' | b'}' => depth -= 1,
                mark if depth == 0 && marks.contains(&mark) => return place,
                _ => {}
            }
        }
        self.code.len()
    }

    /// The arguments between two places.
    fn arguments(&self, from: usize, to: usize) -> Vec<(usize, usize)> {
        let mut arguments = Vec::new();
        let mut start = from;
        while start < to {
            let end = self.ends_at(start, b",").min(to);
            arguments.push((start, end));
            start = end + 1;
        }
        arguments
    }

    fn sentence(&self, from: usize, to: usize) -> Option<String> {
        let mut inside = self
            .texts
            .iter()
            .filter(|text| (from..to).contains(&text.start));
        let found = inside.find(|it| {
            let letters = it.text.chars().filter(char::is_ascii_lowercase).count();
            it.text.trim().contains(' ') && letters > 1
        });
        found.map(|it| it.text.clone())
    }

    /// What an expression says: a text in it, or in what it is the name of.
    fn says(&self, from: usize, to: usize) -> Option<String> {
        if let Some(text) = self.sentence(from, to) {
            return Some(text);
        }
        let mut name = self.code[from..to].trim().trim_start_matches('&');
        for call in [".clone()", ".to_owned()", ".to_string()", ".as_str()"] {
            name = name.strip_suffix(call).unwrap_or(name);
        }
        if name.is_empty() || !name.chars().all(is_of_a_name) {
            return None;
        }
        let variable = ["let ", "let mut "].into_iter().filter_map(|word| {
            let made = format!("{word}{name}");
            let mut places = self.code[..from].rmatch_indices(made.as_str());
            places.find_map(|(at, made)| self.names_end(at + made.len()))
        });
        let constant = || {
            let made = format!("const {name}:");
            self.code.find(&made).map(|at| at + made.len())
        };
        let value = variable.max().or_else(constant)?;
        let value = value + self.code[value..].find('=')? + 1;
        self.sentence(value, self.ends_at(value, b";"))
    }

    fn names_end(&self, at: usize) -> Option<usize> {
        let next = self.code[at..].chars().next()?;
        matches!(next, ' ' | ':').then_some(at)
    }

    /// What is called with the bracket at a place.
    fn called(&self, open: usize) -> &str {
        let before = &self.code[..open];
        let name = |c: char| is_of_a_name(c) || c == ':' || c == '.';
        &before[before.trim_end_matches(name).len()..]
    }

    /// The bracket of the call that a code at a place is an argument of, maybe by way of `if` or `match`.
    fn bracket(&self, at: usize) -> Option<usize> {
        let open = self.opening(at)?;
        let is = |place: usize, bracket: u8| self.code.as_bytes()[place] == bracket;
        if !is(open, b'{') || self.is_field(at) {
            return Some(open);
        }
        let mut outer = self.opening(open);
        while let Some(place) = outer.filter(|place| is(*place, b'{')) {
            outer = self.opening(place);
        }
        let made = |place: &usize| {
            let name = self.called(*place);
            is(*place, b'(')
                && (name.ends_with("Error::new")
                    || name == "Self::new"
                    || name.starts_with("Finding::"))
        };
        Some(outer.filter(made).unwrap_or(open))
    }

    fn is_field(&self, at: usize) -> bool {
        self.code[..at].trim_end().ends_with(" code:")
    }

    /// What is said where a code stands.
    fn said(&self, at: usize) -> Said {
        let Some(open) = self.bracket(at) else {
            return Said::default();
        };
        if self.code.as_bytes()[open] == b'(' {
            self.said_by_a_call(open, at)
        } else if self.is_field(at) {
            self.said_by_fields(open, at)
        } else {
            Said::default()
        }
    }

    fn said_by_fields(&self, open: usize, at: usize) -> Said {
        let inside = &self.code[open..self.closing(open)];
        let field = |name: &str| {
            let value = open + inside.find(&format!(" {name}:"))? + name.len() + 2;
            self.says(value, self.ends_at(value, b","))
        };
        let before = &self.code[open..at];
        let kind = ["ErrorKind::", "Severity::"]
            .into_iter()
            .find_map(|of| before.rfind(of).map(|found| &before[found + of.len()..]));
        Said {
            kind: kind.map(leading_name),
            message: field("message"),
            hint: field("hint"),
        }
    }

    fn said_by_a_call(&self, open: usize, at: usize) -> Said {
        let name = self.called(open);
        let close = self.closing(open);
        let arguments = self.arguments(open + 1, close);
        let index = arguments
            .iter()
            .position(|(from, to)| (*from..*to).contains(&at))
            .unwrap_or(0);
        let first = self.code[arguments[0].0..arguments[0].1].trim();
        let kind = match name {
            "Finding::error" => Some("error".to_owned()),
            "Finding::warning" | "warning" => Some("warning".to_owned()),
            "Finding::info" | "info" => Some("info".to_owned()),
            "self.refuse" => Some("error".to_owned()),
            "self.warn" => Some("warning".to_owned()),
            _ => first
                .rsplit_once("ErrorKind::")
                .filter(|(_, kind)| kind.chars().all(is_of_a_name))
                .map(|(_, kind)| kind.to_owned()),
        };
        let is_finding = name.starts_with("Finding::");
        // A finding says first what it is about.
        let skipped = index + if is_finding { 2 } else { 1 };
        let mut said = arguments
            .iter()
            .skip(skipped)
            .filter_map(|(from, to)| self.says(*from, *to));
        let message = said.next();
        let second = said
            .next()
            .filter(|_| !is_finding && !name.ends_with("::new"));
        Said {
            kind,
            message,
            hint: second
                .or_else(|| self.hint_behind(close + 1))
                .or_else(|| self.hint_by_name(open - name.len(), close)),
        }
    }

    /// The hint in the calls that are chained to what ends at a place.
    fn hint_behind(&self, mut at: usize) -> Option<String> {
        loop {
            let rest = self.code.get(at..)?.trim_start();
            let rest = rest.strip_prefix('?').unwrap_or(rest).trim_start();
            let rest = rest.strip_prefix('.')?;
            let name = leading_name(rest);
            let rest = &rest[name.len()..];
            let rest = match rest.strip_prefix("::<") {
                Some(of) => &of[of.find('>')? + 1..],
                None => rest,
            };
            if !rest.starts_with('(') {
                return None;
            }
            let open = self.code.len() - rest.len();
            let close = self.closing(open);
            if name == "hint" {
                return self.says(open + 1, close);
            }
            at = close + 1;
        }
    }

    /// The hint that is given later to what was made between two places and given a name.
    fn hint_by_name(&self, made: usize, close: usize) -> Option<String> {
        let before = self.code[..made].trim_end().strip_suffix('=')?.trim_end();
        let name = &before[before.trim_end_matches(is_of_a_name).len()..];
        if !before.strip_suffix(name)?.ends_with("let ") {
            return None;
        }
        let call = format!("{name}.hint(");
        let place = self.code[close..].find(&call).filter(|far| *far < 1500)?;
        let open = close + place + call.len() - 1;
        self.says(open + 1, self.closing(open))
    }

    /// The places of a code: where it stands, and, where that is a constant, where its name does.
    fn places(&self, text: &Text) -> Vec<usize> {
        let before = self.code[..text.start].trim_end();
        // Asked for, not given.
        if before.ends_with("==") || before.ends_with("!=") {
            return Vec::new();
        }
        let constant = before
            .strip_suffix(": &str =")
            .map(|it| &it[it.trim_end_matches(is_of_a_name).len()..])
            .filter(|name| {
                before[..before.len() - name.len() - ": &str =".len()].ends_with("const ")
            });
        let Some(name) = constant else {
            return vec![text.start];
        };
        let uses = self.code.match_indices(name).filter(|(at, _)| {
            let around = |c: Option<char>| !c.is_some_and(is_of_a_name);
            around(self.code[..*at].chars().next_back())
                && around(self.code[at + name.len()..].chars().next())
                && !self.code[..*at].ends_with("const ")
        });
        uses.map(|(at, _)| at).collect()
    }
}

fn is_of_a_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn leading_name(text: &str) -> String {
    text.chars().take_while(|c| is_of_a_name(*c)).collect()
}

/// How long the character is that a source begins with; `None` where it begins with none, as with a lifetime.
fn character(source: &str) -> Option<usize> {
    let rest = source.strip_prefix('\'')?;
    if rest.starts_with('\\') {
        return Some(rest[2..].find('\'')? + 4);
    }
    let length = rest.chars().next()?.len_utf8();
    rest[length..].starts_with('\'').then_some(length + 2)
}

/// A text up to its closing quote, and how long it was in the source.
fn quoted(rest: &str) -> (String, usize) {
    let mut text = String::new();
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, at + 1),
            '\\' => match chars.next() {
                // The line goes on without what indents it.
                Some((_, '\n')) => {
                    let mut ahead = chars.clone();
                    while let Some((_, next)) = ahead.next()
                        && next.is_whitespace()
                    {
                        chars.next();
                    }
                }
                Some((_, 'n')) => text.push(' '),
                Some((_, other)) => text.push(other),
                None => break,
            },
            c => text.push(c),
        }
    }
    (text, rest.len())
}

/// Whether a text is a code, and neither a name of a file nor another word with a dot.
fn is_code(text: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    const FILES: [&str; 15] = [
        "toml", "json", "jsonl", "txt", "conf", "log", "pid", "tar", "rdb", "aof", "sock", "dat",
        "dat0", "db", "sql",
    ];
    match text.split_once('.') {
        Some((area, what)) => {
            word(area)
                && word(what)
                && !what.ends_with('_')
                && !FILES.contains(&what)
                && !NO_CODES.contains(&text)
        }
        None => false,
    }
}

/// What the source says of each of its codes.
fn codes_of_the_source() -> BTreeMap<String, Said> {
    let mut files = Vec::new();
    for package in ["restore-core/src", "restore-cli/src"] {
        sources(&repository().join(package), &mut files);
    }
    files.sort();
    let mut codes: BTreeMap<String, Said> = BTreeMap::new();
    for file in files {
        let source = Source::read(&std::fs::read_to_string(file).unwrap());
        for text in source.texts.iter().filter(|it| is_code(&it.text)) {
            let said = codes.entry(text.text.clone()).or_default();
            for place in source.places(text) {
                let Said {
                    kind,
                    message,
                    hint,
                } = source.said(place);
                said.kind = said.kind.take().or(kind);
                said.message = said.message.take().or(message);
                said.hint = said.hint.take().or(hint);
            }
        }
    }
    codes
}

/// What is written by hand, by code: `meaning`, `what`.
fn by_hand() -> BTreeMap<String, BTreeMap<String, String>> {
    toml::from_str(BY_HAND).unwrap()
}

/// What is said of each code: by hand, by the source, or by its kind.
fn codes() -> BTreeMap<String, Said> {
    let mut by_hand = by_hand();
    let mut codes = codes_of_the_source();
    for (code, said) in &mut codes {
        let mut better = by_hand.remove(code).unwrap_or_default();
        said.message = better.remove("meaning").or(said.message.take());
        said.hint = better.remove("what").or(said.hint.take());
        if said.hint.is_none() {
            said.hint = by_kind(said.kind.as_deref()).map(str::to_owned);
        }
    }
    codes
}

/// What to do about every error or finding of a kind that says no more itself.
fn by_kind(kind: Option<&str>) -> Option<&'static str> {
    match kind?.to_lowercase().as_str() {
        "internal" => Some(
            "this is a fault of restore itself: report it with what was printed; `restore report` shows how a run that it met has ended",
        ),
        "info" => Some("nothing: it is told for information"),
        _ => None,
    }
}

fn document() -> String {
    let mut out = String::from(
        "# Codes of errors and findings\n\n\
         Every error and finding has a code that stays the same from version to version: it is in\n\
         `--json`, in journals and reports, and in Rust and Python the `code` of an exception. Each is\n\
         listed with what it says, where braces stand for what it is about, and with what to do; the\n\
         hint that is printed with it may say more. The word behind a code is the kind of error, which\n\
         decides on the exit code (see the README), or how much a finding weighs: `info`, `warning`,\n\
         `error`, of which only the last stops a run. This file is made from the source and from\n\
         `restore-core/tests/library/error_codes.toml` by\n\
         `RESTORE_UPDATE_ERRORS=1 cargo test -p restore-core --test library error_codes`.\n",
    );
    let mut area = String::new();
    for (code, said) in codes() {
        let of = code.split('.').next().unwrap();
        if of != area {
            of.clone_into(&mut area);
            write!(out, "\n## {area}\n\n").unwrap();
        }
        write!(out, "- **`{code}`**").unwrap();
        if let Some(kind) = &said.kind {
            write!(out, " ({})", kind.to_lowercase()).unwrap();
        }
        if let Some(message) = &said.message {
            write!(out, ": {}", message.trim()).unwrap();
        }
        if let Some(hint) = &said.hint {
            write!(out, " *What to do:* {}", hint.trim()).unwrap();
        }
        out.push('\n');
    }
    out
}

#[test]
fn every_code_is_in_the_documentation() {
    let file = repository().join("docs/errors.md");
    let wanted = document();
    if std::env::var_os("RESTORE_UPDATE_ERRORS").is_some() {
        std::fs::write(&file, wanted).unwrap();
        return;
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    let missing: Vec<&str> = wanted
        .lines()
        .filter(|line| !written.lines().any(|other| other == *line))
        .collect();
    assert!(
        written == wanted,
        "docs/errors.md is not what the source says; RESTORE_UPDATE_ERRORS=1 writes it anew:\n{}",
        missing.join("\n")
    );
}

#[test]
fn every_code_has_a_meaning_and_a_next_step() {
    let codes = codes();
    let without = |what: fn(&Said) -> bool| {
        let lacking = codes.iter().filter(|(_, said)| what(said));
        lacking.map(|(code, _)| code.as_str()).collect::<Vec<_>>()
    };
    let meaning = without(|said| said.message.is_none());
    let step = without(|said| said.hint.is_none());
    assert!(
        meaning.is_empty() && step.is_empty(),
        "say it beside the code, or in error_codes.toml (what is no code belongs into NO_CODES):\n\
         without a meaning: {meaning:?}\nwithout what to do: {step:?}"
    );
}

#[test]
fn what_is_written_by_hand_is_of_codes_that_exist() {
    let codes = codes_of_the_source();
    for (code, said) in by_hand() {
        assert!(codes.contains_key(&code), "no code: {code}");
        for (key, text) in said {
            assert!(key == "meaning" || key == "what", "{code}: {key}");
            assert!(!text.is_empty(), "{code}: {key}");
        }
    }
}

#[test]
fn what_is_said_of_a_code_is_what_its_place_says() {
    let source = Source::read(
        r#"
const NAMED: &str = "a.named";
fn f<'a>(c: &'a str) -> Error {
    // "a.comment"
    let message = format!("it has {c} and {}", ')');
    let made = Error::new(ErrorKind::Failed, "a.made", message);
    let full = Error::new(
        crate::model::ErrorKind::Preflight,
        if c.is_empty() { "a.empty" } else { "a.full" },
        format!("cannot read {c}"),
    )
    .retryable()
    .hint("try again later");
    let list = [Finding::warning("a.warned", "the subject", "this is so"), Finding::info(NAMED, c, "by its name")];
    let field = Cause { kind: ErrorKind::Config, code: "a.field", message: "fields say it", hint: "change the field" };
    made.hint("then do that")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test [")]
mod tests {
    const OTHER: &str = "a.test";
}
"#,
    );
    let mut found = Vec::new();
    for text in source.texts.iter().filter(|it| is_code(&it.text)) {
        for place in source.places(text) {
            let Said {
                kind,
                message,
                hint,
            } = source.said(place);
            let said = [kind, message, hint].map(Option::unwrap_or_default);
            found.push(format!("{}|{}", text.text, said.join("|")));
        }
    }
    let wanted = [
        "a.named|info|by its name|",
        "a.made|Failed|it has {c} and {}|then do that",
        "a.empty|Preflight|cannot read {c}|try again later",
        "a.full|Preflight|cannot read {c}|try again later",
        "a.warned|warning|this is so|",
        "a.field|Config|fields say it|change the field",
    ];
    assert_eq!(found, wanted);
}

#[test]
fn words_with_a_dot_that_are_no_codes_are_not_listed() {
    let codes = codes_of_the_source();
    for word in NO_CODES {
        assert!(!is_code(word) && !codes.contains_key(word), "{word}");
    }
}

#[test]
fn texts_of_a_source_are_read_as_the_compiler_does() {
    let source =
        "a(\"x.y\", /* no */ '\"', r#\"raw \"it\"\"#, \"two \\\n   lines \\\"q\\\"\"); // \"no\"\n";
    let found: Vec<String> = Source::read(source)
        .texts
        .into_iter()
        .map(|it| it.text)
        .collect();
    assert_eq!(found, ["x.y", "raw \"it\"", "two lines \"q\""]);
    assert!(is_code("x.y") && !is_code("restore.toml") && !is_code("x.y.z") && !is_code("X.y"));
}
