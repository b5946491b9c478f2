//! Which of many cases the tests try, where each of them takes seconds.
//!
//! With `RESTORE_TEST_EXHAUSTIVE=1` all of them. Else one of each kind and some of the rest. Which
//! ones follows from a seed, any text, and that from the commit: the next commit tries others. The
//! seed is printed, and `RESTORE_TEST_SEED` repeats the choice.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What this run of the tests tries.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    seed: &'static str,
    exhaustive: bool,
    part: usize,
}

/// The part of a test of the cases that it shares with others: the second of three.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    number: usize,
    of: usize,
}

impl Share {
    /// All of them.
    pub const WHOLE: Self = Self::new(1, 1);

    /// The part with this number, counted from 1.
    ///
    /// # Panics
    ///
    /// Where there is no such part.
    pub const fn new(number: usize, of: usize) -> Self {
        assert!(number >= 1 && number <= of, "there is no such part");
        Self { number, of }
    }
}

impl Sample {
    /// As the environment says.
    pub fn of_this_run() -> Self {
        Self {
            seed: seed(),
            exhaustive: std::env::var_os("RESTORE_TEST_EXHAUSTIVE").is_some_and(|it| it == "1"),
            part: 1,
        }
    }

    /// The same where a case takes many seconds: of every `part` kinds one, and of the rest as many
    /// fewer, so that each kind is tried every few commits.
    #[must_use]
    pub fn one_kind_of(self, part: usize) -> Self {
        Self { part, ..self }
    }

    /// Whether all cases are tried.
    pub fn is_exhaustive(self) -> bool {
        self.exhaustive
    }

    /// The same where all cases are never tried: there are too many of them, whoever asks.
    #[must_use]
    pub fn of_each_kind(self) -> Self {
        Self {
            exhaustive: false,
            ..self
        }
    }

    /// The cases to try, in their order: one of each kind, and `more` of the rest, or a part of these
    /// where [`one_kind_of`](Self::one_kind_of) says so. Those that share
    /// them choose the same, whatever the order in which each of them lists the cases.
    pub fn choose<T>(
        self,
        cases: impl IntoIterator<Item = T>,
        name: impl Fn(&T) -> String,
        kind: impl Fn(&T) -> String,
        more: usize,
        share: Share,
    ) -> Vec<T> {
        let all = cases.into_iter().enumerate();
        let mut all: Vec<(u64, usize, T)> = all
            .map(|(at, case)| (self.hash(&name(&case)), at, case))
            .collect();
        let count = all.len();
        all.sort_by_key(|(hash, at, _)| (*hash, *at));
        let chosen = match self.exhaustive {
            true => all,
            false => {
                let mut kinds = BTreeSet::new();
                let (mut first, rest): (Vec<_>, Vec<_>) = all
                    .into_iter()
                    .partition(|(.., case)| kinds.insert(kind(case)));
                let few = |count: usize| count.div_ceil(self.part.max(1));
                // By the kind: one of many cases would else come before one of few.
                first.sort_by_key(|(.., case)| self.hash(&kind(case)));
                first.truncate(few(first.len()));
                first.extend(rest.into_iter().take(few(more)));
                first
            }
        };
        let total = chosen.len();
        let own = chosen.into_iter().skip(share.number - 1).step_by(share.of);
        let mut own: Vec<(u64, usize, T)> = own.collect();
        own.sort_by_key(|(_, at, _)| *at);
        println!(
            "{} of {count} cases, {} of them here: {}",
            total,
            own.len(),
            self.how_to_repeat()
        );
        own.into_iter().map(|(.., case)| case).collect()
    }

    /// What to set in the environment to try the same again.
    pub fn how_to_repeat(self) -> String {
        let seed = format!("RESTORE_TEST_SEED={}", self.seed);
        match self.exhaustive {
            true => format!("RESTORE_TEST_EXHAUSTIVE=1 {seed}"),
            false => seed,
        }
    }

    /// Numbers that follow from the seed.
    pub fn random(self) -> Random {
        println!("RESTORE_TEST_SEED={}", self.seed);
        Random(self.hash(""))
    }

