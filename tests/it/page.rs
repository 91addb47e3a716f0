//! The chat page in a real browser: two people talk, one drops and returns.

use std::path::PathBuf;

use serde_json::json;
use tests::browser::{Browser, Window};
use tests::proxy::Proxy;
use tests::{Client, Server, Settings, Transport};

const ENTER: &str = "\u{E007}";

fn enter<'b>(
    browser: &'b Browser,
    size: (u32, u32),
    address: std::net::SocketAddr,
    name: &str,
) -> Window<'b> {
    let window = browser.window(size.0, size.1);
    window.go(&format!("http://{address}/"));
    window.type_into("#name", &format!("{name}{ENTER}"));
    window.wait_for(r#"#status[data-state="online"]"#);
    window
}

fn say(window: &Window<'_>, text: &str) {
    window.type_into("#text", &format!("{text}{ENTER}"));
}

/// Waits for a message with this text and in this state.
fn expect_said(window: &Window<'_>, from: &str, text: &str, state: &str) {
    let (from, text, state) = (json!(from), json!(text), json!(state));
    window.wait_until(&format!(
        "[...document.querySelectorAll('#messages .said')].some(said => \
         said.dataset.from === {from} && said.dataset.state === {state} && said.querySelector('.bubble').textContent === {text})"
    ));
}

fn open_conversation(window: &Window<'_>, key: &str) {
    window.click(&format!("[data-conversation=\"{key}\"]"));
}

