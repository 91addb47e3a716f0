//! JSON written field by field: just enough of it to write flat objects in a fixed order without a
//! value tree or an allocation.

use std::io::{self, Write};

/// What may stand behind a field's name.
pub(super) trait Value {
    fn write<W: Write + ?Sized>(&self, w: &mut W) -> io::Result<()>;
}

/// Text that is to become a JSON string.
pub(super) struct Text<'a>(pub &'a str);

/// What is JSON already. A line break can only stand between its tokens, as JSON allows none inside
/// a string.
pub(super) struct Raw<'a>(pub &'a str);

impl Value for Text<'_> {
    fn write<W: Write + ?Sized>(&self, w: &mut W) -> io::Result<()> {
        w.write_all(b"\"")?;
        escaped(w, self.0)?;
        w.write_all(b"\"")
    }
}

impl Value for Raw<'_> {
    fn write<W: Write + ?Sized>(&self, w: &mut W) -> io::Result<()> {
        let mut rest = self.0.as_bytes();
        while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
            w.write_all(&rest[..at])?;
            w.write_all(b" ")?;
            rest = &rest[at + 1..];
        }
        w.write_all(rest)
    }
}

impl Value for u64 {
    fn write<W: Write + ?Sized>(&self, w: &mut W) -> io::Result<()> {
        const DIGITS_MAX: usize = u64::MAX.ilog10() as usize + 1;
        let mut digits = [0; DIGITS_MAX];
        let mut at = DIGITS_MAX;
        let mut left = *self;
        loop {
            at -= 1;
            // A remainder of ten fits a byte.
            digits[at] = b'0' + (left % 10) as u8;
            left /= 10;
            if left == 0 {
                return w.write_all(&digits[at..]);
            }
        }
    }
}

impl Value for bool {
    fn write<W: Write + ?Sized>(&self, w: &mut W) -> io::Result<()> {
        w.write_all(if *self { b"true" } else { b"false" })
    }
}

/// An object being written; [`Object::end`] closes it.
pub(super) struct Object<'w, W: ?Sized> {
    w: &'w mut W,
    empty: bool,
}

impl<'w, W: Write + ?Sized> Object<'w, W> {
    pub(super) fn start(w: &'w mut W) -> io::Result<Self> {
        w.write_all(b"{")?;
        Ok(Object { w, empty: true })
    }

    /// Starts a message. `kind` is one of our own words and needs no escape.
    pub(super) fn of_type(w: &'w mut W, kind: &'static str) -> io::Result<Self> {
        w.write_all(b"{\"type\":\"")?;
        w.write_all(kind.as_bytes())?;
        w.write_all(b"\"")?;
        Ok(Object { w, empty: false })
    }

    /// Writes a name and hands out the writer for the value. `name` needs no escape.
    pub(super) fn name(&mut self, name: &'static str) -> io::Result<&mut W> {
        self.w.write_all(if self.empty { b"\"" } else { b",\"" })?;
        self.empty = false;
        self.w.write_all(name.as_bytes())?;
        self.w.write_all(b"\":")?;
        Ok(self.w)
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
        self.w.write_all(b"}")
    }
}

/// Writes text as the inside of a JSON string: clean stretches as they are, the rest escaped.
pub(super) fn escaped<W: Write + ?Sized>(w: &mut W, text: &str) -> io::Result<()> {
    let bytes = text.as_bytes();
    let mut clean_from = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        w.write_all(&bytes[clean_from..at])?;
        clean_from = at + 1;
        match byte {
            b'"' => w.write_all(b"\\\"")?,
            b'\\' => w.write_all(b"\\\\")?,
            b'\n' => w.write_all(b"\\n")?,
            b'\r' => w.write_all(b"\\r")?,
            b'\t' => w.write_all(b"\\t")?,
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let high = HEX[usize::from(control >> 4)];
                let low = HEX[usize::from(control & 15)];
                w.write_all(&[b'\\', b'u', b'0', b'0', high, low])?;
            }
        }
    }
    w.write_all(&bytes[clean_from..])
}
