//! What passes between the master and a role, and how it looks in a packet.
//!
//! Seats, clients and finished connections, which come by the thousand, are a tag and a few bytes each; everything else is a tag and
//! JSON.
//! Both ends are the same version of the same file, except while a reload replaces an older one: settings therefore travel by their names. A packet that cannot be read is an error, never a guess.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use sys::packet::{DESCRIPTORS_MAX, PACKET_BYTES_MAX};

/// A connection's row in the table and which connection in that row it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seat {
    /// Index of the row.
    pub row: u32,
    /// The row's generation; a row used again has another.
    pub generation: u32,
}

/// First message to a role: who it is and what it works with. The packet carries a [`crate::Luggage`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// Process slot.
    pub slot: u8,
    /// Which process in that slot this is.
    pub incarnation: u16,
    /// Name of the segment, for people. It may be gone.
    pub segment: String,
    /// Identity of the segment to attach. Zeroes from a master that looks it up by its name.
    #[serde(default)]
    pub identity: [u64; 2],
    /// How many of the packet's descriptors are doorbells: one for each process slot.
    #[serde(default)]
    pub doorbells: u8,
    /// The validated configuration.
    #[serde(deserialize_with = "settings_of_any_version")]
    pub settings: config::Config,
}

/// From the master to a role.
#[derive(Clone, Debug, PartialEq)]
pub enum ToRole {
    /// The first message.
    Hello(Box<Hello>),
    /// New connections, at most [`Seat::MAX`]; descriptor *i* of the packet belongs to seat *i*.
    Seats(Vec<Seat>),
    /// The settings after a reload.
    Settings(Box<config::Config>),
    /// Announce the stop, flush, close 1001, and exit 0 when no rows are left.
    Drain,
    /// Finish the turn, answer [`ToMaster::Paused`], touch nothing in the table until `Resume`.
    Pause,
    /// Go on.
    Resume,
    /// The log goes on in the file whose descriptor the packet carries.
    ReopenLog,
    /// The slot is the role's own from here on; until this came it has touched nothing.
    Begin,
    /// A successor is ready: finish the turn, give back what is in hand, answer [`ToMaster::Left`], touch nothing any more, and exit 0.
    Leave,
}

/// From a role to the master.
#[derive(Clone, Debug, PartialEq)]
pub enum ToMaster {
    /// Attached, and everything made that the role needs. It waits for [`ToRole::Begin`].
    Ready,
    /// These connections are over, the role's descriptors closed, the rows in state Done.
    Finished(Vec<Seat>),
    /// From where these connections really come, as a proxy has said. May be said again of the same connection.
    Clients(Vec<(Seat, IpAddr)>),
    /// The answer to [`ToRole::Pause`].
    Paused,
    /// The answer to [`ToRole::Leave`]: the slot is its successor's.
    Left,
    /// Why the role ends without having been asked to, as a sentence; cut to [`ToMaster::REASON_BYTES_MAX`].
    Failed(String),
}

impl ToMaster {
    /// The most of a reason that is sent.
    pub const REASON_BYTES_MAX: usize = 4096;
}

/// A packet that is not a message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a packet on the channel cannot be read: {0}")]
pub struct Garbled(pub String);

impl Seat {
    /// Most seats in one message: each has a descriptor.
    pub const MAX: usize = DESCRIPTORS_MAX;
    /// Most finished connections in one message.
    pub(crate) const FINISHED_MAX: usize = (PACKET_BYTES_MAX - 1) / BYTES;
    /// Most clients in one message.
    pub(crate) const CLIENTS_MAX: usize = (PACKET_BYTES_MAX - 1) / CLIENT_BYTES;
}

const BYTES: usize = 8;
/// A seat, and an address as one of IPv6.
const CLIENT_BYTES: usize = BYTES + 16;

const HELLO: u8 = b'H';
const SEATS: u8 = b'S';
const SETTINGS: u8 = b'C';
const DRAIN: u8 = b'D';
const PAUSE: u8 = b'P';
const RESUME: u8 = b'R';
const REOPEN_LOG: u8 = b'L';
const BEGIN: u8 = b'B';
const LEAVE: u8 = b'V';
const READY: u8 = b'r';
const FINISHED: u8 = b'f';
const CLIENTS: u8 = b'c';
const PAUSED: u8 = b'p';
const LEFT: u8 = b'l';
const FAILED: u8 = b'x';

/// A message that knows its packet form.
pub(crate) trait Message: Sized {
    fn encode(&self) -> Result<Vec<u8>, Garbled>;
    fn decode(packet: &[u8]) -> Result<Self, Garbled>;
}

