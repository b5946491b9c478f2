//! What `gpg` says on its status lines, and what it comes to.

use super::framing::{Form, Seen};
use crate::model::{Error, ErrorKind};

/// The begin of each status line.
const MARK: &str = "[GNUPG:] ";

/// The words of the status lines, and all other lines, which are for people.
pub(super) fn split(said: &str) -> (Vec<&str>, Vec<&str>) {
    let mut status = Vec::new();
    let mut words = Vec::new();
    for line in said.lines() {
        match line.strip_prefix(MARK) {
            Some(line) => status.push(line),
            None => words.push(line),
        }
    }
    (status, words)
}

/// What GnuPG before 2.3 says of a part encrypted with OCB whose sum is wrong; that nothing is right then it does
/// not say on its status lines.
const WRONG_SUM: &str = "checktag";

/// Whether a decryption gave all of the message, unchanged; else why it did not. `seen`: what the message's own
/// packets say.
pub(super) fn verdict(label: &str, said: &str, success: bool, seen: Seen) -> Result<(), Error> {
    let (status, words) = split(said);
    let cut = seen.cut;
    let has = |keyword: &str| {
        status
            .iter()
            .any(|line| line.split(' ').next() == Some(keyword))
    };
    let wrong_sum = words.iter().any(|line| line.contains(WRONG_SUM));
    let whole = has("PLAINTEXT") && has("DECRYPTION_OKAY") && has("END_DECRYPTION");
    if whole && success && !cut && !wrong_sum {
        return Ok(());
    }
    let error = |code, message: String, hint: &str| {
        Err(Error::new(ErrorKind::Verification, code, message).hint(hint))
    };
    const COPY: &str = "copy it again from where it was made, or choose another backup";
    let key = status
        .iter()
        .find_map(|line| line.strip_prefix("NO_SECKEY "));
    let bad_passphrase = said.contains("BAD_PASSPHRASE")
        || said.contains("Bad passphrase")
        || said.contains("Bad session key");
    if !has("PLAINTEXT") {
        if said.contains("No pinentry") || has("MISSING_PASSPHRASE") || has("CANCELED_BY_USER") {
            return Err(Error::new(
                ErrorKind::Config,
                "unlock.no_passphrase",
                format!("{label} needs a passphrase, and the store names none"),
            )
            .hint("name it with passphrase_file or passphrase_env in the store's section"));
        }
        if let Some(key) = key {
            return Err(Error::new(
                ErrorKind::Config,
                "unlock.no_key",
                format!("{label} is encrypted to the key {key}, whose secret part is not here"),
            )
            .hint("import the secret key into this user's keyring, or name the keyring with gnupg_home"));
        }
        if cut {
            return error(
                "unlock.truncated",
                format!("{label} is cut off: the encrypted message ends too early"),
                COPY,
            );
        }
        if bad_passphrase || (has("NEED_PASSPHRASE_SYM") && has("DECRYPTION_FAILED")) {
            return error(
                "unlock.wrong_passphrase",
                format!("the passphrase does not unlock {label}"),
                "look at the store's passphrase_file or passphrase_env: only its first line counts; \
                 the backup may be older than the passphrase",
            );
        }
        if wrong_sum && has("NEED_PASSPHRASE_SYM") {
            return error(
                "unlock.wrong_passphrase",
                format!(
                    "the passphrase does not unlock {label}, or it was changed since it was encrypted"
                ),
                "look at the store's passphrase_file or passphrase_env: only its first line counts; \
                 the backup may be older than the passphrase",
            );
        }
        if !has("BEGIN_DECRYPTION")
            && let Some(error) = unknown_form(label, seen.form)
        {
            return Err(error);
        }
        if has("NODATA") && !has("BEGIN_DECRYPTION") {
            return error(
                "unlock.not_encrypted",
                format!("{label} is not an OpenPGP message"),
                COPY,
            );
        }
    }
    if cut {
        return error(
            "unlock.truncated",
            format!("{label} is cut off: the encrypted message ends too early"),
            COPY,
        );
    }
    // `DECRYPTION_INFO 0 9 0`: neither a modification detection code nor authenticated. The first
    // one is the message's: behind a changed length anything may look like another message.
    let info = status
        .iter()
        .find_map(|line| line.strip_prefix("DECRYPTION_INFO "));
    let is_ocb = wrong_sum || seen.form == Form::Ocb;
    let unprotected = info.filter(|_| !is_ocb).is_some_and(|info| {
        let mut fields = info.split(' ');
        fields.next() == Some("0") && fields.nth(1).is_none_or(|aead| aead == "0")
    });
    if unprotected {
        return error(
            "unlock.unprotected",
            format!(
                "{label} was encrypted without integrity protection: nobody can tell whether it was changed"
            ),
            "if you trust it all the same, decrypt it by hand (`gpg --ignore-mdc-error`) and restore what comes out",
        );
    }
    // The message is inflated while it is decrypted, before its integrity is known: where a change
    // leaves something that does not inflate, gpg gives up there and says no more.
    let gave_up =
        !has("END_DECRYPTION") && words.iter().any(|line| line.contains("inflate problem"));
    if has("BADMDC") || has("DECRYPTION_FAILED") || gave_up || wrong_sum {
        return error(
            "unlock.modified",
            format!("{label} was changed since it was encrypted: its integrity check fails"),
            COPY,
        );
    }
    if has("DECRYPTION_OKAY") {
        return error(
            "unlock.trailing",
            format!("{label} holds something else behind the encrypted message"),
            COPY,
        );
    }
    let last = words
        .iter()
        .rfind(|line| !line.trim().is_empty())
        .map_or_else(String::new, |line| format!(": {}", line.trim()));
    Err(Error::new(
        ErrorKind::Failed,
        "unlock.failed",
        format!("gpg could not decrypt {label}{last}"),
    )
    .hint("try `gpg --decrypt` on it by hand, as this user"))
}

