//! From which pages a browser may connect.

use serde_json::json;
use tests::raw::upgrade_request;
use tests::{RawWebSocket, Server, Settings};

fn status(server: &Server, path: &str, origin: &str) -> u16 {
    let header = format!("Origin: {origin}\r\n");
    RawWebSocket::request(
        server.websocket(),
        &upgrade_request(server.websocket(), path, &header),
    )
    .1
    .status
}

#[test]
fn by_default_only_the_same_host() {
    let server = Server::start(Settings::new().with("diagnostics.echo", true));
    let own = format!("http://{}", server.websocket());
    for path in ["/", "/ws", "/echo"] {
        assert_eq!(status(&server, path, &own), 101, "{path}");
        for foreign in [
            "http://example.org",
            "https://127.0.0.1.example.org",
            "null",
            "http://127.0.0.1:1",
            "file://",
        ] {
            assert_eq!(
                status(&server, path, foreign),
                403,
                "{path} from {foreign:?}"
            );
        }
    }
    // A client that is not a browser sends no Origin.
    RawWebSocket::connect(server.websocket(), "/ws");
}

#[test]
fn listed_pages_and_no_others() {
    let server = Server::start(Settings::new().with(
        "auth.origins",
        json!(["https://chat.example.org", "http://localhost:3000"]),
    ));
    assert_eq!(status(&server, "/ws", "https://chat.example.org"), 101);
    assert_eq!(status(&server, "/ws", "http://localhost:3000"), 101);
    for foreign in [
        "https://example.org",
        "http://chat.example.org",
        "https://chat.example.org:444",
        "https://chat.example.org.evil.example",
        "http://localhost:3001",
    ] {
        assert_eq!(status(&server, "/ws", foreign), 403, "{foreign}");
    }
}

#[test]
fn a_star_lets_every_page_in() {
    let server = Server::start(Settings::new().with("auth.origins", json!(["*"])));
    for origin in ["https://anywhere.example", "null"] {
        assert_eq!(status(&server, "/ws", origin), 101, "{origin}");
    }
}