impl Message for ToRole {
    fn encode(&self) -> Result<Vec<u8>, Garbled> {
        match self {
            Self::Hello(hello) => json(HELLO, hello),
            Self::Seats(seats) => Ok(seat_list(SEATS, seats)),
            Self::Settings(settings) => json(SETTINGS, settings),
            Self::Drain => Ok(vec![DRAIN]),
            Self::Pause => Ok(vec![PAUSE]),
            Self::Resume => Ok(vec![RESUME]),
            Self::ReopenLog => Ok(vec![REOPEN_LOG]),
            Self::Begin => Ok(vec![BEGIN]),
            Self::Leave => Ok(vec![LEAVE]),
        }
    }

    fn decode(packet: &[u8]) -> Result<Self, Garbled> {
        match packet.split_first() {
            Some((&HELLO, rest)) => Ok(Self::Hello(from_json(rest)?)),
            Some((&SEATS, rest)) => Ok(Self::Seats(seats(rest)?)),
            Some((&SETTINGS, rest)) => {
                let mut json = serde_json::Deserializer::from_slice(rest);
                let settings =
                    settings_of_any_version(&mut json).map_err(|e| Garbled(e.to_string()))?;
                Ok(Self::Settings(Box::new(settings)))
            }
            Some((&DRAIN, [])) => Ok(Self::Drain),
            Some((&PAUSE, [])) => Ok(Self::Pause),
            Some((&RESUME, [])) => Ok(Self::Resume),
            Some((&REOPEN_LOG, [])) => Ok(Self::ReopenLog),
            Some((&BEGIN, [])) => Ok(Self::Begin),
            Some((&LEAVE, [])) => Ok(Self::Leave),
            _ => Err(unknown(packet)),
        }
    }
}

impl Message for ToMaster {
    fn encode(&self) -> Result<Vec<u8>, Garbled> {
        Ok(match self {
            Self::Ready => vec![READY],
            Self::Finished(seats) => seat_list(FINISHED, seats),
            Self::Clients(clients) => client_list(clients),
            Self::Paused => vec![PAUSED],
            Self::Left => vec![LEFT],
            Self::Failed(reason) => {
                let end = (0..=reason.len().min(Self::REASON_BYTES_MAX))
                    .rfind(|&end| reason.is_char_boundary(end))
                    .unwrap_or(0);
                [&[FAILED], &reason.as_bytes()[..end]].concat()
            }
        })
    }

    fn decode(packet: &[u8]) -> Result<Self, Garbled> {
        match packet.split_first() {
            Some((&READY, [])) => Ok(Self::Ready),
            Some((&FINISHED, rest)) => Ok(Self::Finished(seats(rest)?)),
            Some((&CLIENTS, rest)) => Ok(Self::Clients(clients(rest)?)),
            Some((&PAUSED, [])) => Ok(Self::Paused),
            Some((&LEFT, [])) => Ok(Self::Left),
            Some((&FAILED, reason)) => Ok(Self::Failed(String::from_utf8_lossy(reason).into())),
            _ => Err(unknown(packet)),
        }
    }
}

fn json(tag: u8, value: &impl Serialize) -> Result<Vec<u8>, Garbled> {
    let mut packet = vec![tag];
    serde_json::to_writer(&mut packet, value).map_err(|e| Garbled(e.to_string()))?;
    Ok(packet)
}

fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Garbled> {
    serde_json::from_slice(bytes).map_err(|e| Garbled(e.to_string()))
}

/// Settings from a master that may be older than this role or newer: keys that it does not know have their defaults here, keys that are
/// not known here are left out. What a known key says must be understood.
///
/// # Errors
/// What cannot be understood.
pub fn settings_of_any_version<'d, D: Deserializer<'d>>(
    from: D,
) -> Result<config::Config, D::Error> {
    let said = BTreeMap::<String, BTreeMap<String, Value>>::deserialize(from)?;
    let mut settings = serde_json::to_value(config::Config::default()).map_err(D::Error::custom)?;
    for (section, keys) in said {
        for (key, value) in keys {
            if let Some(known) = settings.get_mut(&section).and_then(|s| s.get_mut(&key)) {
                *known = value;
            }
        }
    }
    serde_json::from_value(settings).map_err(D::Error::custom)
}

fn seat_list(tag: u8, seats: &[Seat]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(1 + seats.len() * BYTES);
    packet.push(tag);
    for seat in seats {
        put_seat(&mut packet, *seat);
    }
    packet
}

fn put_seat(packet: &mut Vec<u8>, seat: Seat) {
    packet.extend_from_slice(&seat.row.to_le_bytes());
    packet.extend_from_slice(&seat.generation.to_le_bytes());
}

fn client_list(clients: &[(Seat, IpAddr)]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(1 + clients.len() * CLIENT_BYTES);
    packet.push(CLIENTS);
    for (seat, address) in clients {
        let address = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => *v6,
        };
        put_seat(&mut packet, *seat);
        packet.extend_from_slice(&address.octets());
    }
    packet
}

