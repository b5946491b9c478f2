//! The archive of `docker save`, with the names of its images taken out on the way.
//!
//! An engine gives an image the names that its archive says as it loads it, which would change
//! what a service's next task runs while everything is still being prepared.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use serde_json::Value;

const BLOCK: usize = 512;

/// No list of images is larger.
const LARGEST: u64 = 16 << 20;

/// The lists that have names of images.
const LISTS: [&str; 3] = ["manifest.json", "repositories", "index.json"];

/// What headers say of the member after them is no longer, all of them together.
const LARGEST_HELD: u64 = 1 << 20;

/// No path is longer.
const LONGEST_NAME: usize = 4096;

/// No archive has more links.
const MOST_LINKS: usize = 10_000;

/// One image as the archive lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The file of its configuration, whose name is its hash.
    pub(crate) config: String,
    pub(crate) tags: Vec<String>,
}

/// What comes next of the archive.
enum State {
    /// A header; what of it is there already.
    Header(Vec<u8>),
    /// So much of a member's content, which passes.
    Pass(u64),
    /// So much content of a list, which is held back: its header, its length, what is there.
    Hold {
        header: Vec<u8>,
        size: u64,
        content: Vec<u8>,
    },
    /// The blocks of zeros at the end, and whatever follows.
    End,
}

/// Takes an archive in pieces and gives the other one in pieces.
pub(crate) struct ImageArchiveRewriter {
    state: State,
    /// Headers that speak of the member after them, until that is known.
    held: Vec<u8>,
    /// How much of what passes belongs to such a header.
    holding: bool,
    /// The lists that have come.
    lists: BTreeSet<&'static str>,
    /// The symbolic links that have come: the engine follows one on the way to a name.
    links: BTreeSet<String>,
    listed: Option<Vec<Listed>>,
}

