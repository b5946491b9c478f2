//! The archive of `docker save`, with the names of its images taken out on the way.
//!
//! An engine gives an image the names that its archive says as it loads it, which would change
//! what a service's next task runs while everything is still being prepared.

use std::io;

use bytes::Bytes;
use serde_json::Value;

const BLOCK: usize = 512;

/// No list of images is larger.
const LARGEST: u64 = 16 << 20;

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
    listed: Option<Vec<Listed>>,
}

impl ImageArchiveRewriter {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Header(Vec::new()),
            held: Vec::new(),
            holding: false,
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
        let size = number(header.get(124..136).unwrap_or_default())
            .ok_or_else(|| bad("a member's size cannot be read"))?;
        let kind = header.get(156).copied().unwrap_or(0);
        let name = text(header.get(..100).unwrap_or_default());
        let prefix = match header.get(257..262) {
            Some(b"ustar") => text(header.get(345..500).unwrap_or_default()),
            _ => String::new(),
        };
        let special = prefix.is_empty()
            && matches!(kind, 0 | b'0')
            && ["manifest.json", "repositories", "index.json"]
                .contains(&name.trim_start_matches("./"));
        if special {
            if size > LARGEST {
                return Err(bad("its list of images is too long"));
            }
            // What was said of it beforehand is said of what takes its place no more.
            self.held.clear();
            self.state = State::Hold {
                header,
                size,
                content: Vec::new(),
            };
            return if size == 0 { self.rewrite(out) } else { Ok(()) };
        }
        if matches!(kind, b'x' | b'L' | b'K') {
            if size > LARGEST {
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
        let new = match name.trim_start_matches("./") {
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
        .ok_or_else(|| bad("its list of images is none"))?;
    images
        .iter_mut()
        .map(|image| {
            let image = image
                .as_object_mut()
                .ok_or_else(|| bad("its list of images is none"))?;
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
            let mut header = vec![0; BLOCK];
            write(&mut header, 0, name.as_bytes());
            write(
                &mut header,
                124,
                format!("{:011o}\0", content.len()).as_bytes(),
            );
            write(&mut header, 156, b"0");
            archive.extend(header);
            archive.extend(*content);
            archive.resize(archive.len().next_multiple_of(BLOCK), 0);
        }
        archive.resize(archive.len() + 2 * BLOCK, 0);
        archive
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