    /// FNV-1a of the seed and the name, mixed well.
    fn hash(self, name: &str) -> u64 {
        let bytes = self.seed.bytes().chain([0]).chain(name.bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Random(hash).next()
    }
}

/// Numbers as good as random for a test (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Until when something random goes on that `make test` tries a few times: as long as
/// `RESTORE_SOAK_MINUTES` says.
///
/// # Panics
///
/// Where it is not a number.
pub fn soak_until() -> Option<Instant> {
    let minutes = std::env::var("RESTORE_SOAK_MINUTES").ok()?;
    let minutes: f64 = minutes
        .parse()
        .unwrap_or_else(|_| panic!("RESTORE_SOAK_MINUTES={minutes}: not a number of minutes"));
    Some(Instant::now() + Duration::from_secs_f64(minutes * 60.0))
}

/// What is asked for; else the commit; else, as in the sources of a release, always the same.
fn seed() -> &'static str {
    static SEED: OnceLock<String> = OnceLock::new();
    SEED.get_or_init(|| {
        let asked = std::env::var("RESTORE_TEST_SEED").ok();
        let asked = asked.filter(|seed| !seed.is_empty());
        asked
            .or_else(commit)
            .unwrap_or_else(|| "restore".to_owned())
    })
}

fn commit() -> Option<String> {
    // The repository may be another user's than the one who runs the tests.
    let said = Command::new("git")
        .args(["-c", "safe.directory=*", "-C", env!("CARGO_MANIFEST_DIR")])
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let commit = said.trim();
    (!commit.is_empty()).then(|| commit.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> String {
        name.split(' ').next().unwrap_or_default().to_owned()
    }

    fn chosen(seed: &'static str, exhaustive: bool, cases: &[String], share: Share) -> Vec<String> {
        let sample = Sample {
            seed,
            exhaustive,
            part: 1,
        };
        sample.choose(cases.to_vec(), String::clone, |name| kind(name), 4, share)
    }

    fn cases() -> Vec<String> {
        let kinds = [("a", 20), ("b", 1), ("c", 9)];
        let names = kinds.map(|(kind, count)| {
            let names = (0..count).map(|n| format!("{kind} {n}"));
            names.collect::<Vec<_>>()
        });
        names.concat()
    }

    /// One of each kind, so many more, and others with another seed.
    #[test]
    fn each_kind_is_chosen_once_and_some_of_the_rest() {
        let mut tried = BTreeSet::new();
        for seed in 0..50 {
            let seed = seed.to_string().leak();
            let few = chosen(seed, false, &cases(), Share::WHOLE);
            assert_eq!(few.len(), 7, "{few:?}");
            for wanted in ["a", "b", "c"] {
                assert!(few.iter().any(|it| kind(it) == wanted), "{wanted}: {few:?}");
            }
            let places = few.iter().map(|it| cases().iter().position(|of| of == it));
            assert!(places.is_sorted(), "{few:?}");
            tried.extend(few);
        }
        assert_eq!(tried.len(), 30, "all come at some time");
        assert_eq!(chosen("7", true, &cases(), Share::WHOLE), cases());
    }

    /// Of every three kinds one, another with another seed; all of them where all is asked for.
    #[test]
    fn a_part_of_the_kinds_is_chosen() {
        let mut tried = BTreeSet::new();
        for seed in 0..50 {
            let part = |exhaustive| {
                let seed = seed.to_string().leak();
                let sample = Sample {
                    seed,
                    exhaustive,
                    part: 3,
                };
                let kind = |name: &String| kind(name);
                sample.choose(cases(), String::clone, kind, 2, Share::WHOLE)
            };
            let few = part(false);
            assert_eq!(few.len(), 2, "{few:?}");
            tried.extend(few);
            assert_eq!(part(true), cases());
        }
        let kinds: BTreeSet<String> = tried.iter().map(|name| kind(name)).collect();
        assert_eq!(kinds.len(), 3, "each kind comes at some time");
    }

    /// Whoever lists them in another order chooses the same; together they try all that is chosen.
    #[test]
    fn those_that_share_them_leave_none_out() {
        for exhaustive in [false, true] {
            let mut whole = chosen("3", exhaustive, &cases(), Share::WHOLE);
            let mut other = cases();
            other.reverse();
            let mut parts = chosen("3", exhaustive, &cases(), Share::new(1, 3));
            parts.extend(chosen("3", exhaustive, &other, Share::new(2, 3)));
            parts.extend(chosen("3", exhaustive, &cases(), Share::new(3, 3)));
            whole.sort();
            parts.sort();
            assert_eq!(whole, parts);
        }
    }
}
