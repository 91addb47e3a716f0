//! How two ends get to know each other.
//!
//! The one that connected says who it is, with a number nobody can guess; the other does likewise; then each, the connecting one first, proves with the
//! secret that it saw both. Neither the secret nor a proof that would serve another connection is ever sent.

use bytes::Bytes;
use ring::hmac;
use std::time::Duration;
use tokio::time::timeout;

use super::{Broken, INTRODUCTION_TIME, Reader, Stream, Writer, message::Kind, random};
use crate::envelope::{derive, name};

const VERSION: u8 = 1;
const NONCE: usize = 32;

/// What an end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// A host of the mesh.
    Host = 1,
    /// A host at a forwarder.
    Client = 2,
    /// A forwarder.
    Forwarder = 3,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) boot: u64,
}

/// Introduces this end to others.
#[derive(Clone)]
pub(crate) struct Introducer {
    key: hmac::Key,
    role: Role,
    others: Role,
    namespace: String,
    name: String,
    boot: u64,
    silence: Duration,
}

/// An end's first message.
struct Hello<'a> {
    role: u8,
    name: &'a str,
    boot: u64,
    namespace: &'a str,
}

impl Introducer {
    /// For an end that is `role` and meets only ends that are `others`. Err: the secret is missing.
    pub(crate) fn new(
        secret: &str,
        namespace: &str,
        name: &str,
        boot: u64,
        [role, others]: [Role; 2],
        silence: Duration,
    ) -> Result<Self, String> {
        if secret.is_empty() {
            return Err("cluster.secret is needed: hosts that connect to each other prove with it who they are".into());
        }
        if name.len() > 255 || namespace.len() > 255 {
            return Err("a host's name and the namespace have at most 255 bytes".into());
        }
        let key = derive(secret, b"steadfast introduction 1");
        Ok(Self {
            key,
            role,
            others,
            namespace: namespace.into(),
            name: name.into(),
            boot,
            silence,
        })
    }

    /// On a connection that this end made.
    pub(crate) async fn connected(
        &self,
        stream: Box<dyn Stream>,
    ) -> Result<(Reader, Writer, Peer), Broken> {
        timeout(INTRODUCTION_TIME, self.introduce(stream, true))
            .await
            .map_err(|_| Broken::Slow)?
    }

    /// On a connection that this end accepted.
    pub(crate) async fn accepted(
        &self,
        stream: Box<dyn Stream>,
    ) -> Result<(Reader, Writer, Peer), Broken> {
        timeout(INTRODUCTION_TIME, self.introduce(stream, false))
            .await
            .map_err(|_| Broken::Slow)?
    }

    async fn introduce(
        &self,
        stream: Box<dyn Stream>,
        connected: bool,
    ) -> Result<(Reader, Writer, Peer), Broken> {
        let (read, write) = tokio::io::split(stream);
        let (mut reader, mut writer) = (
            Reader::new(read, self.silence.max(INTRODUCTION_TIME)),
            Writer::new(write, self.silence),
        );
        match self.exchange(&mut reader, &mut writer, connected).await {
            Ok(peer) => {
                reader.trust(self.silence);
                Ok((reader, writer, peer))
            }
            Err(broken) => {
                if let Broken::Stranger(why) | Broken::Malformed(why) = broken {
                    writer.refuse(why).await;
                }
                Err(broken)
            }
        }
    }

    async fn exchange(
        &self,
        reader: &mut Reader,
        writer: &mut Writer,
        connected: bool,
    ) -> Result<Peer, Broken> {
        let own = self.hello()?;
        let theirs;
        if connected {
            writer.write_one(Kind::Hello, &own).await?;
            theirs = expect(reader, Kind::Hello).await?;
        } else {
            theirs = expect(reader, Kind::Hello).await?;
            self.check(&theirs)?;
            writer.write_one(Kind::Hello, &own).await?;
        }
        let peer = self.check(&theirs)?;
        let (first, second) = if connected {
            (&own[..], &theirs[..])
        } else {
            (&theirs[..], &own[..])
        };
        if connected {
            writer
                .write_one(Kind::Proof, self.proof(b'c', first, second).as_ref())
                .await?;
            self.verify(&expect(reader, Kind::Proof).await?, b'a', first, second)?;
        } else {
            self.verify(&expect(reader, Kind::Proof).await?, b'c', first, second)?;
            writer
                .write_one(Kind::Proof, self.proof(b'a', first, second).as_ref())
                .await?;
        }
        Ok(peer)
    }

    fn hello(&self) -> Result<Vec<u8>, Broken> {
        let mut body = vec![VERSION, self.role as u8];
        body.extend(random::<NONCE>().ok_or(Broken::NoRandom)?);
        body.extend(self.boot.to_be_bytes());
        for text in [&self.name, &self.namespace] {
            body.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
            body.extend(text.as_bytes());
        }
        Ok(body)
    }

    fn check(&self, body: &[u8]) -> Result<Peer, Broken> {
        if body.first().is_some_and(|version| *version != VERSION) {
            return Err(Broken::Stranger(
                "it speaks another version of this protocol",
            ));
        }
        let hello = read(body).ok_or(Broken::Malformed("its introduction is none"))?;
        if hello.role != self.others as u8 {
            return Err(Broken::Stranger(
                "hosts of a mesh connect to hosts, other hosts to forwarders",
            ));
        }
        if hello.namespace != self.namespace {
            return Err(Broken::Stranger("the namespaces differ"));
        }
        if hello.name.is_empty() || hello.name == self.name {
            return Err(Broken::Stranger(
                "both ends have the same name, or one has none",
            ));
        }
        Ok(Peer {
            name: hello.name.into(),
            boot: hello.boot,
        })
    }

    /// `side` tells the proofs of the two ends apart, so that none can be sent back as an answer to itself.
    fn context(&self, side: u8, first: &[u8], second: &[u8]) -> Vec<u8> {
        let mut all = vec![side];
        for hello in [first, second] {
            all.extend((hello.len() as u64).to_be_bytes());
            all.extend(hello);
        }
        all
    }

    fn proof(&self, side: u8, first: &[u8], second: &[u8]) -> hmac::Tag {
        hmac::sign(&self.key, &self.context(side, first, second))
    }

    fn verify(&self, proof: &[u8], side: u8, first: &[u8], second: &[u8]) -> Result<(), Broken> {
        hmac::verify(&self.key, &self.context(side, first, second), proof)
            .map_err(|_| Broken::Stranger("the secrets differ"))
    }
}

async fn expect(reader: &mut Reader, kind: Kind) -> Result<Bytes, Broken> {
    match reader.next_of_any_kind().await? {
        (is, body) if is == kind => Ok(body),
        (Kind::Refused, body) => Err(Broken::Refused(
            String::from_utf8_lossy(&body).escape_debug().to_string(),
        )),
        _ => Err(Broken::Malformed(
            "it is not what an introduction consists of",
        )),
    }
}

fn read(body: &[u8]) -> Option<Hello<'_>> {
    let (&[_, role], rest) = body.split_first_chunk()?;
    let (_, rest) = rest.split_first_chunk::<NONCE>()?;
    let (boot, rest) = rest.split_first_chunk()?;
    let (name, rest) = name(rest)?;
    let (namespace, rest) = crate::envelope::name(rest)?;
    rest.is_empty().then_some(Hello {
        role,
        name,
        boot: u64::from_be_bytes(*boot),
        namespace,
    })
}
