//! The packets of an OpenPGP message: whether it is cut, and in which form it is encrypted.
//!
//! `gpg` says of most cut messages that they were manipulated, and of forms that it does not know that there is
//! no message. The packets' own headers stand outside the encryption, and tell.

/// What the packets of a message say of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// The data ended before the message did.
    pub(super) cut: bool,
    pub(super) form: Form,
}

/// How a message is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// As every version of GnuPG does it, or in text, of which that is not looked at.
    #[default]
    Usual,
    /// With OCB, as GnuPG 2.3 and later do it for those who can read it.
    Ocb,
    /// As RFC 9580 has it, which GnuPG does not read.
    Rfc9580,
}

/// The form as far as it is known.
#[derive(Default)]
struct FormSeen {
    form: Form,
    /// The packet with the content has begun: what follows it says nothing any more.
    decided: bool,
}

impl FormSeen {
    fn packet(&mut self, tag: u8) {
        match tag {
            _ if self.decided => {}
            9 => self.decided = true,
            20 => (self.form, self.decided) = (Form::Ocb, true),
            _ => {}
        }
    }

    /// What a packet's first byte says.
    fn version(&mut self, tag: u8, version: u8) {
        match (tag, version) {
            _ if self.decided => {}
            (18, 2) => (self.form, self.decided) = (Form::Rfc9580, true),
            (18, _) => self.decided = true,
            (1 | 3, 6) => self.form = Form::Rfc9580,
            _ => {}
        }
    }
}

/// Follows a message as its bytes come by.
pub(super) struct Framing {
    state: State,
    form: FormSeen,
    /// The kind of the packet whose first byte is still to come.
    opened: Option<u8>,
    /// The last bytes of an armoured message.
    tail: Vec<u8>,
}

enum State {
    /// Nothing came yet.
    Start,
    /// Before a packet's first byte.
    Tag,
    /// Reading a length: its kind and the bytes of it so far.
    Length(Kind, Vec<u8>),
    /// Inside a body; `more`: another part of it follows.
    Body { left: u64, more: bool },
    /// The last packet has no length: it ends where the data ends.
    Open,
    /// Text: the message ends with a line of its own.
    Armour,
    /// Not a message at all; what `gpg` says of it will do.
    Unknown,
}

#[derive(Clone, Copy)]
enum Kind {
    New,
    /// So many bytes.
    Old(usize),
}

const END: &[u8] = b"-----END PGP MESSAGE-----";
const TAIL: usize = 128;

impl Framing {
    pub(super) fn new() -> Self {
        Self {
            state: State::Start,
            form: FormSeen::default(),
            opened: None,
            tail: Vec::new(),
        }
    }

    /// The next bytes of the message.
    pub(super) fn take(&mut self, mut data: &[u8]) {
        while let Some((&byte, rest)) = data.split_first() {
            match &mut self.state {
                State::Start | State::Tag => {
                    let first = matches!(self.state, State::Start);
                    self.state = match (byte & 0x80 != 0, first) {
                        (true, _) => tag(byte),
                        (false, true) => State::Armour,
                        (false, false) => State::Unknown,
                    };
                    if matches!(self.state, State::Armour) {
                        continue;
                    }
                    if !matches!(self.state, State::Unknown) {
                        let kind = kind_of(byte);
                        self.form.packet(kind);
                        self.opened = Some(kind);
                    }
                    data = rest;
                }
                State::Length(kind, bytes) => {
                    bytes.push(byte);
                    if let Some(next) = length(*kind, bytes) {
                        self.state = next;
                    }
                    data = rest;
                }
                State::Body { left, more } => {
                    if let Some(kind) = self.opened.take() {
                        self.form.version(kind, byte);
                    }
                    let step = (data.len() as u64).min(*left);
                    *left -= step;
                    let ended = *left == 0;
                    data = data
                        .get(usize::try_from(step).unwrap_or(usize::MAX)..)
                        .unwrap_or_default();
                    if ended {
                        self.state = after(*more);
                    }
                }
                State::Armour => {
                    self.tail.extend_from_slice(data);
                    let over = self.tail.len().saturating_sub(TAIL);
                    self.tail.drain(..over);
                    return;
                }
                State::Open | State::Unknown => return,
            }
        }
    }

    /// What was seen so far. `ended`: no more comes.
    pub(super) fn seen(&self, ended: bool) -> Seen {
        Seen {
            cut: ended && self.is_cut(),
            form: self.form.form,
        }
    }

    fn is_cut(&self) -> bool {
        match &self.state {
            State::Start | State::Length(..) | State::Body { .. } => true,
            State::Armour => !self.tail.windows(END.len()).any(|part| part == END),
            State::Tag | State::Open | State::Unknown => false,
        }
    }
}

fn after(more: bool) -> State {
    if more {
        State::Length(Kind::New, Vec::new())
    } else {
        State::Tag
    }
}

