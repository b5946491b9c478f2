//! What is said between a [`RemoteVolume`](super::RemoteVolume) and its agent: one line of JSON
//! for the request, followed by the archive where one is staged; lines of JSON back.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, ErrorKind};
use crate::platform::{Discard, SwapScope};
use crate::run::RunId;
use crate::stream::{Digest, PackPolicy, UnpackPolicy};

/// Both ends are of one version: what is said has no other promise.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) version: String,
    pub(super) what: What,
}

impl Request {
    pub(super) fn new(what: What) -> Self {
        Self {
            version: VERSION.to_owned(),
            what,
        }
    }
}

/// The methods of a volume.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    FreeSpace,
    State {
        run: RunId,
    },
    /// The archive follows, to the end of the input.
    Unpack {
        run: RunId,
        label: String,
        size: Option<u64>,
        expected: Option<Digest>,
        policy: Box<UnpackPolicy>,
    },
    LeaveOut {
        run: RunId,
        patterns: Vec<String>,
    },
    RunFolders,
    Swap {
        run: RunId,
        scope: SwapScope,
    },
    Unswap {
        run: RunId,
    },
    Discard {
        run: RunId,
        what: Discard,
    },
    Compare {
        run: RunId,
    },
    /// The archive comes in the answer, in pieces.
    Pack {
        label: String,
        policy: Box<PackPolicy>,
    },
    Measure {
        except: Vec<String>,
    },
    /// A component's own work; the file that goes along, where there is one, follows to the end of
    /// the input.
    Errand {
        kind: String,
        order: Value,
        along: Option<Along>,
    },
}

/// What is known of a file that follows a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Along {
    pub(super) label: String,
    pub(super) size: Option<u64>,
    pub(super) expected: Option<Digest>,
}

/// One line of the answer; the last is `Done` or `Failed`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// So many bytes of the archive, or of the step, are done by now.
    Progress(u64),
    /// A step of an errand begins, with so many bytes in all.
    Step(String, Option<u64>),
    /// So many bytes of an archive follow the line.
    Data(usize),
    Done(Value),
    Failed(Failure),
}

/// An [`Error`] on its way.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Failure {
    kind: ErrorKind,
    code: String,
    message: String,
    hint: Option<String>,
    retryable: bool,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            kind: error.kind(),
            code: error.code().to_owned(),
            message: error.message().to_owned(),
            hint: error.hint_text().map(str::to_owned),
            retryable: error.is_retryable(),
        }
    }
}

impl Failure {
    /// The error, told to have happened at `place`.
    pub(super) fn at(self, place: &str) -> Error {
        let mut error = Error::new(self.kind, self.code, self.message).context(place);
        if let Some(hint) = self.hint {
            error = error.hint(hint);
        }
        if self.retryable {
            error = error.retryable();
        }
        error
    }
}