/// That this host's gpg does not know how a message is encrypted; `None` where every version does.
fn unknown_form(label: &str, form: Form) -> Option<Error> {
    let (what, hint) = match form {
        Form::Usual => return None,
        Form::Ocb => (
            "was encrypted with OCB by a newer GnuPG, which the gpg of this host does not read",
            "install GnuPG 2.2.21 or later here (`gpg --version`); or have backups encrypted for every version: `gpg --rfc4880 --symmetric`",
        ),
        Form::Rfc9580 => (
            "was encrypted in the form of RFC 9580, which GnuPG does not read",
            "decrypt it with the program that made it (`sq decrypt`) and put the archive without .gpg into the store; or have backups encrypted by `gpg --symmetric`",
        ),
    };
    let error = Error::new(
        ErrorKind::Config,
        "unlock.newer_form",
        format!("{label} {what}"),
    );
    Some(error.hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(cut: bool, form: Form) -> Seen {
        Seen { cut, form }
    }

    fn usual(cut: bool) -> Seen {
        seen(cut, Form::Usual)
    }

    /// As GnuPG 2.2.40 speaks of them.
    #[test]
    fn messages_with_ocb_are_not_taken_for_unprotected_ones() {
        let begun = "gpg: encrypted with 1 passphrase\n[GNUPG:] NEED_PASSPHRASE_SYM 9 3 8\n\
                     [GNUPG:] BEGIN_DECRYPTION\n[GNUPG:] DECRYPTION_INFO 0 9 0\n";
        let text = "[GNUPG:] PLAINTEXT 62 0 \n";
        let wrong = "gpg: gcry_cipher_checktag failed: Checksum error\n\
                     gpg: [don't know]: invalid packet (ctb=00)\n[GNUPG:] NODATA 3\n";
        let ended = "[GNUPG:] DECRYPTION_OKAY\n[GNUPG:] GOODMDC\n[GNUPG:] END_DECRYPTION\n";
        let code = |said: &str, success: bool, seen: Seen| match verdict("x", said, success, seen) {
            Ok(()) => "good".to_owned(),
            Err(error) => error.code().to_owned(),
        };
        let ocb = seen(false, Form::Ocb);
        assert_eq!(code(&format!("{begun}{text}{ended}"), true, ocb), "good");
        // In text nobody has seen which form it has.
        for seen in [ocb, usual(false)] {
            let early = format!("{begun}{wrong}{ended}");
            assert_eq!(code(&early, false, seen), "unlock.wrong_passphrase");
            let late = format!("{begun}{text}{wrong}{ended}");
            assert_eq!(code(&late, false, seen), "unlock.modified");
        }
        // A message without content, of which it finds nothing wrong.
        let nothing = format!("{begun}[GNUPG:] NODATA 2\n{ended}");
        assert_ne!(code(&nothing, true, ocb), "good");
        let cut = format!("{begun}{text}{wrong}{ended}");
        assert_eq!(code(&cut, false, seen(true, Form::Ocb)), "unlock.truncated");
    }

    #[test]
    fn what_this_gpg_does_not_know_is_told_with_what_does() {
        let said = "gpg: packet(3) with unknown version 6\n[GNUPG:] NODATA 3\n";
        for (form, code, hint) in [
            (Form::Ocb, "unlock.newer_form", "GnuPG 2.2.21"),
            (Form::Rfc9580, "unlock.newer_form", "sq decrypt"),
            (Form::Usual, "unlock.not_encrypted", "copy it again"),
        ] {
            let error = verdict("x", said, false, seen(false, form)).unwrap_err();
            assert_eq!(error.code(), code);
            let told = error.hint_text().unwrap();
            assert!(told.contains(hint), "{told}");
        }
    }

    #[test]
    fn what_no_longer_inflates_was_changed() {
        let said = "gpg: AES256.CFB encrypted data\n[GNUPG:] BEGIN_DECRYPTION\n\
                    [GNUPG:] DECRYPTION_INFO 2 9 0\n[GNUPG:] PLAINTEXT 62 1 x\n\
                    gpg: Fatal: zlib inflate problem: invalid stored block lengths\n";
        for (cut, code) in [(false, "unlock.modified"), (true, "unlock.truncated")] {
            assert_eq!(
                verdict("x", said, false, usual(cut)).unwrap_err().code(),
                code,
                "{cut}"
            );
        }
    }

    #[test]
    fn what_looks_like_a_message_inside_a_changed_one_is_none() {
        let outer = "[GNUPG:] BEGIN_DECRYPTION\n[GNUPG:] DECRYPTION_INFO 2 9 0\n\
                     [GNUPG:] PLAINTEXT 62 1 x\n";
        let inner = "[GNUPG:] DECRYPTION_INFO 0 9 0\n[GNUPG:] DECRYPTION_FAILED\n";
        let code = |said: &str| {
            let error = verdict("x", said, false, usual(false)).unwrap_err();
            error.code().to_owned()
        };
        assert_eq!(code(&format!("{outer}{inner}")), "unlock.modified");
        let alone = format!("[GNUPG:] BEGIN_DECRYPTION\n[GNUPG:] PLAINTEXT 62 1 x\n{inner}");
        assert_eq!(code(&alone), "unlock.unprotected");
    }

    #[test]
    fn success_is_believed_only_when_all_of_it_says_so() {
        let good = "[GNUPG:] BEGIN_DECRYPTION\n[GNUPG:] PLAINTEXT 62 1 x\n\
                    [GNUPG:] DECRYPTION_OKAY\n[GNUPG:] GOODMDC\n[GNUPG:] END_DECRYPTION\n";
        assert!(verdict("x", good, true, usual(false)).is_ok());
        assert_eq!(
            verdict("x", good, false, usual(false)).unwrap_err().code(),
            "unlock.trailing"
        );
        assert_eq!(
            verdict("x", good, true, usual(true)).unwrap_err().code(),
            "unlock.truncated"
        );
        assert_eq!(
            verdict("x", "", true, usual(false)).unwrap_err().code(),
            "unlock.failed"
        );
        assert_eq!(
            verdict(
                "x",
                "gpg: no: [GNUPG:] DECRYPTION_OKAY\n",
                true,
                usual(false)
            )
            .unwrap_err()
            .code(),
            "unlock.failed"
        );
    }
}
