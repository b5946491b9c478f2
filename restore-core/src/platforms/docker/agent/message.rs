//! What is said between a [`RemoteVolume`](super::RemoteVolume) and its agent: one line of JSON
//! for the request, followed by the archive where one is staged; lines of JSON back.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::archive::{Digest, PackPolicy, UnpackPolicy};
use crate::model::{Error, ErrorKind, RunId};
use crate::swap::RecordKey;
use crate::swap::scope::{Discard, SwapScope};

/// Both ends are of one version: what is said has no other promise.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) version: String,
    /// What the list of a swap beside the volume is sealed with, in hexadecimal digits.
    #[serde(default)]
    pub(super) seal: Option<String>,
    pub(super) what: VolumeMethod,
}

impl Request {
    pub(super) fn new(what: VolumeMethod, seal: Option<&RecordKey>) -> Self {
        Self {
            version: VERSION.to_owned(),
            seal: seal.map(RecordKey::digits),
            what,
        }
    }
}

/// The methods of a volume.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum VolumeMethod {
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
    Kept {
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
    /// A component's own work (of a run); the file that goes along, where there is one, follows to
    /// the end of the input.
    RemoteTask {
        run: Option<RunId>,
        kind: String,
        order: Value,
        along: Option<Attachments>,
    },
}

impl VolumeMethod {
    /// The run that it is about.
    pub(super) fn run(&self) -> Option<&RunId> {
        match self {
            Self::State { run }
            | Self::Unpack { run, .. }
            | Self::LeaveOut { run, .. }
            | Self::Swap { run, .. }
            | Self::Unswap { run }
            | Self::Discard { run, .. }
            | Self::Compare { run }
            | Self::Kept { run } => Some(run),
            Self::RemoteTask { run, .. } => run.as_ref(),
            Self::FreeSpace | Self::RunFolders | Self::Pack { .. } | Self::Measure { .. } => None,
        }
    }

    /// Whether it may write the first list of the run.
    pub(super) fn begins(&self) -> bool {
        matches!(
            self,
            Self::Unpack { .. } | Self::RemoteTask { .. } | Self::Swap { .. }
        )
    }
}

/// What is known of a file that follows a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Attachments {
    pub(super) label: String,
    pub(super) size: Option<u64>,
    pub(super) expected: Option<Digest>,
}

/// One line of the answer; the last is `Done` or `Failed`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// What is asked was read.
    Heard,
    /// So many bytes of the archive, or of the step, are done by now.
    Progress(u64),
    /// A step of a remote task begins, with so many bytes in all.
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

/// For `fuzz/`: foreign bytes, in pieces and whole.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request>(bytes) {
        let _ = (request.what.run(), request.what.begins());
    }
    if let Ok(Reply::Failed(failure)) = serde_json::from_slice::<Reply>(bytes) {
        let _ = failure.at("there");
    }
}
