//! From which pages a browser may connect.

use serde_json::json;
use tests::raw::upgrade_request;
use tests::wait::eventually;
use tests::{RawWebSocket, Server, Settings, http};

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

/// A WebSocket for a page of this host and port, with more header fields.
fn as_host(server: &Server, host: &str, more: &str) -> (u16, String) {
    let own = server.websocket().to_string();
    let request = upgrade_request(server.websocket(), "/ws", more);
    let request = request.replace(&format!("Host: {own}"), &format!("Host: {host}"));
    let (_, response) = RawWebSocket::request(server.websocket(), &request);
    (response.status, response.text())
}

#[test]
fn a_page_of_another_name_that_leads_here_gets_nothing() {
    let settings = Settings::new();
    let mut server = Server::start(settings.clone());
    let port = server.websocket().port();
    let evil = format!("evil.example:{port}");
    // As its browser has it: both name the page's own host.
    let origin = format!("Origin: http://{evil}\r\n");
    assert_eq!(as_host(&server, &evil, &origin).0, 403);
    assert_eq!(as_host(&server, &evil, "").0, 403);
    assert_eq!(
        as_host(
            &server,
            &evil,
            &format!("X-Forwarded-For: 10.0.0.1\r\n{origin}")
        )
        .0,
        403
    );
    let page = |path: &str, host: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        http::exchange(server.websocket(), request.as_bytes()).unwrap()
    };
    let refused = page("/", &evil);
    assert_eq!(refused.status, 403);
    assert!(
        refused.text().contains("server.hosts"),
        "{}",
        refused.text()
    );
    for host in ["localhost", "chat.localhost:1", "127.0.0.1", "[::1]:1"] {
        assert_eq!(page("/", host).status, 200, "{host}");
        let origin = format!("Origin: http://{host}\r\n");
        assert_eq!(as_host(&server, host, &origin).0, 101, "{host}");
    }
    // A monitor asks under any name.
    assert_eq!(page("/healthz", &evil).status, 200);
    eventually("the operator is told what to list, once", || {
        let log = server.house().log();
        let told = log
            .lines()
            .filter(|l| l.contains("server.hosts") && l.contains(&evil));
        (told.count() >= 1).then_some(())
    });
    // A listed name is answered after a reload, and no other.
    server.rewrite(settings.with("server.hosts", json!(["chat.example.org"])));
    let output = server.house().run(&["reload"]);
    assert!(output.status.success(), "{output:?}");
    let origin = "Origin: https://chat.example.org\r\n";
    assert_eq!(as_host(&server, "chat.example.org", origin).0, 101);
    assert_eq!(
        as_host(&server, &evil, &format!("Origin: http://{evil}\r\n")).0,
        403
    );
}

#[test]
fn a_proxy_that_is_believed_may_pass_on_any_host() {
    let server = Server::start(Settings::new().with("server.proxies", json!(["127.0.0.1"])));
    let host = "chat.example.org";
    let origin = format!("Origin: https://{host}\r\n");
    let from = format!("X-Forwarded-For: 192.0.2.7\r\n{origin}");
    assert_eq!(as_host(&server, host, &from).0, 101);
    // A browser on the proxy's own machine comes from the same address, and cannot say so.
    assert_eq!(as_host(&server, host, &origin).0, 403);
    let request = upgrade_request(server.websocket(), "/ws", &origin);
    let request = request.replace(
        &format!("Host: {}", server.websocket()),
        &format!("Host: {host}"),
    );
    let introduced = format!("PROXY TCP4 192.0.2.7 192.0.2.1 1000 80\r\n{request}");
    assert_eq!(
        RawWebSocket::request(server.websocket(), &introduced)
            .1
            .status,
        101
    );
}

#[test]
fn the_hosts_of_listed_pages_are_known() {
    let server =
        Server::start(Settings::new().with("auth.origins", json!(["https://chat.example.org"])));
    let origin = "Origin: https://chat.example.org\r\n";
    assert_eq!(as_host(&server, "chat.example.org", origin).0, 101);
    assert_eq!(
        as_host(&server, "evil.example", "Origin: http://evil.example\r\n").0,
        403
    );
}
