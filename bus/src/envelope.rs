//! What every frame is wrapped in: who sends it, in which life, to whom, and a signature over all of it.
//!
//! `version` (1 byte), `signed` (1), boot of the sender (8, big endian), length (1) and name of the sender, length (1) and name of the
//! recipient, payload; and where the hosts share a secret 16 bytes of HMAC-SHA256 over the namespace (with its length) and all before.

use bytes::Bytes;
use ring::hmac;

use crate::Incoming;

const VERSION: u8 = 1;
const TAG: usize = 16;
const FIXED: usize = 10;
/// Most bytes that an envelope adds to a payload.
pub(crate) const ENVELOPE_BYTES_MAX: usize = FIXED + 2 * 256 + TAG;

/// Why a frame is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("it is no frame of this version")]
    Unknown,
    #[error("it is not signed")]
    Unsigned,
    #[error("it is signed, and this host has no secret to check it with")]
    Signed,
    #[error("its signature is wrong")]
    Forged,
    #[error("it is for another host")]
    Astray,
    #[error("it comes from a host with this host's name")]
    Own,
}

/// Wraps and unwraps the frames of one host.
pub(crate) struct Envelopes {
    key: Option<hmac::Key>,
    namespace: Vec<u8>,
    node: String,
    boot: u64,
    /// The beginning of every frame sent, up to the recipient.
    head: Vec<u8>,
}

impl Envelopes {
    pub(crate) fn new(
        namespace: &str,
        node: &str,
        boot: &str,
        secret: &str,
    ) -> Result<Self, String> {
        let Ok(length) = u8::try_from(node.len()) else {
            return Err(format!(
                "the host's name is {} bytes long; 255 is the most",
                node.len()
            ));
        };
        let boot = (boot.len() == 16 && boot.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .then(|| u64::from_str_radix(boot, 16).ok())
            .flatten()
            .ok_or_else(|| format!("boot is {boot:?}, not 16 hexadecimal digits"))?;
        let key = (!secret.is_empty()).then(|| derive(secret, b"steadfast frame 1"));
        let mut head = vec![VERSION, u8::from(key.is_some())];
        head.extend(boot.to_be_bytes());
        head.push(length);
        head.extend(node.as_bytes());
        let mut prefix = Vec::new();
        prefix.extend((namespace.len() as u64).to_be_bytes());
        prefix.extend(namespace.as_bytes());
        Ok(Self {
            key,
            namespace: prefix,
            node: node.into(),
            boot,
            head,
        })
    }

    pub(crate) fn boot(&self) -> u64 {
        self.boot
    }

    /// A frame for a host. A name longer than 255 bytes is nobody's; its frame is for the name that it begins with, which is nobody's either.
    pub(crate) fn seal(&self, to: &str, payload: &[u8]) -> Bytes {
        let to = &to.as_bytes()[..to.len().min(255)];
        let mut frame = Vec::with_capacity(self.head.len() + 1 + to.len() + payload.len() + TAG);
        frame.extend(&self.head);
        frame.push(u8::try_from(to.len()).unwrap_or(u8::MAX));
        frame.extend(to);
        frame.extend(payload);
        if let Some(key) = &self.key {
            let tag = self.tag(key, &frame);
            frame.extend(tag);
        }
        frame.into()
    }

    /// What is in a frame that came for this host.
    pub(crate) fn open(&self, frame: &Bytes) -> Result<Incoming, Refusal> {
        let route = route(frame).ok_or(Refusal::Unknown)?;
        let end = match (&self.key, route.signed) {
            (None, false) => frame.len(),
            (None, true) => return Err(Refusal::Signed),
            (Some(_), false) => return Err(Refusal::Unsigned),
            (Some(key), true) => {
                let end = frame
                    .len()
                    .checked_sub(TAG)
                    .filter(|end| *end >= route.payload)
                    .ok_or(Refusal::Unknown)?;
                if !equal(&self.tag(key, &frame[..end]), &frame[end..]) {
                    return Err(Refusal::Forged);
                }
                end
            }
        };
        if route.to != self.node {
            return Err(Refusal::Astray);
        }
        if route.from == self.node {
            return Err(Refusal::Own);
        }
        Ok(Incoming {
            from: route.from.into(),
            boot: route.boot,
            payload: frame.slice(route.payload..end),
        })
    }

    fn tag(&self, key: &hmac::Key, frame: &[u8]) -> [u8; TAG] {
        let mut context = hmac::Context::with_key(key);
        context.update(&self.namespace);
        context.update(frame);
        let mut tag = [0; TAG];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG]);
        tag
    }
}