impl ImageArchiveRewriter {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Header(Vec::new()),
            held: Vec::new(),
            holding: false,
            lists: BTreeSet::new(),
            links: BTreeSet::new(),
            listed: None,
        }
    }

    /// The images that the archive lists; an error where it lists none, or was cut.
    pub(crate) fn finish(self) -> io::Result<Vec<Listed>> {
        match (self.state, self.listed) {
            (State::End, Some(listed)) => Ok(listed),
            (State::Header(rest), Some(listed)) if rest.is_empty() => Ok(listed),
            (State::End, None) => Err(bad("it lists no images: it was not written by docker save")),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The next piece of the other archive.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> io::Result<Bytes> {
        let mut out = Vec::with_capacity(bytes.len().saturating_add(BLOCK));
        while !bytes.is_empty() {
            match &mut self.state {
                State::End => {
                    out.extend_from_slice(bytes);
                    return Ok(out.into());
                }
                State::Pass(left) => {
                    let take = usize::try_from(*left)
                        .unwrap_or(usize::MAX)
                        .min(bytes.len());
                    let (part, rest) = bytes.split_at(take);
                    if self.holding {
                        self.held.extend_from_slice(part);
                    } else {
                        out.extend_from_slice(part);
                    }
                    *left -= u64::try_from(take).unwrap_or(*left);
                    if *left == 0 {
                        self.state = State::Header(Vec::new());
                    }
                    bytes = rest;
                }
                State::Hold { size, content, .. } => {
                    let padded = usize::try_from(padded(*size)).unwrap_or(usize::MAX);
                    let take = (padded - content.len()).min(bytes.len());
                    let (part, rest) = bytes.split_at(take);
                    content.extend_from_slice(part);
                    bytes = rest;
                    if content.len() == padded {
                        self.rewrite(&mut out)?;
                    }
                }
                State::Header(header) => {
                    let (part, rest) = bytes.split_at((BLOCK - header.len()).min(bytes.len()));
                    header.extend_from_slice(part);
                    bytes = rest;
                    if header.len() == BLOCK {
                        let header = std::mem::take(header);
                        self.member(header, &mut out)?;
                    }
                }
            }
        }
        Ok(out.into())
    }

    /// Looks at a whole header.
    fn member(&mut self, header: Vec<u8>, out: &mut Vec<u8>) -> io::Result<()> {
        self.holding = false;
        if header.iter().all(|byte| *byte == 0) {
            out.append(&mut self.held);
            out.extend_from_slice(&header);
            self.state = State::End;
            return Ok(());
        }
        let mut size = number(header.get(124..136).unwrap_or_default())
            .ok_or_else(|| bad("a member's size cannot be read"))?;
        let kind = header.get(156).copied().unwrap_or(0);
        let speaks_of_next = matches!(kind, b'x' | b'L' | b'K');
        let said = match speaks_of_next {
            true => MemberHeaders::default(),
            false => MemberHeaders::of(&self.held)?,
        };
        let name = said.name.unwrap_or_else(|| {
            let name = text(header.get(..100).unwrap_or_default());
            let prefix = match header.get(257..262) {
                Some(b"ustar") => text(header.get(345..500).unwrap_or_default()),
                _ => String::new(),
            };
            match prefix.is_empty() {
                true => name,
                false => format!("{prefix}/{name}"),
            }
        });
        if name.len() > LONGEST_NAME {
            return Err(bad("the name of a member is too long"));
        }
        size = match kind {
            // Links, devices and directories have no content, whatever their headers say.
            b'1'..=b'6' => 0,
            0 if name.ends_with('/') => 0,
            b'S' => return Err(bad("it has a sparse file, which docker save never writes")),
            _ => said.size.unwrap_or(size),
        };
        let list = match speaks_of_next {
            true => None,
            false => self.list(&name, kind)?,
        };
        if let Some(plain) = list {
            if size > LARGEST {
                return Err(bad("its list of images is too long"));
            }
            // What was said of it beforehand is said of what takes its place no more.
            self.held.clear();
            let (mut header, field) = (header, plain.as_bytes());
            write(&mut header, 0, &[0; 100]);
            write(&mut header, 0, field);
            if header.get(257..262) == Some(b"ustar") {
                write(&mut header, 345, &[0; 155]);
            }
            self.state = State::Hold {
                header,
                size,
                content: Vec::new(),
            };
            return if size == 0 { self.rewrite(out) } else { Ok(()) };
        }
        if speaks_of_next {
            // An error comes before anything is held.
            let held = u64::try_from(self.held.len() + BLOCK).unwrap_or(u64::MAX);
            if held.saturating_add(size) > LARGEST_HELD {
                return Err(bad("a member's header is too long"));
            }
            self.held.extend_from_slice(&header);
            self.holding = true;
        } else {
            out.append(&mut self.held);
            out.extend_from_slice(&header);
        }
        self.state = match padded(size) {
            0 => State::Header(Vec::new()),
            left => State::Pass(left),
        };
        Ok(())
    }

    /// Which list a member is, if any, once the engine has unpacked it: it cleans names, and follows links. What
    /// could become one in a way that is not this one is refused.
    fn list(&mut self, name: &str, kind: u8) -> io::Result<Option<&'static str>> {
        let parts: Vec<&str> = name
            .split('/')
            .filter(|it| !matches!(*it, "" | "."))
            .collect();
        if parts.contains(&"..") {
            return Err(bad(&format!(
                "the name of its member {name:?} leads out of it"
            )));
        }
        let plain = parts.join("/");
        let mut above = plain.match_indices('/').map(|(at, _)| plain.get(..at));
        if !self.links.is_empty() && above.any(|it| it.is_some_and(|it| self.links.contains(it))) {
            return Err(bad(&format!("its member {name:?} lies behind a link")));
        }
        let Some(list) = LISTS.into_iter().find(|it| *it == plain) else {
            if kind == b'2' {
                self.links.insert(plain);
            }
            return match self.links.len() > MOST_LINKS {
                true => Err(bad("it has more links than docker save writes")),
                false => Ok(None),
            };
        };
        if !matches!(kind, 0 | b'0') || name.ends_with('/') {
            return Err(bad(&format!("its {list} is no plain file")));
        }
        match self.lists.insert(list) {
            true => Ok(Some(list)),
            false => Err(bad(&format!("it has two files {list}"))),
        }
    }

    /// Puts a list without names in the place of the one that was held back.
    fn rewrite(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        let State::Hold {
            mut header,
            size,
            content,
        } = std::mem::replace(&mut self.state, State::Header(Vec::new()))
        else {
            return Ok(());
        };
        let name = text(header.get(..100).unwrap_or_default());
        let content = content
            .get(..usize::try_from(size).unwrap_or(0))
            .unwrap_or_default();
        let new = match name.as_str() {
            "repositories" => b"{}".to_vec(),
            other => {
                let mut list: Value = serde_json::from_slice(content)
                    .map_err(|e| bad(&format!("{other} cannot be read: {e}")))?;
                if other == "manifest.json" {
                    self.listed = Some(take_tags(&mut list)?);
                } else {
                    take_annotations(&mut list);
                }
                list.to_string().into_bytes()
            }
        };
        let octal = format!("{:011o}\0", new.len());
        write(&mut header, 124, octal.as_bytes());
        write(&mut header, 148, b"        ");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        write(&mut header, 148, format!("{sum:06o}\0 ").as_bytes());
        out.extend_from_slice(&header);
        out.extend_from_slice(&new);
        out.resize(out.len() + (BLOCK - new.len() % BLOCK) % BLOCK, 0);
        Ok(())
    }
}