#[test]
fn two_people_talk_and_one_drops_and_returns() {
    let server = Server::standard();
    let proxy = Proxy::start(server.websocket());
    let browser = Browser::start();
    let ada = enter(&browser, (1240, 880), server.websocket(), "Ada");
    let ben = enter(&browser, (1240, 880), proxy.address(), "Ben");

    // In the lobby both see each other and what is said; markup is text.
    ada.wait_for(r#"#member-list [data-member="Ben"]"#);
    ben.wait_for(r#"#member-list [data-member="Ada"]"#);
    say(
        &ada,
        "Hello <b>there</b> <img src=x onerror=alert(1)> & welcome",
    );
    expect_said(
        &ben,
        "Ada",
        "Hello <b>there</b> <img src=x onerror=alert(1)> & welcome",
        "received",
    );
    assert_eq!(
        ben.value("document.querySelectorAll('#messages b, #messages img').length"),
        0
    );
    expect_said(
        &ada,
        "Ada",
        "Hello <b>there</b> <img src=x onerror=alert(1)> & welcome",
        "delivered",
    );

    // A private message marks the conversation unread until it is opened.
    ada.click(r#"#member-list [data-member="Ben"]"#);
    say(&ada, "just between us");
    expect_said(&ada, "Ada", "just between us", "delivered");
    ben.wait_for(r#"[data-conversation="user:Ada"][data-unread="1"]"#);
    ben.wait_until("document.title.startsWith('(1)')");
    open_conversation(&ben, "user:Ada");
    expect_said(&ben, "Ada", "just between us", "received");
    ben.wait_until("!document.querySelector('[data-unread]')");
    assert_eq!(
        ben.value(
            "document.querySelectorAll('[data-conversation=\"group:lobby\"][data-unread]').length"
        ),
        0
    );

    // To somebody who is not there.
    ada.type_into("#find-name", &format!("Nobody{ENTER}"));
    say(&ada, "hello?");
    expect_said(&ada, "Ada", "hello?", "offline");

    // Ben's connection is cut: he is told, and what he writes is not lost silently.
    proxy.cut();
    ben.wait_for(r#"#status[data-state="lost"], #status[data-state="connecting"]"#);
    ben.wait_until("!document.querySelector('#banner').hidden && document.querySelector('#banner').textContent.includes('lost')");
    ben.wait_until("document.querySelector('#send').disabled");
    ada.type_into("#find-name", &format!("Ben{ENTER}"));
    say(&ada, "are you still there?");
    expect_said(&ada, "Ada", "are you still there?", "offline");

    // It comes back by itself: he is logged in again and in his groups again.
    proxy.mend();
    ben.wait_for(r#"#status[data-state="online"]"#);
    ben.wait_until("!document.querySelector('#send').disabled");
    open_conversation(&ada, "group:lobby");
    open_conversation(&ben, "group:lobby");
    ben.wait_for(r#"#member-list [data-member="Ada"]"#);
    say(&ben, "I am back");
    expect_said(&ada, "Ben", "I am back", "received");
    say(&ada, "good");
    expect_said(&ben, "Ada", "good", "received");

    // Ada tries again what did not arrive.
    open_conversation(&ada, "user:Ben");
    ada.click(".said[data-state=\"offline\"] .retry");
    expect_said(&ada, "Ada", "are you still there?", "delivered");
    open_conversation(&ben, "user:Ada");
    expect_said(&ben, "Ada", "are you still there?", "received");
    assert_eq!(ada.complaints(), Vec::<serde_json::Value>::new());
}

#[test]
fn what_was_on_its_way_when_the_connection_broke_is_marked_and_can_be_sent_again() {
    let server = Server::standard();
    let proxy = Proxy::start(server.websocket());
    let browser = Browser::start();
    let mut ann = Client::login(&server, Transport::Tcp, "ann");
    let ben = enter(&browser, (420, 800), proxy.address(), "Ben");
    open_conversation(&ben, "group:lobby");
    ben.click("#back");
    ben.type_into("#find-name", &format!("ann{ENTER}"));
    say(&ben, "one");
    assert_eq!(ann.expect("message")["content"], "one");
    expect_said(&ben, "Ben", "one", "delivered");
    // The server hears this, but its answer never comes.
    proxy.mute();
    say(&ben, "two");
    assert_eq!(ann.expect("message")["content"], "two");
    expect_said(&ben, "Ben", "two", "sending");
    proxy.cut();
    expect_said(&ben, "Ben", "two", "failed");
    proxy.mend();
    ben.wait_for(r#"#status[data-state="online"]"#);
    ann.expect_nothing();
    ben.click(".said[data-state=\"failed\"] .retry");
    assert_eq!(ann.expect("message")["content"], "two");
    expect_said(&ben, "Ben", "two", "delivered");
}

#[test]
fn a_name_is_remembered_and_logging_out_forgets_it() {
    let server = Server::standard();
    let browser = Browser::start();
    let window = enter(&browser, (900, 700), server.websocket(), "Ada");
    window.go(&format!("http://{}/", server.websocket()));
    window.wait_for(r#"#status[data-state="online"]"#);
    assert_eq!(
        window.value("document.querySelector('#me').textContent"),
        "Ada"
    );
    window.click("#logout");
    window.wait_until("!document.querySelector('#entrance').hidden");
    window.go(&format!("http://{}/", server.websocket()));
    window.wait_until("!document.querySelector('#entrance').hidden && document.querySelector('#name').value === ''");
    let mut ann = Client::login(&server, Transport::Tcp, "ann");
    tests::wait::eventually("Ada is gone", || {
        (ann.sendto("Ada", json!(1)) == "offline").then_some(())
    });
    // A name the server would refuse is refused in words.
    window.type_into("#name", &format!("{}{ENTER}", "ü".repeat(40)));
    window.wait_until("!document.querySelector('#login-error').hidden");
}

#[test]
fn who_is_replaced_is_told_and_not_brought_back_by_itself() {
    let server = Server::start(Settings::new().with("limits.same_user", "one"));
    let browser = Browser::start();
    let window = enter(&browser, (900, 700), server.websocket(), "Ada");
    let mut elsewhere = Client::login(&server, Transport::Tcp, "Ada");
    window.wait_for(r#"#status[data-state="ended"]"#);
    window.wait_until("!document.querySelector('#banner').hidden && !document.querySelector('#banner-action').hidden");
    elsewhere.expect_nothing();
    window.click("#banner-action");
    window.wait_for(r#"#status[data-state="online"]"#);
    elsewhere.expect_ending(4004);
}

#[test]
fn it_fits_a_phone() {
    let server = Server::standard();
    let browser = Browser::start();
    let window = enter(&browser, (500, 800), server.websocket(), "Ada");
    // The list comes first; a conversation takes its place, and the way back is on the screen.
    window.wait_until("getComputedStyle(document.querySelector('#talk')).display === 'none'");
    open_conversation(&window, "group:lobby");
    window.wait_until("getComputedStyle(document.querySelector('#side')).display === 'none'");
    say(
        &window,
        &"a long message that has to be broken somewhere ".repeat(10),
    );
    say(&window, &"unbreakable".repeat(30));
    window.wait_until("document.querySelectorAll('#messages .said').length === 2");
    assert_eq!(
        window.value("document.documentElement.scrollWidth <= innerWidth"),
        true
    );
    window.click("#members-toggle");
    window.wait_for(r#"#member-list [data-member="Ada"]"#);
    window.click("#back");
    window.wait_until("getComputedStyle(document.querySelector('#talk')).display === 'none'");
}

/// Draws the picture for the README where `CHAT_PICTURE` says; without it, only that it can be drawn.
#[test]
fn a_picture_for_the_readme() {
    let server = Server::standard();
    let browser = Browser::start();
    let ada = enter(&browser, (1240, 860), server.websocket(), "Ada");
    let mut others: Vec<Client> = ["Bertrand", "Chiara", "Dmitri"]
        .iter()
        .map(|name| {
            let mut client = Client::login(&server, Transport::WebSocket, name);
            client.join("lobby");
            client
        })
        .collect();
    let mut group = |who: usize, text: &str| {
        others[who]
            .send(json!({"type": "sendgroup", "to": "lobby", "content": text, "quiet": true}));
        others[who].send(json!({"type": "ping"}));
        while others[who].json()["type"] != "pong" {}
        expect_said(
            &ada,
            ["Bertrand", "Chiara", "Dmitri"][who],
            text,
            "received",
        );
    };
    group(0, "Morning! The new build is up on the staging host.");
    group(1, "Nice. Any surprises?");
    say(
        &ada,
        "None. Ten thousand people came and went overnight, and nothing was left on the floor.",
    );
    expect_said(
        &ada,
        "Ada",
        "None. Ten thousand people came and went overnight, and nothing was left on the floor.",
        "delivered",
    );
    group(2, "That is rather the point.");
    say(&ada, "It is. Lunch at one?");
    expect_said(&ada, "Ada", "It is. Lunch at one?", "delivered");
    others[1].send(json!({"type": "sendto", "to": "Ada", "content": "How many sessions did you have on it?", "quiet": true}));
    ada.wait_for(r#"[data-conversation="user:Chiara"][data-unread="1"]"#);
    ada.type_into("#join-name", &format!("deploys{ENTER}"));
    open_conversation(&ada, "group:lobby");
    ada.wait_for(r#"#member-list [data-member="Dmitri"]"#);
    ada.wait_until("document.querySelector('#banner').hidden");
    let asked = std::env::var_os("CHAT_PICTURE").map(PathBuf::from);
    let path = asked
        .clone()
        .unwrap_or_else(|| server.house().path().join("chat.png"));
    ada.picture(&path);
    assert!(std::fs::read(&path).unwrap().starts_with(b"\x89PNG"));
}
