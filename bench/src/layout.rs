//! The requests of the load, each at fixed offsets, so that the floor can route without reading JSON.

/// Offset of the word behind `"type":"`.
const KIND: usize = 9;

/// What a request asks for. Users and groups are numbers here, `u000012` and `g0003` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `login`
    Login(usize),
    /// `join`
    Join(usize),
    /// `sendto`
    SendTo(usize),
    /// `sendgroup`
    SendGroup(usize),
}

/// The name of a user.
pub fn user(number: usize) -> String {
    format!("u{number:06}")
}

/// The name of a group.
pub fn group(number: usize) -> String {
    format!("g{number:04}")
}

impl Request {
    /// As it goes over the wire, with `content` where it has one.
    pub fn text(self, content: &str) -> String {
        match self {
            Request::Login(number) => {
                format!(r#"{{"type":"login","userName":"{}"}}"#, user(number))
            }
            Request::Join(number) => format!(r#"{{"type":"join","group":"{}"}}"#, group(number)),
            Request::SendTo(number) => {
                let to = user(number);
                format!(r#"{{"type":"sendto","to":"{to}","quiet":true,"content":"{content}"}}"#)
            }
            Request::SendGroup(number) => {
                let to = group(number);
                format!(r#"{{"type":"sendgroup","to":"{to}","quiet":true,"content":"{content}"}}"#)
            }
        }
    }

    /// Reads what [`Request::text`] wrote, by offsets alone.
    #[inline]
    pub fn read(text: &[u8]) -> Option<Request> {
        let at = |from: usize, digits: usize| number(text.get(from..from + digits)?);
        match text.get(KIND..KIND + 5)? {
            b"sendt" => Some(Request::SendTo(at(24, 6)?)),
            b"sendg" => Some(Request::SendGroup(at(27, 4)?)),
            b"login" => Some(Request::Login(at(29, 6)?)),
            b"join\"" => Some(Request::Join(at(25, 4)?)),
            _ => None,
        }
    }
}

/// A number in decimal digits.
#[inline]
pub fn number(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| 10 * number + usize::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_read_as_it_was_written() {
        for request in [
            Request::Login(12),
            Request::Join(9_999),
            Request::SendTo(123_456),
            Request::SendGroup(7),
        ] {
            assert_eq!(Request::read(request.text("x").as_bytes()), Some(request));
        }
        assert_eq!(Request::read(b"{\"type\":\"sendto\",\"to\":\"bob\"}"), None);
        assert_eq!(Request::read(b""), None);
    }
}
