//! The opening handshake of RFC 6455, 4.2: whether a request may become a WebSocket, and the answer.

use tokio_tungstenite::tungstenite::handshake::server::{create_response, write_response};
use tokio_tungstenite::tungstenite::http;

use super::head::{Fields, Refused};
use super::{Rules, SUBPROTOCOL, origin};

/// The one version there is.
const VERSION: &str = "13";

/// Whether the request asks for a WebSocket. An `Upgrade` to anything else, or one that `Connection`
/// does not name, is as if it were not there (RFC 9110, 7.8).
pub(super) fn is_asked_for(fields: &Fields<'_, '_>) -> bool {
    fields.lists("Connection", |option| {
        option.eq_ignore_ascii_case("upgrade")
    }) && fields.lists("Upgrade", |protocol| {
        protocol.eq_ignore_ascii_case("websocket")
    })
}

/// Checks the handshake and makes the 101.
pub(super) fn answer(
    fields: &Fields<'_, '_>,
    host: &str,
    is_http_11: bool,
    rules: &Rules<'_>,
) -> Result<Vec<u8>, Refused> {
    if !is_http_11 {
        return Err(Refused::new(400, "a WebSocket needs HTTP/1.1"));
    }
    let has_body = fields.first("Transfer-Encoding").is_some()
        || fields.all("Content-Length").any(|value| value != b"0");
    if has_body {
        // Its bytes would be taken for frames.
        return Err(Refused::new(400, "a WebSocket handshake has no body"));
    }
    match fields.single("Sec-WebSocket-Version")? {
        Some(version) if version == VERSION.as_bytes() => {}
        version => {
            let status = if version.is_some() { 426 } else { 400 };
            let mut refused = Refused::new(status, "Sec-WebSocket-Version must be 13");
            refused.headers.push(("Sec-WebSocket-Version", VERSION));
            if status == 426 {
                refused.headers.push(("Upgrade", "websocket"));
            }
            return Err(refused);
        }
    }
    let Some(key) = fields.single("Sec-WebSocket-Key")? else {
        return Err(Refused::new(400, "Sec-WebSocket-Key is missing"));
    };
    if let Some(origin) = fields.single("Origin")? {
        let origin = std::str::from_utf8(origin).unwrap_or_default();
        if !origin::allowed(origin, host, rules.origins) {
            return Err(Refused::new(
                403,
                "this Origin is not allowed to connect here",
            ));
        }
    }
    let offered = fields.lists("Sec-WebSocket-Protocol", |name| name == SUBPROTOCOL);
    response(key, offered)
        .ok_or_else(|| Refused::new(400, "Sec-WebSocket-Key must be 16 bytes in base64"))
}

/// The 101 for a key, if it is one. tungstenite is given the request as it would have been written
/// by the plainest of clients: what the fields mean in all their forms has been decided above.
fn response(key: &[u8], subprotocol: bool) -> Option<Vec<u8>> {
    let request = http::Request::builder()
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", VERSION)
        .header("Sec-WebSocket-Key", key)
        .body(())
        .ok()?;
    let mut response = create_response(&request).ok()?;
    if subprotocol {
        let name = http::HeaderValue::from_static(SUBPROTOCOL);
        response
            .headers_mut()
            .insert("Sec-WebSocket-Protocol", name);
    }
    let mut bytes = Vec::with_capacity(192);
    write_response(&mut bytes, &response).ok()?;
    Some(bytes)
}
