//! Requests that are no handshake, and those that are hardly requests.

use super::*;

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

#[test]
fn pages_are_got_by_get_and_head() {
    for (method, head_only) in [("GET", false), ("HEAD", true)] {
        for (target, page) in [
            ("/", Page::Chat),
            ("/?x", Page::Chat),
            ("/healthz", Page::Healthz),
            ("/healthz?x=/", Page::Healthz),
            ("http://localhost/healthz", Page::Healthz),
            ("https://localhost?x", Page::Chat),
        ] {
            let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            assert_eq!(
                parsed(&head, &DEFAULT),
                What::Get { page, head_only },
                "{head}"
            );
        }
    }
}

#[test]
fn http_10_gets_pages_and_needs_no_host() {
    let chat = What::Get {
        page: Page::Chat,
        head_only: false,
    };
    assert_eq!(parsed("GET / HTTP/1.0\r\n\r\n", &DEFAULT), chat);
    assert_eq!(
        parsed("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &DEFAULT),
        chat
    );
}

#[test]
fn unknown_paths_are_not_found() {
    for target in [
        "/x",
        "/ws/",
        "//",
        "/WS",
        "/healthz/",
        "/%77s",
        "/../",
        "/favicon.ico",
    ] {
        refused(&get(target), 404);
    }
    refused(&get("/echo"), 404);
}

#[test]
fn paths_of_websockets_say_so() {
    refused(&get("/ws"), 426);
    let echo = Rules {
        echo: true,
        ..DEFAULT
    };
    assert!(matches!(
        parsed(&get("/echo"), &echo),
        What::Refuse { status: 426, .. }
    ));
}

#[test]
fn other_methods_are_told_which_there_are() {
    for method in ["POST", "PUT", "OPTIONS", "TRACE", "get", "DELETE", "X-ODD"] {
        let head = format!("{method} /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(refused(&head, 405).contains("\r\nAllow: GET, HEAD\r\n"));
    }
    refused(
        "CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        405,
    );
    refused("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", 405);
}

#[test]
fn targets_of_proxies_are_refused() {
    refused(&get("*"), 400);
    refused(&get("localhost:80"), 400);
    refused(&get("ftp://localhost/"), 400);
    refused(&get("http:///"), 400);
    refused(&get("http://a@b/"), 400);
}

#[test]
fn there_is_one_host() {
    refused("GET / HTTP/1.1\r\n\r\n", 400);
    refused("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400);
    for host in [
        "", "a b", "a,b", "a/b", "a@b", "a:b", "a:70000", "[::1", "::1", ":80", "\u{e9}",
    ] {
        refused(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), 400);
    }
    for host in [
        "a",
        "a:",
        "a:80",
        "127.0.0.1:9501",
        "[::1]",
        "[::1]:9501",
        "x-1.example",
        "a_b",
    ] {
        parsed(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"), &DEFAULT);
    }
}

#[test]
fn what_is_not_http_is_refused() {
    for head in [
        "\u{1}\r\n\r\n",
        "{\"type\":\"login\"}\n",
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n folded: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n",
        "GET /\u{0} HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        refused(head, 400);
    }
    refused("GET / HTTP/2.0\r\n\r\n", 505);
    refused("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505);
}

#[test]
fn heads_have_a_limit() {
    let padded = |bytes: usize| {
        let start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
        format!("{start}{}\r\n\r\n", "x".repeat(bytes - start.len() - 4))
    };
    assert!(matches!(
        parsed(&padded(HEAD_BYTES_MAX), &DEFAULT),
        What::Get { .. }
    ));
    refused(&padded(HEAD_BYTES_MAX + 1), 431);
    refused(&"\r\n".repeat(HEAD_BYTES_MAX), 431);
    refused(&format!("GET /{}", "x".repeat(HEAD_BYTES_MAX)), 431);
    let endless = b"GET / HTTP/1.1\r\nX: "
        .iter()
        .chain([b'x'; HEAD_BYTES_MAX].iter());
    let endless: Vec<u8> = endless.copied().collect();
    assert_eq!(
        parse(&endless[..HEAD_BYTES_MAX - 1], &DEFAULT),
        Head::Incomplete
    );
    let fields = |count: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(count - 1)
        )
    };
    assert!(matches!(
        parsed(&fields(FIELDS_MAX), &DEFAULT),
        What::Get { .. }
    ));
    refused(&fields(FIELDS_MAX + 1), 431);
}

#[test]
fn a_refused_head_request_has_no_body() {
    let response = answer("HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n", &DEFAULT);
    assert!(response.starts_with("HTTP/1.1 404 "));
    assert!(response.ends_with("\r\n\r\n") && !response.contains("Content-Length: 0"));
}

#[test]
fn responses_are_written_whole() {
    let mut bytes = Vec::new();
    response(
        &mut bytes,
        200,
        &[("Content-Type", "text/html")],
        b"<p>",
        false,
    )
    .unwrap();
    assert_eq!(
        String::from_utf8(bytes).unwrap(),
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\nConnection: close\r\n\r\n<p>"
    );
    let full = String::from_utf8(refusal(503, &[("Retry-After", "5")], "full")).unwrap();
    assert!(full.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    assert!(full.contains("\r\nRetry-After: 5\r\n") && full.ends_with("\r\n\r\nfull\n"));
}

#[test]
fn a_host_that_is_not_this_machines_is_refused_on_every_path_but_the_health_check() {
    let listed = ["chat.example".to_owned()];
    let listed = Rules {
        hosts: Some(&listed),
        ..LOOPBACK
    };
    let anywhere = Rules {
        hosts: None,
        ..LOOPBACK
    };
    let from_proxy = Rules {
        from_proxy: true,
        ..LOOPBACK
    };
    let from = "X-Forwarded-For: 192.0.2.1";
    for path in ["/", "/ws", "/nothing"] {
        let head = |host: &str, more: &str| {
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n\r\n")
        };
        let refused = |head: &str, rules: &Rules<'_>| match parsed(head, rules) {
            What::RefuseHost { host, response } => {
                assert!(response.starts_with(b"HTTP/1.1 403 "));
                let response = String::from_utf8(response).unwrap();
                assert!(response.contains("server.hosts"), "{response}");
                assert!(!response.contains(&host), "{response}");
                true
            }
            _ => false,
        };
        assert!(refused(&head("chat.example:9501", "X: y"), &LOOPBACK));
        assert!(!refused(&head("chat.example:9501", "X: y"), &listed));
        assert!(!refused(&head("chat.example", "X: y"), &anywhere));
        assert!(!refused(&head("127.0.0.1:1", "X: y"), &LOOPBACK));
        // What a browser behind the proxy could not say.
        assert!(!refused(&head("chat.example", from), &from_proxy));
        assert!(refused(&head("chat.example", "X: y"), &from_proxy));
        assert!(refused(&head("chat.example", from), &LOOPBACK));
        let absolute =
            head("localhost", "X: y").replacen(path, &format!("http://chat.example{path}"), 1);
        assert!(refused(&absolute, &LOOPBACK));
    }
    let page = |host: &str, more: &str| match parsed(
        &format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n{more}\r\n\r\n"),
        &LOOPBACK,
    ) {
        What::Get { page, .. } => page,
        what => panic!("{what:?}"),
    };
    assert_eq!(page("localhost", "X: y"), Page::Healthz);
    assert_eq!(page("evil.example", "X: y"), Page::HealthzForAnybody);
    assert_eq!(page("localhost", from), Page::HealthzForAnybody);
    assert_eq!(
        page("localhost", "Forwarded: for=192.0.2.1"),
        Page::HealthzForAnybody
    );
}

#[test]
fn a_page_whose_name_leads_here_by_now_gets_no_websocket() {
    let rebound = [
        ("Host", "evil.example:9501"),
        ("Origin", "http://evil.example:9501"),
    ];
    let what = parsed(&handshake("/ws", &rebound), &LOOPBACK);
    assert!(matches!(what, What::RefuseHost { .. }), "{what:?}");
    // Where pages are listed, the page is refused by what it is.
    let origins = ["https://chat.example".to_owned()];
    let rules = Rules {
        origins: &origins,
        hosts: None,
        ..LOOPBACK
    };
    let what = parsed(&handshake("/ws", &rebound), &rules);
    assert!(matches!(what, What::Refuse { status: 403, .. }), "{what:?}");
}
