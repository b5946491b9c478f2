//! A function for each reader of foreign bytes, for `fuzz/` and the tests with fixed seeds: whatever
//! the bytes are, it ends soon, without a panic, and what it checks besides holds.

use std::fs::File;
use std::io::{Seek, Write};

use crate::archive::{Source, UnpackPolicy};
use crate::contract::{Manifest, SiteConfig};
use crate::model::Progress;

/// A reader: its name, which is that of its folder of the corpus, and the function.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[Target] = &[
    ("acl", crate::archive::fuzz_acl),
    ("agent", crate::platforms::docker::agent::fuzz),
    (
        "agent-exchange",
        crate::platforms::docker::agent::fuzz_exchange,
    ),
    ("archive", archive),
    ("compose-file", crate::platforms::swarm::fuzz_compose),
    ("configuration", configuration),
    ("contents", crate::components::postgres::fuzz_contents),
    ("crontab", crate::components::crontab::fuzz),
    ("description", crate::contract::backup::fuzz_description),
    ("dump", crate::components::postgres::fuzz),
    ("globals", crate::components::postgres::fuzz_globals),
    ("image", crate::platforms::swarm::fuzz),
    ("listing", crate::components::postgres::fuzz_listing),
    ("manifest", manifest),
    ("nginx", crate::maintenance::fuzz),
    ("openpgp", crate::backup::unlock::fuzz),
    ("redis", crate::components::redis::fuzz),
    (
        "redis-configuration",
        crate::components::redis::fuzz_configuration,
    ),
    ("sftp", crate::stores::ssh::fuzz),
    ("signing-in", crate::sys::connect::fuzz),
    ("swap-record", crate::swap::fuzz),
    ("tar-dump", crate::contract::backup::tar_dump::fuzz),
    ("wal", crate::components::postgres::wal::fuzz),
];

/// The first line of an SQL dump for which its reader refuses it: a command that psql would obey, or
/// something of which it cannot be told what psql takes it for.
pub fn dump_refused(bytes: &[u8]) -> Option<u64> {
    crate::components::postgres::refused(bytes)
}

fn manifest(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else {
        return;
    };
    if let Ok(text) = manifest.to_text() {
        assert!(Manifest::parse(text.as_bytes()).is_ok());
    }
}

fn configuration(bytes: &[u8]) {
    let _ = SiteConfig::from_toml(&String::from_utf8_lossy(bytes));
}

/// Every member and the policy, through decompression.
fn archive(bytes: &[u8]) {
    let policy = UnpackPolicy {
        prefix: "srv".to_owned(),
        live_root: "/srv".into(),
        max_members: 1000,
        max_bytes: 1 << 20,
        ..UnpackPolicy::default()
    };
    let Ok(file) = rustix::fs::memfd_create("archive", rustix::fs::MemfdFlags::CLOEXEC) else {
        return;
    };
    let mut file = File::from(file);
    if file.write_all(bytes).and_then(|()| file.rewind()).is_err() {
        return;
    }
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
    else {
        return;
    };
    let source = Source::from_file(file, "it", None, None);
    let _ = runtime.block_on(crate::archive::walk(source, &policy, Progress::hidden()));
}

/// Bytes made of some of a corpus by a few changes, and a number for the next call. The same number
/// makes the same bytes.
pub fn mutate(corpus: &[Vec<u8>], state: u64) -> (Vec<u8>, u64) {
    let mut random = Random(state);
    let mut bytes = random.pick(corpus).cloned().unwrap_or_default();
    for _ in 0..=random.below(4) {
        change(&mut bytes, corpus, &mut random);
    }
    bytes.truncate(LARGEST);
    (bytes, random.next())
}

/// No case is larger.
const LARGEST: usize = 64 * 1024;

/// What readers are apt to stumble over.
const TOKENS: &[&[u8]] = &[
    b"\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff",
    b"18446744073709551615",
    b"9223372036854775808",
    b"-1",
    b"..",
    b"/",
    b"\n",
    b"\r\n",
    b"'",
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b";",
    b"$$",
    b"--",
    b"/*",
    b"\\.",
    b"*",
    b"$6",
    b"#TS:",
    b"77777777777",
];

fn change(bytes: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let length = random.below(32).min(bytes.len() - at);
    match random.below(8) {
        0 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            let value = u8::try_from(random.below(256)).unwrap_or(0);
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        2 => {
            bytes.drain(at..at + length);
        }
        3 => {
            let again: Vec<u8> = bytes.iter().skip(at).take(length).copied().collect();
            bytes.splice(at..at, again.repeat(1 + random.below(4)));
        }
        4 | 5 => {
            let token = random.pick(TOKENS).copied().unwrap_or_default();
            bytes.splice(at..at, token.iter().copied());
        }
        6 => bytes.truncate(at),
        _ => {
            let other = random.pick(corpus).cloned().unwrap_or_default();
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend(other.iter().skip(from));
        }
    }
}

/// A generator of numbers, good enough to choose by.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        all.get(self.below(all.len()))
    }
}