/// Where a frame comes from and goes to, by its own words.
pub(crate) struct Route<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
    boot: u64,
    signed: bool,
    /// Where the payload begins.
    payload: usize,
}

/// Reads the beginning of a frame; `None` if it is none.
pub(crate) fn route(frame: &[u8]) -> Option<Route<'_>> {
    let (&[version, signed, ref boot @ ..], rest) = frame.split_first_chunk::<FIXED>()?;
    if version != VERSION || signed > 1 {
        return None;
    }
    let (from, rest) = name(rest)?;
    let (to, rest) = name(rest)?;
    Some(Route {
        from,
        to,
        boot: u64::from_be_bytes(*boot),
        signed: signed == 1,
        payload: frame.len() - rest.len(),
    })
}

/// A name with its length in front, and what follows it.
pub(crate) fn name(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(length.into())?;
    Some((std::str::from_utf8(name).ok()?, rest))
}

/// A key for one purpose, so that what one signs is worth nothing to another.
pub(crate) fn derive(secret: &str, purpose: &[u8]) -> hmac::Key {
    let key = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()),
        purpose,
    );
    hmac::Key::new(hmac::HMAC_SHA256, key.as_ref())
}

/// Compares without telling by its duration where the first difference is.
fn equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(node: &str, secret: &str) -> Envelopes {
        Envelopes::new("ns", node, "00000000000000ff", secret).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_at_its_recipient_only() {
        for secret in ["", "a secret"] {
            let frame = of("a", secret).seal("b", b"hello");
            let incoming = of("b", secret).open(&frame).unwrap();
            assert_eq!(
                (incoming.from.as_str(), incoming.boot, &incoming.payload[..]),
                ("a", 255, &b"hello"[..])
            );
            assert_eq!(of("c", secret).open(&frame), Err(Refusal::Astray));
            assert_eq!(
                of("b", secret).open(&of("b", secret).seal("b", b"")),
                Err(Refusal::Own)
            );
            let route = route(&frame).unwrap();
            assert_eq!((route.from, route.to), ("a", "b"));
        }
    }

    #[test]
    fn another_secret_or_namespace_does_not_open_it() {
        let frame = of("a", "a secret").seal("b", b"hello");
        assert_eq!(of("b", "").open(&frame), Err(Refusal::Signed));
        assert_eq!(of("b", "another").open(&frame), Err(Refusal::Forged));
        assert_eq!(
            of("b", "another").open(&of("a", "").seal("b", b"hello")),
            Err(Refusal::Unsigned)
        );
        let elsewhere = Envelopes::new("other", "b", "00000000000000ff", "a secret").unwrap();
        assert_eq!(elsewhere.open(&frame), Err(Refusal::Forged));
    }

    #[test]
    fn a_changed_bit_or_a_missing_byte_is_found() {
        let (sender, recipient) = (of("a", "a secret"), of("b", "a secret"));
        let frame = sender.seal("b", b"hello");
        for bit in 0..frame.len() * 8 {
            let mut changed = frame.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(recipient.open(&changed.into()).is_err(), "bit {bit}");
        }
        for length in 0..frame.len() {
            assert!(
                recipient.open(&frame.slice(..length)).is_err(),
                "{length} bytes"
            );
            let _ = of("b", "").open(&frame.slice(..length));
        }
    }

    #[test]
    fn settings_that_cannot_work_are_told() {
        assert!(Envelopes::new("ns", "a", "12", "").is_err());
        assert!(Envelopes::new("ns", "a", "+00000000000000f", "").is_err());
        assert!(Envelopes::new("ns", &"a".repeat(256), "00000000000000ff", "").is_err());
    }
}
