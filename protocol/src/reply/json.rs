//! JSON written field by field: just enough of it to write objects in a fixed order without a value
//! tree or an allocation.

use std::io::{self, Write};

use crate::scan::plain_len;

/// The writer, with a shorter name for what is done to it all the time.
pub(super) struct Out<'w, W: ?Sized>(&'w mut W);

impl<'w, W: Write + ?Sized> Out<'w, W> {
    pub(super) fn new(w: &'w mut W) -> Self {
        Out(w)
    }

    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }
}

/// What may stand behind a field's name.
pub(super) trait Value {
    fn write<W: Write + ?Sized>(&self, out: &mut Out<'_, W>) -> io::Result<()>;
}

/// Text that is to become a JSON string.
pub(super) struct Text<'a>(pub &'a str);

/// What is JSON already. A line break can only stand between its tokens, as JSON allows none inside
/// a string.
pub(super) struct Raw<'a>(pub &'a str);

impl Value for Text<'_> {
    fn write<W: Write + ?Sized>(&self, out: &mut Out<'_, W>) -> io::Result<()> {
        out.put(b"\"")?;
        escaped(out, self.0)?;
        out.put(b"\"")
    }
}

impl Value for Raw<'_> {
    fn write<W: Write + ?Sized>(&self, out: &mut Out<'_, W>) -> io::Result<()> {
        let mut rest = self.0.as_bytes();
        if rest.first() == Some(&b'"') {
            // One string: there is nothing between tokens.
            return out.put(rest);
        }
        while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
            out.put(&rest[..at])?;
            out.put(b" ")?;
            rest = &rest[at + 1..];
        }
        out.put(rest)
    }
}

impl Value for u64 {
    fn write<W: Write + ?Sized>(&self, out: &mut Out<'_, W>) -> io::Result<()> {
        out.put(itoa::Buffer::new().format(*self).as_bytes())
    }
}

impl Value for bool {
    fn write<W: Write + ?Sized>(&self, out: &mut Out<'_, W>) -> io::Result<()> {
        out.put(if *self { b"true" } else { b"false" })
    }
}

/// Writes a whole message: an object whose first field is `type`. `kind` needs no escape, being one
/// of our own words, and so it is with all names of fields.
pub(super) fn message_of_type<'w, W: Write + ?Sized>(
    w: &'w mut W,
    kind: &'static str,
    fields: impl FnOnce(&mut Object<'_, 'w, W>) -> io::Result<()>,
) -> io::Result<()> {
    let mut out = Out::new(w);
    out.put(b"{\"type\":\"")?;
    out.put(kind.as_bytes())?;
    out.put(b"\"")?;
    let mut object = Object {
        out: &mut out,
        empty: false,
    };
    fields(&mut object)?;
    object.end()
}

/// An object being written; [`Object::end`] closes it.
pub(super) struct Object<'o, 'w, W: ?Sized> {
    out: &'o mut Out<'w, W>,
    empty: bool,
}

impl<'o, 'w, W: Write + ?Sized> Object<'o, 'w, W> {
    pub(super) fn start(out: &'o mut Out<'w, W>) -> io::Result<Self> {
        out.put(b"{")?;
        Ok(Object { out, empty: true })
    }

    /// Writes a name, and hands out the writer for its value.
    pub(super) fn name(&mut self, name: &'static str) -> io::Result<&mut Out<'w, W>> {
        self.out.put(if self.empty { b"\"" } else { b",\"" })?;
        self.empty = false;
        self.out.put(name.as_bytes())?;
        self.out.put(b"\":")?;
        Ok(self.out)
    }

    pub(super) fn field(&mut self, name: &'static str, value: impl Value) -> io::Result<()> {
        value.write(self.name(name)?)
    }

    /// Leaves out the field when there is no value.
    pub(super) fn optional(
        &mut self,
        name: &'static str,
        value: Option<impl Value>,
    ) -> io::Result<()> {
        match value {
            Some(value) => self.field(name, value),
            None => Ok(()),
        }
    }

    pub(super) fn end(self) -> io::Result<()> {
        self.out.put(b"}")
    }
}

/// Writes text as the inside of a JSON string: clean stretches as they are, the rest escaped.
#[inline]
pub(super) fn escaped<W: Write + ?Sized>(out: &mut Out<'_, W>, text: &str) -> io::Result<()> {
    let bytes = text.as_bytes();
    let plain = plain_len(bytes);
    out.put(&bytes[..plain])?;
    match bytes.get(plain..) {
        Some(rest) if !rest.is_empty() => escaped_from(out, rest),
        _ => Ok(()),
    }
}

/// The same for what begins with something to be escaped.
fn escaped_from<W: Write + ?Sized>(out: &mut Out<'_, W>, mut rest: &[u8]) -> io::Result<()> {
    loop {
        let plain = plain_len(rest);
        out.put(&rest[..plain])?;
        let Some(&byte) = rest.get(plain) else {
            return Ok(());
        };
        rest = &rest[plain + 1..];
        match byte {
            b'"' => out.put(b"\\\"")?,
            b'\\' => out.put(b"\\\\")?,
            b'\n' => out.put(b"\\n")?,
            b'\r' => out.put(b"\\r")?,
            b'\t' => out.put(b"\\t")?,
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let high = HEX[usize::from(control >> 4)];
                let low = HEX[usize::from(control & 15)];
                out.put(&[b'\\', b'u', b'0', b'0', high, low])?;
            }
        }
    }
}
