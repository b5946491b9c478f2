//! Whether the service that works with a tree can read and write what is restored for it.

use crate::archive::{Reader, Unpacked};
use crate::contract::Platform;
use crate::model::Finding;
use crate::sys::process::account;

/// Whom the service of a component runs as, where that is known. Root reads and writes everything; and
/// where we are not root, all that is unpacked becomes ours.
pub(super) async fn of(platform: &dyn Platform, service: Option<&str>) -> Option<Reader> {
    let service = service?;
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let (uid, gid) = platform.owner(service).await.ok().flatten()?;
    (uid != 0).then(|| Reader {
        uid,
        groups: platform
            .runs_here(service)
            .then(|| account::groups(uid, gid)),
    })
}

/// What is to be said of files and directories that the service of a component cannot work with: some
/// that it cannot read, or of a tree that is its own none that it can write.
pub(super) fn finding(
    (component, found): (&str, &str),
    (service, reader): (Option<&str>, Option<&Reader>),
    unpacked: &Unpacked,
    owner: Option<(u32, u32)>,
) -> Option<Finding> {
    let (service, reader) = (service?, reader?);
    let all = unpacked.files.saturating_add(unpacked.directories);
    let own = owner.is_some_and(|(uid, _)| uid == reader.uid);
    // The tree itself is there already.
    let any = unpacked.files > 0 || unpacked.directories > 1;
    let writes_none = own && any && unpacked.writable == 0;
    let cannot = match (unpacked.unreadable, writes_none) {
        (0, false) => return None,
        (0, true) => format!("can write none of {all} files and directories"),
        (many, false) => format!("cannot read {many} of {all} files and directories"),
        (many, true) => {
            format!("cannot read {many} of {all} files and directories, and can write none of them")
        }
    };
    let user = account::name(reader.uid);
    Some(
        Finding::warning(
            "volume.foreign_owner",
            found,
            format!("{user}, whom {service} runs as, {cannot}: they are for others"),
        )
        .hint(format!(
            "give them to the service: user = {0} and group = NUMBER in [components.{component}], or owners = \"volume\" there where the live tree is its own",
            reader.uid
        )),
    )
}

/// What is to be said where an archive has files that the service works with, and nothing of the directory that
/// they lie in, which is one that the service cannot write in.
pub(super) fn closed(
    (component, found): (&str, &str),
    (service, reader): (Option<&str>, Option<&Reader>),
    unpacked: &Unpacked,
) -> Option<Finding> {
    let (service, reader) = (service?, reader?);
    if !unpacked.closed || unpacked.writable == 0 {
        return None;
    }
    let user = account::name(reader.uid);
    let message = format!(
        "the archive has no member for the volume's own directory (`./`), which keeps its live owner and mode: {user}, whom {service} runs as, cannot write in it"
    );
    Some(
        Finding::warning("volume.closed", found, message).hint(format!(
            "where {service} makes files there, give the directory of the volume of [components.{component}] to it: `chown {} DIRECTORY`; archives that are made with `tar -C DIRECTORY -cf ARCHIVE .` have it",
            reader.uid
        )),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_service_cannot_work_with_is_told_with_numbers() {
        let reader = Reader {
            uid: 64_999,
            groups: None,
        };
        let said = |unreadable: u64, writable: u64, owner: u32| {
            let mut unpacked = Unpacked::default();
            (unpacked.files, unpacked.directories) = (3, 1);
            (unpacked.unreadable, unpacked.writable) = (unreadable, writable);
            let of = (Some("app"), Some(&reader));
            finding(("up", "a.tar.gz"), of, &unpacked, Some((owner, 0))).map(|it| it.message)
        };
        let told = said(2, 0, 64_999).unwrap();
        assert!(told.contains("64999, whom app runs as, cannot read 2 of 4"));
        assert!(told.contains("can write none"), "{told}");
        let told = said(0, 0, 64_999).unwrap();
        assert!(told.contains("can write none of 4"), "{told}");
        // Of a tree that is not its own it need not write anything.
        assert_eq!(said(0, 0, 0), None);
        assert_eq!(said(0, 1, 64_999), None);
        assert!(said(1, 3, 0).is_some());
    }
}
