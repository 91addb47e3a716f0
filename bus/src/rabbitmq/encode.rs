//! AMQP 0-9-1, what this end says.

use bytes::{BufMut, BytesMut};

use super::{
    decode::{BODY, END, HEADER, HEARTBEAT, METHOD},
    uri::Uri,
};

/// The channel on which everything happens.
const CHANNEL: u16 = 1;

/// Appends frames to a buffer.
pub(super) struct Encoder<'a>(pub(super) &'a mut BytesMut);

/// A value in a table.
enum Value<'a> {
    Text(&'a str),
    Bool(bool),
    Number(i64),
    Table(&'a [(&'a str, Value<'a>)]),
}

/// What the broker is told about the queue of a host.
pub(super) struct QueueBounds {
    /// It ends when nobody has taken anything from it for so long, ms.
    pub(super) expires_ms: i64,
    /// A frame that was not taken for so long is lost, ms.
    pub(super) ttl_ms: i64,
    /// Past so many bytes the oldest frames are lost.
    pub(super) bytes_max: i64,
}

impl Encoder<'_> {
    pub(super) fn protocol(&mut self) {
        self.0.put_slice(b"AMQP\0\0\x09\x01");
    }

    pub(super) fn start_ok(&mut self, uri: &Uri, name: &str) {
        self.method(0, (10, 11), |b| {
            let capabilities = [
                "publisher_confirms",
                "consumer_cancel_notify",
                "connection.blocked",
                "basic.nack",
            ];
            let capabilities = capabilities.map(|name| (name, Value::Bool(true)));
            table(
                b,
                &[
                    ("product", Value::Text("Steadfast")),
                    ("connection_name", Value::Text(name)),
                    ("capabilities", Value::Table(&capabilities)),
                ],
            );
            short(b, "PLAIN");
            long(b, |b| {
                b.put_u8(0);
                b.put_slice(uri.user.as_bytes());
                b.put_u8(0);
                b.put_slice(uri.password.as_bytes());
            });
            short(b, "en_US");
        });
    }

    pub(super) fn tune_ok(&mut self, channels: u16, frame_bytes: u32, heartbeat_s: u16) {
        self.method(0, (10, 31), |b| {
            b.put_u16(channels);
            b.put_u32(frame_bytes);
            b.put_u16(heartbeat_s);
        });
    }

    pub(super) fn open(&mut self, vhost: &str) {
        self.method(0, (10, 40), |b| {
            short(b, vhost);
            short(b, "");
            b.put_u8(0);
        });
    }

    pub(super) fn close(&mut self) {
        self.method(0, (10, 50), |b| {
            b.put_u16(200);
            short(b, "done");
            b.put_u32(0);
        });
    }

    pub(super) fn channel_open(&mut self) {
        self.method(CHANNEL, (20, 10), |b| short(b, ""));
    }

    pub(super) fn flow_ok(&mut self, active: bool) {
        self.method(CHANNEL, (20, 21), |b| b.put_u8(active.into()));
    }

    pub(super) fn confirm_select(&mut self) {
        self.method(CHANNEL, (85, 10), |b| b.put_u8(0));
    }

    /// A topic exchange that outlives the broker's restart.
    pub(super) fn exchange_declare(&mut self, exchange: &str) {
        self.method(CHANNEL, (40, 10), |b| {
            b.put_u16(0);
            short(b, exchange);
            short(b, "topic");
            b.put_u8(0b00010);
            table(b, &[]);
        });
    }

    pub(super) fn queue_declare(&mut self, queue: &str, bounds: &QueueBounds) {
        self.method(CHANNEL, (50, 10), |b| {
            b.put_u16(0);
            short(b, queue);
            b.put_u8(0b00010);
            let arguments = [
                ("x-expires", Value::Number(bounds.expires_ms)),
                ("x-message-ttl", Value::Number(bounds.ttl_ms)),
                ("x-max-length-bytes", Value::Number(bounds.bytes_max)),
                ("x-overflow", Value::Text("drop-head")),
            ];
            table(b, &arguments);
        });
    }

    /// Asks whether the queue is there: a question that a broker that lives answers.
    pub(super) fn queue_question(&mut self, queue: &str) {
        self.method(CHANNEL, (50, 10), |b| {
            b.put_u16(0);
            short(b, queue);
            b.put_u8(0b00001);
            table(b, &[]);
        });
    }

    pub(super) fn queue_bind(&mut self, queue: &str, exchange: &str, key: &str) {
        self.method(CHANNEL, (50, 20), |b| {
            b.put_u16(0);
            short(b, queue);
            short(b, exchange);
            short(b, key);
            b.put_u8(0);
            table(b, &[]);
        });
    }

    pub(super) fn qos(&mut self, frames: u16) {
        self.method(CHANNEL, (60, 10), |b| {
            b.put_u32(0);
            b.put_u16(frames);
            b.put_u8(0);
        });
    }

    pub(super) fn consume(&mut self, queue: &str, priority: i64) {
        self.method(CHANNEL, (60, 20), |b| {
            b.put_u16(0);
            short(b, queue);
            short(b, "");
            b.put_u8(0);
            table(b, &[("x-priority", Value::Number(priority))]);
        });
    }

    pub(super) fn ack(&mut self, up_to: u64) {
        self.method(CHANNEL, (60, 80), |b| {
            b.put_u64(up_to);
            b.put_u8(1);
        });
    }

    pub(super) fn publish(
        &mut self,
        exchange: &str,
        key: &str,
        content: &[u8],
        frame_bytes_max: usize,
    ) {
        self.method(CHANNEL, (60, 40), |b| {
            b.put_u16(0);
            short(b, exchange);
            short(b, key);
            b.put_u8(0);
        });
        self.frame(HEADER, CHANNEL, |b| {
            b.put_u16(60);
            b.put_u16(0);
            b.put_u64(content.len() as u64);
            b.put_u16(0);
        });
        for part in content.chunks(frame_bytes_max.saturating_sub(8).max(1)) {
            self.frame(BODY, CHANNEL, |b| b.put_slice(part));
        }
    }

    pub(super) fn heartbeat(&mut self) {
        self.frame(HEARTBEAT, 0, |_| {});
    }

    fn method(
        &mut self,
        channel: u16,
        (class, method): (u16, u16),
        arguments: impl FnOnce(&mut BytesMut),
    ) {
        self.frame(METHOD, channel, |b| {
            b.put_u16(class);
            b.put_u16(method);
            arguments(b);
        });
    }

    fn frame(&mut self, kind: u8, channel: u16, content: impl FnOnce(&mut BytesMut)) {
        self.0.put_u8(kind);
        self.0.put_u16(channel);
        long(self.0, content);
        self.0.put_u8(END);
    }
}

/// A text of at most 255 bytes; names and keys are checked before they get here.
fn short(b: &mut BytesMut, text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(255)];
    b.put_u8(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    b.put_slice(bytes);
}

/// Something with its length (4 bytes) in front.
fn long(b: &mut BytesMut, content: impl FnOnce(&mut BytesMut)) {
    let at = b.len();
    b.put_u32(0);
    content(b);
    let length = u32::try_from(b.len() - at - 4).unwrap_or(u32::MAX);
    b[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

fn table(b: &mut BytesMut, entries: &[(&str, Value<'_>)]) {
    long(b, |b| {
        for (name, value) in entries {
            short(b, name);
            match value {
                Value::Text(text) => {
                    b.put_u8(b'S');
                    long(b, |b| b.put_slice(text.as_bytes()));
                }
                Value::Bool(value) => {
                    b.put_u8(b't');
                    b.put_u8((*value).into());
                }
                Value::Number(number) => {
                    b.put_u8(b'l');
                    b.put_i64(*number);
                }
                Value::Table(entries) => {
                    b.put_u8(b'F');
                    table(b, entries);
                }
            }
        }
    });
}
