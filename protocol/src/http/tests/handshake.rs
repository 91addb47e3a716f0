//! RFC 6455, 4.2: every requirement on the client's handshake, and the access rule.

use super::*;

fn endpoint(head: &str, rules: &Rules<'_>) -> Endpoint {
    match parsed(head, rules) {
        What::Upgrade { endpoint, .. } => endpoint,
        what => panic!("{what:?}"),
    }
}

#[test]
fn a_sound_handshake_is_answered_with_its_key() {
    let response = answer(&handshake("/", &[]), &DEFAULT).to_ascii_lowercase();
    assert!(
        response.starts_with("http/1.1 101 switching protocols\r\n"),
        "{response}"
    );
    assert!(response.ends_with("\r\n\r\n"));
    assert!(response.contains("\r\nconnection: upgrade\r\n"));
    assert!(response.contains("\r\nupgrade: websocket\r\n"));
    assert!(response.contains("\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"));
    assert!(!response.contains("protocol:"), "none was offered");
    assert!(!response.contains("extensions"), "none is ever negotiated");
}

#[test]
fn what_follows_the_head_is_not_of_it() {
    let head = handshake("/ws", &[]);
    match parse(format!("{head}\u{1}frames").as_bytes(), &DEFAULT) {
        Head::Complete {
            bytes,
            what: What::Upgrade { .. },
        } => assert_eq!(bytes, head.len()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn paths_lead_to_endpoints() {
    for path in [
        "/",
        "/ws",
        "/?room=1",
        "/ws?x=/echo",
        "http://localhost:9501/ws",
        "HTTP://h",
    ] {
        assert_eq!(
            endpoint(&handshake(path, &[]), &DEFAULT),
            Endpoint::Chat,
            "{path}"
        );
    }
    let echo = Rules {
        echo: true,
        ..DEFAULT
    };
    assert_eq!(endpoint(&handshake("/echo", &[]), &echo), Endpoint::Echo);
    refused(&handshake("/echo", &[]), 404);
    refused(&handshake("/other", &[]), 404);
}

#[test]
fn fields_are_lists_and_words_have_no_case() {
    for changed in [
        [
            ("Connection", "keep-alive, Upgrade"),
            ("Upgrade", "WebSocket"),
        ],
        [("Connection", "UPGRADE"), ("Upgrade", "h2c, websocket")],
        [("Connection", "a,,upgrade ,b"), ("Upgrade", "websocket")],
    ] {
        endpoint(&handshake("/", &changed), &DEFAULT);
    }
    let lower = handshake("/", &[]).replace("Sec-WebSocket", "sec-websocket");
    endpoint(&lower, &DEFAULT);
    let twice = handshake("/", &[("Connection", "keep-alive\r\nConnection: Upgrade")]);
    endpoint(&twice, &DEFAULT);
}

#[test]
fn the_subprotocol_is_confirmed_where_it_is_offered() {
    let confirmed = "sec-websocket-protocol: steadfast.v1\r\n";
    for offer in [
        "steadfast.v1",
        "chat, steadfast.v1",
        "a\r\nSec-WebSocket-Protocol: steadfast.v1",
    ] {
        let head = handshake("/", &[("Sec-WebSocket-Protocol", offer)]);
        assert!(
            answer(&head, &DEFAULT)
                .to_ascii_lowercase()
                .contains(confirmed),
            "{offer}"
        );
    }
    for offer in ["chat", "steadfast.v2", "Steadfast.v1", "steadfast.v11"] {
        let head = handshake("/", &[("Sec-WebSocket-Protocol", offer)]);
        let response = answer(&head, &DEFAULT).to_ascii_lowercase();
        assert!(
            response.starts_with("http/1.1 101 ") && !response.contains("protocol:"),
            "{offer}"
        );
    }
}

#[test]
fn another_version_is_told_ours() {
    for version in ["8", "14", "13, 8", "x"] {
        let response = refused(&handshake("/", &[("Sec-WebSocket-Version", version)]), 426);
        assert!(
            response.contains("\r\nSec-WebSocket-Version: 13\r\n"),
            "{response}"
        );
        assert!(
            response.contains("\r\nUpgrade: websocket\r\n"),
            "{response}"
        );
    }
    let response = refused(&handshake("/", &[("Sec-WebSocket-Version", "")]), 400);
    assert!(
        response.contains("\r\nSec-WebSocket-Version: 13\r\n"),
        "{response}"
    );
}

#[test]
fn the_key_is_sixteen_bytes_and_comes_once() {
    for key in [
        "",
        "x",
        "SGVsbG8sIHdvcmxkIQ==",
        "dGhlIHNhbXBsZSBub25jZQ=",
        "dGhlIHNhbXBsZSBub25jZ!==",
        "dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ] {
        refused(&handshake("/", &[("Sec-WebSocket-Key", key)]), 400);
    }
}

#[test]
fn http_10_cannot_upgrade() {
    refused(&handshake("/", &[]).replace("HTTP/1.1", "HTTP/1.0"), 400);
}

#[test]
fn a_handshake_has_no_body() {
    refused(&handshake("/", &[("Content-Length", "5")]), 400);
    refused(&handshake("/", &[("Transfer-Encoding", "chunked")]), 400);
    endpoint(&handshake("/", &[("Content-Length", "0")]), &DEFAULT);
}

#[test]
fn an_upgrade_to_something_else_is_a_plain_request() {
    let chat = What::Get {
        page: Page::Chat,
        head_only: false,
    };
    for changed in [
        [("Upgrade", "h2c"), ("Connection", "Upgrade")],
        [("Upgrade", ""), ("Connection", "Upgrade")],
        [("Upgrade", "websocket"), ("Connection", "keep-alive")],
        [("Upgrade", "websocket"), ("Connection", "")],
        [("Upgrade", "websockets"), ("Connection", "Upgrade")],
    ] {
        assert_eq!(parsed(&handshake("/", &changed), &DEFAULT), chat);
        let response = refused(&handshake("/ws", &changed), 426);
        assert!(
            response.contains("\r\nUpgrade: websocket\r\n"),
            "{response}"
        );
        assert!(
            response.contains("\r\nConnection: close, Upgrade\r\n"),
            "{response}"
        );
    }
    let healthz = What::Get {
        page: Page::Healthz,
        head_only: false,
    };
    assert_eq!(parsed(&handshake("/healthz", &[]), &DEFAULT), healthz);
    let head = handshake("/", &[]).replace("GET", "HEAD");
    assert_eq!(
        parsed(&head, &DEFAULT),
        What::Get {
            page: Page::Chat,
            head_only: true
        }
    );
}

#[test]
fn another_origin_is_refused_before_the_upgrade() {
    endpoint(
        &handshake("/", &[("Origin", "http://localhost:9501")]),
        &DEFAULT,
    );
    for origin in [
        "http://evil.example",
        "null",
        "http://localhost",
        "http://localhost:9501.evil.example",
        "\u{e9}",
    ] {
        refused(&handshake("/", &[("Origin", origin)]), 403);
    }
    let twice = "http://localhost:9501\r\nOrigin: http://evil.example";
    refused(&handshake("/", &[("Origin", twice)]), 400);
    let empty = handshake("/", &[]).replace("Host:", "Origin: \r\nHost:");
    refused(&empty, 403);

    let origins = ["https://chat.example".to_owned()];
    let listed = Rules {
        origins: &origins,
        ..DEFAULT
    };
    endpoint(
        &handshake("/", &[("Origin", "https://chat.example")]),
        &listed,
    );
    let head = handshake("/", &[("Origin", "http://localhost:9501")]);
    assert!(matches!(
        parsed(&head, &listed),
        What::Refuse { status: 403, .. }
    ));
}

#[test]
fn the_host_of_an_absolute_target_counts() {
    let head = handshake("http://other:80/ws", &[("Origin", "http://other")]);
    endpoint(&head, &DEFAULT);
    let head = handshake("http://other/ws", &[("Origin", "http://localhost:9501")]);
    refused(&head, 403);
}