/// What headers say of the member after them, as the engine's reader takes it.
#[derive(Debug, Default)]
struct MemberHeaders {
    name: Option<String>,
    /// Where a header has no room for it, as with layers of 8 GiB and more.
    size: Option<u64>,
}

impl MemberHeaders {
    /// From whole headers with their content.
    fn of(mut held: &[u8]) -> io::Result<Self> {
        let (mut said, mut long_name) = (Self::default(), None);
        while let Some((header, rest)) = held.split_at_checked(BLOCK) {
            let size = number(header.get(124..136).unwrap_or_default()).unwrap_or(0);
            let padded = usize::try_from(padded(size)).unwrap_or(usize::MAX);
            let (content, after) = rest
                .split_at_checked(padded)
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            let content = content
                .get(..usize::try_from(size).unwrap_or(0))
                .unwrap_or_default();
            match header.get(156) {
                // The last one alone counts.
                Some(b'x') => said = Self::of_records(content)?,
                Some(b'L') => long_name = Some(text(content)),
                _ => {}
            }
            held = after;
        }
        // The engine takes one without a letter for none.
        said.name = long_name.filter(|it: &String| !it.is_empty()).or(said.name);
        Ok(said)
    }

    /// From the records of POSIX: `LENGTH KEY=VALUE` and a line feed, the length that of all of it.
    fn of_records(mut content: &[u8]) -> io::Result<Self> {
        let unread = || bad("what is said of a member cannot be read");
        let mut said = Self::default();
        while !content.is_empty() {
            let digits = content.iter().position(|byte| *byte == b' ');
            let digits = digits.and_then(|at| content.split_at_checked(at));
            let (digits, _) = digits.ok_or_else(unread)?;
            let length = std::str::from_utf8(digits)
                .ok()
                .and_then(|it| it.parse().ok());
            let record = length.and_then(|length: usize| content.split_at_checked(length));
            let (record, rest) = record.ok_or_else(unread)?;
            let record = record
                .get(digits.len() + 1..)
                .and_then(|it| it.strip_suffix(b"\n"));
            let record = String::from_utf8_lossy(record.ok_or_else(unread)?).into_owned();
            let (key, value) = record.split_once('=').ok_or_else(unread)?;
            content = rest;
            match key {
                // Of a sparse file, whose name the engine takes from there.
                _ if key.starts_with("GNU.sparse.") => {
                    return Err(bad("it has a sparse file, which docker save never writes"));
                }
                "path" => said.name = Some(value.to_owned()).filter(|it| !it.is_empty()),
                "size" if value.is_empty() => said.size = None,
                "size" => {
                    let size = value.parse().ok().filter(|size: &u64| *size < u64::MAX / 2);
                    let size = size.ok_or_else(|| bad("a member's size cannot be read"))?;
                    said.size = Some(size);
                }
                _ => {}
            }
        }
        Ok(said)
    }
}

/// A member's size with what fills its last block.
fn padded(size: u64) -> u64 {
    size.next_multiple_of(512)
}

fn write(header: &mut [u8], at: usize, bytes: &[u8]) {
    for (old, new) in header.iter_mut().skip(at).zip(bytes) {
        *old = *new;
    }
}

