//! The reading half of a connection.

use bytes::Bytes;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, ReadHalf},
    time::timeout,
};

use super::{
    Broken, Message, Stream,
    decoder::Decoder,
    message::{Kind, hosts},
};

/// Reads messages and notices when the other end is silent.
pub(crate) struct Reader {
    stream: ReadHalf<Box<dyn Stream>>,
    decoder: Decoder,
    silence: Duration,
}

impl Reader {
    pub(super) fn new(stream: ReadHalf<Box<dyn Stream>>, silence: Duration) -> Self {
        Self {
            stream,
            decoder: Decoder::stranger(),
            silence,
        }
    }

    /// The other end has proved who it is; from now on it may send long messages, and is not silent longer than this.
    pub(super) fn trust(&mut self, silence: Duration) {
        self.decoder.trust();
        self.silence = silence;
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Result<Message, Broken> {
        loop {
            let (kind, body) = self.next_of_any_kind().await?;
            match kind {
                Kind::Frame => return Ok(Message::Frame(body)),
                Kind::Hosts => {
                    return hosts(&body)
                        .map(Message::Hosts)
                        .ok_or(Broken::Malformed("its names are none"));
                }
                Kind::Alive => {}
                Kind::Refused => {
                    return Err(Broken::Refused(
                        String::from_utf8_lossy(&body).escape_debug().to_string(),
                    ));
                }
                Kind::Hello | Kind::Proof => {
                    return Err(Broken::Malformed("it introduces itself again"));
                }
            }
        }
    }

    pub(super) async fn next_of_any_kind(&mut self) -> Result<(Kind, Bytes), Broken> {
        loop {
            if let Some(message) = self.decoder.next()? {
                return Ok(message);
            }
            match timeout(self.silence, self.stream.read_buf(self.decoder.room())).await {
                Err(_) => return Err(Broken::Silent(self.silence)),
                Ok(Err(error)) => return Err(error.into()),
                Ok(Ok(0)) => return Err(Broken::Closed),
                Ok(Ok(_)) => {}
            }
        }
    }
}
