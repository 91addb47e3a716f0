//! Answers that are no upgrade: each closes its connection.

use std::io::{self, Write};

/// Writes a whole response. `Content-Length` and `Connection: close` are added to `headers`, which
/// need no escape: they are the caller's own words. With `head_only` the body is counted, not sent.
pub fn response<W: Write + ?Sized>(
    w: &mut W,
    status: u16,
    headers: &[(&str, &str)],
    body: &[u8],
    head_only: bool,
) -> io::Result<()> {
    write!(w, "HTTP/1.1 {status} {}\r\n", phrase(status))?;
    for (name, value) in headers {
        write!(w, "{name}: {value}\r\n")?;
    }
    // Whoever names `Upgrade` names it in `Connection` as well (RFC 9110, 7.8).
    let upgrade = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
    let connection = if upgrade { "close, Upgrade" } else { "close" };
    write!(
        w,
        "Content-Length: {}\r\nConnection: {connection}\r\n\r\n",
        body.len()
    )?;
    if head_only { Ok(()) } else { w.write_all(body) }
}

/// A refusal with a sentence for a person, such as
/// `refusal(503, &[("Retry-After", "5")], "the server is full")`.
pub fn refusal(status: u16, headers: &[(&str, &str)], sentence: &str) -> Vec<u8> {
    refusal_to(status, headers, sentence, false)
}

pub(super) fn refusal_to(
    status: u16,
    headers: &[(&str, &str)],
    sentence: &str,
    head_only: bool,
) -> Vec<u8> {
    let mut all = vec![("Content-Type", "text/plain; charset=utf-8")];
    all.extend_from_slice(headers);
    let body = format!("{sentence}\n");
    let mut bytes = Vec::with_capacity(256 + body.len());
    // Writing to a Vec has no errors.
    let written = response(&mut bytes, status, &all, body.as_bytes(), head_only);
    debug_assert!(written.is_ok());
    bytes
}

/// The phrase behind a status: nothing depends on it, people read it.
fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