fn clients(bytes: &[u8]) -> Result<Vec<(Seat, IpAddr)>, Garbled> {
    let (clients, rest) = bytes.as_chunks::<CLIENT_BYTES>();
    if !rest.is_empty() {
        return Err(Garbled(format!(
            "{} bytes are not a whole number of clients",
            bytes.len()
        )));
    }
    clients
        .iter()
        .map(|client| {
            let (seat, address) = client.split_at(BYTES);
            let seat = seats(seat)?.first().copied();
            let address = <[u8; 16]>::try_from(address).ok();
            seat.zip(address)
                .map(|(seat, address)| (seat, Ipv6Addr::from(address).to_canonical()))
                .ok_or_else(|| Garbled("a client is not whole".into()))
        })
        .collect()
}

fn seats(bytes: &[u8]) -> Result<Vec<Seat>, Garbled> {
    let (seats, rest) = bytes.as_chunks::<BYTES>();
    if !rest.is_empty() {
        return Err(Garbled(format!(
            "{} bytes are not a whole number of seats",
            bytes.len()
        )));
    }
    Ok(seats
        .iter()
        .map(|&[a, b, c, d, e, f, g, h]| Seat {
            row: u32::from_le_bytes([a, b, c, d]),
            generation: u32::from_le_bytes([e, f, g, h]),
        })
        .collect())
}

fn unknown(packet: &[u8]) -> Garbled {
    Garbled(format!(
        "unknown tag {:?} on {} bytes",
        packet.first(),
        packet.len()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_its_packet() {
        let seats = vec![
            Seat {
                row: 1,
                generation: u32::MAX,
            },
            Seat {
                row: 0xdead_beef,
                generation: 7,
            },
        ];
        let hello = Hello {
            slot: 4,
            incarnation: 9,
            segment: "s".into(),
            identity: [u64::MAX, 1],
            doorbells: 6,
            settings: config::Config::default(),
        };
        for message in [
            ToRole::Hello(Box::new(hello)),
            ToRole::Seats(seats.clone()),
            ToRole::Settings(Box::default()),
            ToRole::Drain,
            ToRole::Pause,
            ToRole::Resume,
            ToRole::ReopenLog,
            ToRole::Begin,
            ToRole::Leave,
        ] {
            assert_eq!(ToRole::decode(&message.encode().unwrap()).unwrap(), message);
        }
        for message in [
            ToMaster::Ready,
            ToMaster::Finished(seats.clone()),
            ToMaster::Finished(vec![]),
            ToMaster::Clients(
                seats
                    .iter()
                    .copied()
                    .zip(["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()])
                    .collect(),
            ),
            ToMaster::Clients(vec![]),
            ToMaster::Paused,
            ToMaster::Left,
            ToMaster::Failed("no room: ä".into()),
        ] {
            assert_eq!(
                ToMaster::decode(&message.encode().unwrap()).unwrap(),
                message
            );
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_two_characters() {
        let packet = ToMaster::Failed("ä".repeat(ToMaster::REASON_BYTES_MAX))
            .encode()
            .unwrap();
        let cut = "ä".repeat(ToMaster::REASON_BYTES_MAX / 2);
        assert_eq!(ToMaster::decode(&packet), Ok(ToMaster::Failed(cut)));
    }

    #[test]
    fn settings_of_another_version_are_understood_as_far_as_they_are_known() {
        let mut settings = serde_json::to_value(config::Config::default()).unwrap();
        settings["limits"]["refusals"] = 7.into();
        settings["limits"]["of_tomorrow"] = 1.into();
        settings["tomorrow"] = serde_json::json!({"key": true});
        settings["limits"]
            .as_object_mut()
            .unwrap()
            .remove("message_bytes");
        settings.as_object_mut().unwrap().remove("diagnostics");
        let packet = [&[SETTINGS], settings.to_string().as_bytes()].concat();
        let mut expected = config::Config::default();
        expected.limits.refusals = 7;
        assert_eq!(
            ToRole::decode(&packet),
            Ok(ToRole::Settings(Box::new(expected)))
        );
        settings["limits"]["refusals"] = "many".into();
        let packet = [&[SETTINGS], settings.to_string().as_bytes()].concat();
        assert!(ToRole::decode(&packet).is_err());
    }

    #[test]
    fn what_is_not_a_message_is_refused() {
        for packet in [&b""[..], b"?", b"S1234567", b"D1", b"H{", b"C[]", b"B1"] {
            assert!(ToRole::decode(packet).is_err(), "{packet:?}");
        }
        for packet in [&b""[..], b"S", b"f1", b"c12345678", b"r ", b"l1"] {
            assert!(ToMaster::decode(packet).is_err(), "{packet:?}");
        }
    }
}
