//! Pages of the manual from the little Markdown of `docs/help`: paragraphs, lists, and lines that are set
//! in by four blanks, which stay as they are.

/// The head of a page and its first section. `what` follows the name in the lists of `apropos`.
pub(super) fn begin(name: &str, section: u8, what: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!(
        ".TH {} {section} \"\" \"restore {version}\" \"restore\"\n.SH NAME\n{} \\- {}\n",
        line(name),
        line(name),
        line(what)
    )
}

/// A section. Its title is in capitals, as in all pages of the manual.
pub(super) fn section(title: &str, body: &str) -> String {
    let mut out = format!(
        ".SH \"{}\"\n",
        line(&title.to_uppercase()).replace('"', "\\(dq")
    );
    let mut kept = false;
    let mut fresh = true;
    for text in body.lines() {
        if let Some(code) = text.strip_prefix("    ") {
            if !kept {
                out += ".PP\n.nf\n";
                kept = true;
            }
            out += &format!("{}\n", line(code));
            continue;
        }
        if kept && text.is_empty() {
            out.push('\n');
            continue;
        }
        if kept {
            out = out.trim_end().to_owned() + "\n.fi\n";
            (kept, fresh) = (false, true);
        }
        match mark(text) {
            _ if text.is_empty() => fresh = true,
            Some((mark, text)) => {
                out += &format!(".IP \"{}\" 4\n{}\n", line(mark), line(text));
                fresh = false;
            }
            None => {
                if std::mem::take(&mut fresh) {
                    out += ".PP\n";
                }
                out += &format!("{}\n", line(text.trim_start()));
            }
        }
    }
    if kept {
        out = out.trim_end().to_owned() + "\n.fi\n";
    }
    out
}

/// The last section.
pub(super) fn see_also(pages: &[&str]) -> String {
    format!(".SH \"SEE ALSO\"\n{}\n", line(&pages.join(", ")))
}

/// What a line of a list begins with, and the rest of it.
fn mark(text: &str) -> Option<(&str, &str)> {
    let (mark, rest) = text.split_once(' ')?;
    let number = mark
        .strip_suffix('.')
        .is_some_and(|it| it.parse::<u8>().is_ok());
    (mark == "-" || number).then_some((mark, rest))
}

/// A line in which nothing is a request or an escape. What stands between backquotes is bold.
fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    if text.starts_with(['.', '\'']) {
        out += "\\&";
    }
    let mut bold = false;
    let even = text.matches('`').count().is_multiple_of(2);
    for c in text.chars() {
        match c {
            '\\' => out += "\\e",
            '-' => out += "\\-",
            '\'' => out += "\\(aq",
            '^' => out += "\\(ha",
            '~' => out += "\\(ti",
            '`' if even => {
                bold = !bold;
                out += if bold { "\\fB" } else { "\\fR" };
            }
            '`' => out += "\\(ga",
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_taken_for_a_request() {
        assert_eq!(line(".TH 'x' \\-"), "\\&.TH \\(aqx\\(aq \\e\\-");
        assert_eq!(line("type `run` now"), "type \\fBrun\\fR now");
        assert_eq!(line("a ` b"), "a \\(ga b");
    }

    #[test]
    fn what_is_set_in_stays_as_it_is() {
        let text = section(
            "A title",
            "One\ntwo.\n\n    $ restore list\n\n    $ restore show\n\n- three\n  four\n",
        );
        assert_eq!(
            text,
            ".SH \"A TITLE\"\n.PP\nOne\ntwo.\n.PP\n.nf\n$ restore list\n\n$ restore show\n\
             .fi\n.IP \"\\-\" 4\nthree\nfour\n"
        );
    }
}