/// A number of a header: octal digits, or binary where those would not suffice.
fn number(field: &[u8]) -> Option<u64> {
    let (first, rest) = field.split_first()?;
    if *first & 0x80 != 0 {
        let mut value = u64::from(*first & 0x7f);
        for byte in rest {
            value = value.checked_mul(256)?.checked_add(u64::from(*byte))?;
        }
        // What is added to it must not overflow either.
        return Some(value).filter(|value| *value < u64::MAX / 2);
    }
    let digits = text(field);
    u64::from_str_radix(digits.trim(), 8).ok()
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0);
    String::from_utf8_lossy(field.get(..end.unwrap_or(field.len())).unwrap_or_default())
        .into_owned()
}

fn take_tags(list: &mut Value) -> io::Result<Vec<Listed>> {
    let images = list
        .as_array_mut()
        .ok_or_else(|| bad("its list of images cannot be read"))?;
    images
        .iter_mut()
        .map(|image| {
            let image = image
                .as_object_mut()
                .ok_or_else(|| bad("its list of images cannot be read"))?;
            let config = image.get("Config").and_then(Value::as_str);
            let config = config.unwrap_or_default().to_owned();
            let tags = image.insert("RepoTags".to_owned(), Value::Null);
            let tags = tags.as_ref().and_then(Value::as_array);
            let tags = tags.into_iter().flatten();
            Ok(Listed {
                config,
                tags: tags
                    .filter_map(|tag| tag.as_str().map(str::to_owned))
                    .collect(),
            })
        })
        .collect()
}

