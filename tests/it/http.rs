//! The HTTP side of the WebSocket port: the page, the health check, the handshake and its refusals.

use serde_json::json;
use tests::http::{exchange, get};
use tests::raw::{ACCEPT, KEY, upgrade_request};
use tests::{Frame, RawWebSocket, Server};

#[test]
fn the_page_is_at_the_root_and_needs_nothing_from_elsewhere() {
    let server = Server::standard();
    let page = get(server.websocket(), "/");
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-type")
            .is_some_and(|kind| kind.starts_with("text/html")),
        "{:?}",
        page.headers
    );
    assert!(
        page.header("content-security-policy")
            .is_some_and(|policy| policy.contains("default-src 'none'")),
        "{:?}",
        page.headers
    );
    assert_eq!(
        page.header("content-length"),
        Some(page.body.len().to_string().as_str())
    );
    let text = page.text();
    assert!(text.contains("<title>Steadfast</title>") && text.trim_end().ends_with("</html>"));
    assert!(
        !text.contains("src=\"http") && !text.contains("href=\"http") && !text.contains("@import"),
        "something from elsewhere"
    );
    let request = format!(
        "HEAD / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
        server.websocket()
    );
    let head = exchange(server.websocket(), request.as_bytes()).unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
}

#[test]
fn healthz_says_that_the_server_takes_sessions() {
    let server = Server::standard();
    assert_eq!(get(server.websocket(), "/healthz").status, 200);
    assert_eq!(get(server.websocket(), "/healthz?probe=1").status, 200);
}

#[test]
fn other_paths_and_methods_are_refused_by_name() {
    let server = Server::standard();
    for path in ["/nothing", "/index.html", "/ws/", "/../etc/passwd", "/echo"] {
        assert_eq!(get(server.websocket(), path).status, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        let request = format!(
            "{method} / HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            server.websocket()
        );
        let response = exchange(server.websocket(), request.as_bytes()).unwrap();
        assert_eq!(response.status, 405, "{method}");
        assert!(
            response
                .header("allow")
                .is_some_and(|allow| allow.contains("GET")),
            "{:?}",
            response.headers
        );
    }
    let (_, response) = RawWebSocket::request(
        server.websocket(),
        &upgrade_request(server.websocket(), "/nothing", ""),
    );
    assert_eq!(response.status, 404);
}

#[test]
fn both_paths_upgrade() {
    let server = Server::standard();
    for path in ["/", "/ws", "/ws?from=here"] {
        let mut socket = RawWebSocket::connect(server.websocket(), path);
        assert_eq!(socket.json()["type"], "open", "{path}");
    }
    assert_eq!(get(server.websocket(), "/ws").status, 426);
}

#[test]
fn the_subprotocol_is_chosen_when_it_is_offered() {
    let server = Server::standard();
    for (offered, chosen) in [
        ("", None),
        (
            "Sec-WebSocket-Protocol: steadfast.v1\r\n",
            Some("steadfast.v1"),
        ),
        (
            "Sec-WebSocket-Protocol: chat, steadfast.v1\r\n",
            Some("steadfast.v1"),
        ),
        (
            "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: steadfast.v1\r\n",
            Some("steadfast.v1"),
        ),
        ("Sec-WebSocket-Protocol: chat, steadfast.v2\r\n", None),
        ("Sec-WebSocket-Extensions: permessage-deflate\r\n", None),
    ] {
        let (mut socket, response) = RawWebSocket::request(
            server.websocket(),
            &upgrade_request(server.websocket(), "/ws", offered),
        );
        assert_eq!(response.status, 101, "{offered}");
        assert_eq!(
            response.header("sec-websocket-protocol"),
            chosen,
            "{offered}"
        );
        assert_eq!(response.header("sec-websocket-extensions"), None);
        assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT));
        assert_eq!(
            response
                .header("upgrade")
                .map(str::to_ascii_lowercase)
                .as_deref(),
            Some("websocket")
        );
        assert_eq!(
            response
                .header("connection")
                .map(str::to_ascii_lowercase)
                .as_deref(),
            Some("upgrade")
        );
        assert_eq!(socket.json()["type"], "open");
    }
}

#[test]
fn names_and_tokens_of_the_handshake_are_read_without_regard_to_case() {
    let server = Server::standard();
    let request = format!(
        "GET /ws HTTP/1.1\r\nhOST: {}\r\nUPGRADE: WebSocket\r\nconnection: keep-alive, UPGRADE\r\nsec-websocket-KEY: {KEY}\r\nSEC-WEBSOCKET-version: 13\r\n\r\n",
        server.websocket()
    );
    let (mut socket, response) = RawWebSocket::request(server.websocket(), &request);
    assert_eq!(response.status, 101);
    assert_eq!(socket.json()["type"], "open");
}

#[test]
fn a_handshake_that_is_none_is_refused() {
    let server = Server::standard();
    let good = upgrade_request(server.websocket(), "/ws", "");
    for (from, to, status) in [
        ("Version: 13", "Version: 12", 426),
        ("Version: 13", "Version: 0", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 400),
        ("Sec-WebSocket-Key", "Sec-WebSocket-Kez", 400),
        (KEY, "short", 400),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("Host:", "Hozt:", 400),
        ("GET", "POST", 405),
        ("GET /ws HTTP/1.1", "GET /ws", 400),
        ("Host:", "Bad Name:", 400),
    ] {
        let request = good.replace(from, to);
        let response = exchange(server.websocket(), request.as_bytes())
            .unwrap_or_else(|error| panic!("{to}: {error}"));
        assert_eq!(response.status, status, "{from} as {to}");
        if status == 426 {
            assert_eq!(response.header("sec-websocket-version"), Some("13"));
        }
    }
}

#[test]
fn a_head_without_end_is_refused() {
    let server = Server::standard();
    let endless = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\nX-Long: {}\r\n\r\n",
        server.websocket(),
        "x".repeat(20_000)
    );
    let response = exchange(server.websocket(), endless.as_bytes()).unwrap();
    assert!(matches!(response.status, 400 | 431), "{}", response.status);
    let many = format!(
        "GET /ws HTTP/1.1\r\nHost: {}\r\n{}\r\n",
        server.websocket(),
        "X-Y: z\r\n".repeat(500)
    );
    let response = exchange(server.websocket(), many.as_bytes()).unwrap();
    assert!(matches!(response.status, 400 | 431), "{}", response.status);
}

#[test]
fn the_head_may_come_in_pieces_and_the_first_frames_with_it() {
    let server = Server::standard();
    let login = Frame::text(json!({"type": "login", "userName": "ann"})).bytes();
    let mut request = upgrade_request(server.websocket(), "/ws", "").into_bytes();
    request.extend(login);
    let mut socket = RawWebSocket::silent(server.websocket());
    for byte in request {
        socket.send_bytes(&[byte]);
    }
    let response = socket.response();
    assert_eq!(response.status, 101);
    assert_eq!(socket.json()["type"], "open");
    assert_eq!(socket.json()["event"], "login");
}