fn body(left: u64, more: bool) -> State {
    match left {
        0 => after(more),
        _ => State::Body { left, more },
    }
}

/// Which kind of packet begins with this byte.
fn kind_of(byte: u8) -> u8 {
    match byte & 0x40 {
        0 => (byte >> 2) & 0x0f,
        _ => byte & 0x3f,
    }
}

fn tag(byte: u8) -> State {
    if byte & 0x40 != 0 {
        return State::Length(Kind::New, Vec::new());
    }
    match byte & 3 {
        0 => State::Length(Kind::Old(1), Vec::new()),
        1 => State::Length(Kind::Old(2), Vec::new()),
        2 => State::Length(Kind::Old(4), Vec::new()),
        _ => State::Open,
    }
}

/// What follows the length, once all of it is there (RFC 4880, section 4.2).
fn length(kind: Kind, bytes: &[u8]) -> Option<State> {
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0_u64, |sum, &byte| sum << 8 | u64::from(byte))
    };
    match (kind, bytes) {
        (Kind::Old(size), bytes) => (bytes.len() == size).then(|| body(number(bytes), false)),
        (Kind::New, [first @ 0..=191]) => Some(body(u64::from(*first), false)),
        (Kind::New, [first @ 192..=223, second]) => Some(body(
            (u64::from(*first) - 192) * 256 + u64::from(*second) + 192,
            false,
        )),
        (Kind::New, [first @ 224..=254]) => Some(body(1 << (first & 0x1f), true)),
        (Kind::New, [255, rest @ ..]) => (rest.len() == 4).then(|| body(number(rest), false)),
        _ => None,
    }
}

/// For `fuzz/`: foreign bytes, in pieces and whole.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(bytes: &[u8]) {
    let mut whole = Framing::new();
    whole.take(bytes);
    let mut pieces = Framing::new();
    for piece in bytes.chunks(3) {
        pieces.take(piece);
    }
    assert_eq!(whole.seen(true), pieces.seen(true));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_cut(message: &[u8]) -> bool {
        let whole = {
            let mut framing = Framing::new();
            framing.take(message);
            framing.is_cut()
        };
        // In whatever pieces it comes.
        let mut framing = Framing::new();
        message.chunks(3).for_each(|piece| framing.take(piece));
        assert_eq!(framing.is_cut(), whole);
        whole
    }

    #[test]
    fn every_kind_of_length_is_followed() {
        let old = [vec![0x84, 2, 0, 0], vec![0x85, 0, 1, 0]].concat();
        let mut long = vec![0xd2, 0xff, 0, 0, 1, 44];
        long.extend([0; 300]);
        let mut two = vec![0xd2, 192, 8];
        two.extend([0; 200]);
        let mut parts = vec![0xd2, 0xe9];
        parts.extend([0; 512]);
        parts.extend([5, 0, 0, 0, 0, 0]);
        for message in [&old, &long, &two, &parts] {
            let whole = [&[0x8c, 1, 9][..], message].concat();
            assert!(!is_cut(&whole));
            for length in [0, 1, 2, whole.len() - 1, whole.len() - 2] {
                assert!(is_cut(&whole[..length]), "{length} of {}", whole.len());
            }
        }
        let armour = b"-----BEGIN PGP MESSAGE-----\n\nabc\n=abcd\n-----END PGP MESSAGE-----\n";
        assert!(!is_cut(armour));
        assert!(is_cut(&armour[..armour.len() - 9]));
    }

    #[test]
    fn the_form_is_that_of_the_first_packet_with_content() {
        let form = |message: &[u8]| {
            let mut framing = Framing::new();
            message.chunks(1).for_each(|piece| framing.take(piece));
            framing.seen(true).form
        };
        // A session key of version 4, 5 or 6, and the content.
        let key = |version: u8| [0xc3, 2, version, 9];
        let of = |version: u8, content: &[u8]| form(&[&key(version)[..], content].concat());
        assert_eq!(of(4, &[0xd2, 2, 1, 0]), Form::Usual);
        assert_eq!(of(4, &[0xc9, 1, 0]), Form::Usual);
        assert_eq!(of(5, &[0xd4, 2, 1, 9]), Form::Ocb);
        assert_eq!(of(4, &[0xd4, 2, 1, 9]), Form::Ocb);
        assert_eq!(of(6, &[0xd2, 2, 2, 9]), Form::Rfc9580);
        assert_eq!(of(4, &[0xd2, 2, 2, 9]), Form::Rfc9580);
        // In the old format of packets.
        assert_eq!(form(&[0x8c, 2, 4, 9, 0xd4, 2, 1, 9]), Form::Ocb);
        assert_eq!(of(4, &[0xd2, 2, 1, 0, 0xd4, 2, 1, 9]), Form::Usual);
        assert_eq!(form(b"-----BEGIN PGP MESSAGE-----"), Form::Usual);
        assert_eq!(form(b""), Form::Usual);
    }
}