/// The same names in the layout of newer engines.
fn take_annotations(index: &mut Value) {
    let manifests = index.get_mut("manifests").and_then(Value::as_array_mut);
    for manifest in manifests.into_iter().flatten() {
        let annotations = manifest.get_mut("annotations");
        if let Some(annotations) = annotations.and_then(Value::as_object_mut) {
            annotations.remove("io.containerd.image.name");
            annotations.remove("org.opencontainers.image.ref.name");
        }
    }
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

/// For `fuzz/`: foreign bytes, in pieces and whole.
#[cfg(feature = "fuzzing")]
pub(crate) fn fuzz(bytes: &[u8]) {
    let rewritten = |size: usize| {
        let mut untag = ImageArchiveRewriter::new();
        let mut out = Vec::new();
        for piece in bytes.chunks(size) {
            out.extend_from_slice(&untag.feed(piece).ok()?);
        }
        untag.finish().ok()?;
        Some(out)
    };
    assert_eq!(rewritten(bytes.len().max(1)), rewritten(7));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, content) in members {
            archive.extend(member(b'0', name, content.len(), content));
        }
        archive.resize(archive.len() + 2 * BLOCK, 0);
        archive
    }

    /// A member whose header says that it is so long.
    fn member(kind: u8, name: &str, length: usize, content: &[u8]) -> Vec<u8> {
        let mut member = vec![0; BLOCK];
        write(&mut member, 0, name.as_bytes());
        write(&mut member, 124, format!("{length:011o}\0").as_bytes());
        write(&mut member, 156, &[kind]);
        member.extend(content);
        member.resize(member.len().next_multiple_of(BLOCK), 0);
        member
    }

    /// What is said of the next member, in the form of POSIX.
    fn records(records: &[(&str, &str)]) -> Vec<u8> {
        let mut content = String::new();
        for (key, value) in records {
            let rest = format!(" {key}={value}\n");
            let digits = (rest.len() + 2).to_string().len();
            content += &format!("{}{rest}", rest.len() + digits);
        }
        member(b'x', "PaxHeaders.0/x", content.len(), content.as_bytes())
    }

    fn untagged(archive: &[u8]) -> io::Result<(Vec<u8>, Vec<Listed>)> {
        let mut untag = ImageArchiveRewriter::new();
        let mut out = Vec::new();
        for bytes in archive.chunks(700) {
            out.extend(untag.feed(bytes)?);
        }
        Ok((out, untag.finish()?))
    }

    /// Where a header has no room for a size, it says 0, and a record before it says how long the member
    /// is: a layer of more than 8 GiB.
    #[test]
    fn names_are_taken_out_behind_a_layer_whose_size_only_a_record_says() {
        let inner = archive(&[("manifest.json", b"a file of the layer"), ("x", &[7; 900])]);
        let manifest = br#"[{"Config":"abc.json","RepoTags":["a/b:1"],"Layers":["l"]}]"#;
        let size = inner.len().to_string();
        for long_name in [false, true] {
            let mut whole = records(&[("mtime", "1.5"), ("size", &size)]);
            if long_name {
                whole.extend(member(b'L', "././@LongLink", 10, b"a-long/one"));
            }
            whole.extend(member(b'0', "l", 0, &inner));
            whole.extend(archive(&[("manifest.json", manifest)]));
            let (out, listed) = untagged(&whole).unwrap();
            assert_eq!(listed[0].tags, ["a/b:1"]);
            let told = String::from_utf8_lossy(&out);
            assert!(!told.contains("a/b:1"), "its names are still in it");
            assert!(told.contains("a file of the layer"));
        }
    }

    #[test]
    fn a_list_that_only_a_record_calls_so_is_one() {
        let manifest = br#"[{"Config":"abc.json","RepoTags":["a/b:1"],"Layers":[]}]"#;
        for name in ["manifest.json", "./manifest.json"] {
            let mut whole = records(&[("path", name)]);
            whole.extend(archive(&[("other", manifest)]));
            let (out, listed) = untagged(&whole).unwrap();
            assert_eq!(listed[0].tags, ["a/b:1"]);
            let found = members(&out);
            assert_eq!(found[0].0, "manifest.json");
            let manifest: Value = serde_json::from_slice(&found[0].1).unwrap();
            assert_eq!(manifest[0]["RepoTags"], Value::Null);
        }
        // And one that a record calls otherwise is none.
        let mut other = records(&[("path", "l/manifest.json")]);
        other.extend(archive(&[
            ("manifest.json", b"no list"),
            ("manifest.json", b"[]"),
        ]));
        assert!(untagged(&other).unwrap().1.is_empty());
    }

    /// The engine unpacks, cleans names and follows links, and reads what then is the list.
    #[test]
    fn a_second_list_in_other_spelling_is_refused() {
        let good = archive(&[("manifest.json", b"[]")]);
        let good = &good[..good.len() - 2 * BLOCK];
        let evil = br#"[{"Config":"abc.json","RepoTags":["postgres:15"],"Layers":[]}]"#;
        let file = |name: &str| member(b'0', name, evil.len(), evil);
        let long_name = |name: &str| member(b'L', "././@LongLink", name.len(), name.as_bytes());
        for (what, told) in [
            (file("manifest.json"), "two files"),
            (file("./manifest.json"), "two files"),
            (file("/manifest.json"), "two files"),
            (file(".//./manifest.json"), "two files"),
            (file("a/../manifest.json"), "leads out"),
            ([long_name(""), file("manifest.json")].concat(), "two files"),
            (
                [long_name("/manifest.json"), file("a")].concat(),
                "two files",
            ),
            (member(b'1', "manifest.json", 0, b""), "no plain file"),
            (member(b'2', "manifest.json", 0, b""), "no plain file"),
            (member(b'5', "manifest.json/", 0, b""), "no plain file"),
            (
                [member(b'2', "d", 0, b""), file("d/manifest.json")].concat(),
                "behind a link",
            ),
            (
                [records(&[("GNU.sparse.name", "manifest.json")]), file("a")].concat(),
                "sparse",
            ),
        ] {
            for after in [true, false] {
                let end = vec![0; 2 * BLOCK];
                let whole = match after {
                    true => [good, &what[..], &end[..]].concat(),
                    false => [&what[..], good, &end[..]].concat(),
                };
                let error = untagged(&whole).unwrap_err().to_string();
                assert!(error.contains(told), "{told}: {error}");
            }
        }
        // As docker save writes it: a layer that another image has.
        let shared = [
            member(b'2', "a/layer.tar", 0, b""),
            good.to_vec(),
            vec![0; 2 * BLOCK],
        ];
        assert!(untagged(&shared.concat()).is_ok());
    }

    #[test]
    fn what_has_no_content_hides_none() {
        let manifest = br#"[{"Config":"abc.json","RepoTags":["a/b:1"],"Layers":[]}]"#;
        for kind in [b'2', b'5'] {
            let mut whole = member(kind, "link", 4096, b"");
            whole.extend(archive(&[("manifest.json", manifest), ("x", &[7; 5000])]));
            let (out, listed) = untagged(&whole).unwrap();
            assert_eq!(listed[0].tags, ["a/b:1"]);
            assert!(!String::from_utf8_lossy(&out).contains("a/b:1"));
        }
        let mut sparse = member(b'S', "l", 0, b"");
        sparse.extend(archive(&[("manifest.json", manifest)]));
        assert!(
            untagged(&sparse)
                .unwrap_err()
                .to_string()
                .contains("sparse")
        );
        let mut odd = records(&[("size", "-1")]);
        odd.extend(archive(&[("manifest.json", manifest)]));
        assert!(untagged(&odd).is_err());
    }

    #[test]
    fn no_name_and_no_headers_without_end_are_kept() {
        let good = archive(&[("manifest.json", b"[]")]);
        let name = |length: usize| records(&[("path", &"d/".repeat(length / 2))]);
        let long = |kind: u8, length: usize| member(kind, "x", length, &vec![b'n'; length]);
        let longest = [
            name(LONGEST_NAME),
            archive(&[("x", b""), ("manifest.json", b"[]")]),
        ];
        assert!(untagged(&longest.concat()).is_ok());
        for (before, told) in [
            (name(LONGEST_NAME + 2), "name of a member"),
            (long(b'L', LONGEST_NAME + 1), "name of a member"),
            (long(b'L', 2 << 20), "header"),
            // Each of them is short enough.
            (
                [long(b'K', 600 << 10), long(b'L', 600 << 10)].concat(),
                "header",
            ),
            (records(&[("mtime", "1.5")]).repeat(2000), "header"),
        ] {
            let mut untag = ImageArchiveRewriter::new();
            let whole = [&before[..], &good].concat();
            let error = untag.feed(&whole).unwrap_err().to_string();
            assert!(error.contains(told), "{told}: {error}");
        }
    }

    fn members(mut archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        while archive[0] != 0 {
            let size = number(&archive[124..136]).unwrap() as usize;
            let content = archive[BLOCK..BLOCK + size].to_vec();
            found.push((text(&archive[..100]), content));
            archive = &archive[BLOCK + size.next_multiple_of(BLOCK)..];
        }
        found
    }

    #[test]
    fn names_are_taken_out_whatever_the_pieces() {
        let layer = vec![7; 1500];
        let manifest =
            br#"[{"Config":"abc.json","RepoTags":["a/b:1","c:2"],"Layers":["l/layer.tar"]}]"#;
        let index =
            br#"{"manifests":[{"annotations":{"io.containerd.image.name":"a/b:1","x":"y"}}]}"#;
        let whole = archive(&[
            ("l/layer.tar", &layer),
            ("manifest.json", manifest),
            ("index.json", index),
            ("repositories", br#"{"a/b":{"1":"x"}}"#),
            ("l/manifest.json", b"not ours"),
        ]);
        for piece in [1, 511, 512, 700, whole.len()] {
            let mut untag = ImageArchiveRewriter::new();
            let mut out = Vec::new();
            for bytes in whole.chunks(piece) {
                out.extend(untag.feed(bytes).unwrap());
            }
            let listed = untag.finish().unwrap();
            assert_eq!(listed[0].tags, ["a/b:1", "c:2"], "{piece}");
            assert_eq!(listed[0].config, "abc.json");
            let found = members(&out);
            assert_eq!(found[0].1, layer);
            let manifest: Value = serde_json::from_slice(&found[1].1).unwrap();
            assert_eq!(manifest[0]["RepoTags"], Value::Null);
            assert_eq!(manifest[0]["Layers"][0], "l/layer.tar");
            assert_eq!(found[2].1, br#"{"manifests":[{"annotations":{"x":"y"}}]}"#);
            assert_eq!(found[3].1, b"{}");
            assert_eq!(found[4].1, b"not ours");
            assert_eq!(out.len() % BLOCK, 0);
        }
    }

    #[test]
    fn what_is_no_such_archive_is_refused() {
        let mut cut = ImageArchiveRewriter::new();
        cut.feed(&archive(&[("manifest.json", b"[]")])[..700])
            .unwrap();
        assert_eq!(
            cut.finish().unwrap_err().kind(),
            io::ErrorKind::UnexpectedEof
        );
        let mut other = ImageArchiveRewriter::new();
        other.feed(&archive(&[("x", b"y")])).unwrap();
        assert!(
            other
                .finish()
                .unwrap_err()
                .to_string()
                .contains("docker save")
        );
        let mut broken = ImageArchiveRewriter::new();
        assert!(broken.feed(&archive(&[("manifest.json", b"{")])).is_err());
    }
}
