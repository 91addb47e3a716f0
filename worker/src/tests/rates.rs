//! Whatever a client sends costs it something, and in the end its connection.

use config::Config;
use shm_table::Transport;

use super::frames::{
    CLOSE, FINAL, PING, PONG, REQUEST, TEXT, close_code, frame, frames, text, upgraded,
};
use super::house::{Client, House, settings, table};

/// Far more than any of the floods here gets through: without a limit all of it does.
const FLOOD_BYTES: usize = 8 << 20;

fn limited() -> Config {
    let mut settings = settings();
    settings.limits.messages_per_second = 5;
    settings.limits.message_burst = 10;
    settings.diagnostics.echo = true;
    settings
}

/// Sends a piece over and over until the server has ended the connection; how many bytes it took, and what it said meanwhile.
fn flood(house: &mut House<'_>, client: &mut Client, piece: &[u8]) -> (usize, Vec<u8>) {
    let pieces = piece.repeat(8_192_usize.div_ceil(piece.len()));
    let (mut taken, mut said, mut at) = (0, Vec::new(), 0);
    while taken < FLOOD_BYTES {
        let sent = client.try_send(&pieces[at..]);
        taken += sent;
        at = (at + sent) % pieces.len();
        house.settle();
        said.extend(client.bytes());
        if client.ended {
            return (taken, said);
        }
    }
    panic!(
        "{FLOOD_BYTES} bytes of {:?}... were taken",
        &piece[..piece.len().min(16)]
    );
}

#[test]
fn every_kind_of_frame_is_limited_before_and_after_login_and_at_the_echo() {
    let fragment = frame(TEXT, b"{");
    let long = text(&format!(
        r#"{{"type":"ping","x":"{}"}}"#,
        "x".repeat(60_000)
    ));
    let attacks: [(&str, Vec<u8>, Vec<u8>); 8] = [
        ("pings", vec![], frame(FINAL | PING, b"")),
        ("pongs", vec![], frame(FINAL | PONG, b"")),
        ("empty fragments", fragment.clone(), frame(0, b"")),
        ("fragments", fragment, frame(0, b"x")),
        ("nonsense", vec![], text("x")),
        ("empty messages", vec![], text("")),
        ("long messages", vec![], long),
        (
            "requests that need a login",
            vec![],
            text(r#"{"type":"join","group":"a"}"#),
        ),
    ];
    for (name, before, piece) in attacks {
        for path in ["/", "/echo"] {
            let mut settings = limited();
            // What is limited here is not how long one message may be.
            settings.limits.message_bytes = 1 << 20;
            settings.limits.outbox_bytes = 4 << 20;
            let table = table(4);
            let mut house = House::new(&table, &settings);
            let mut client = upgraded(&mut house, 0, path);
            client.send(&before);
            let (taken, said) = flood(&mut house, &mut client, &piece);
            // What is thrown away once the last words are said comes on top of it.
            assert!(taken < 2 << 20, "{name} at {path}: {taken} bytes");
            assert!(said.len() < 200_000, "{name} at {path}: {}", said.len());
            if piece.len() < 1000 {
                assert_eq!(close_code(&frames(&said)), 4029, "{name} at {path}");
            }
            drop(client);
            house.assert_empty();
        }
    }
}

#[test]
fn every_kind_of_line_is_limited() {
    for (name, piece) in [
        ("line ends", &b"\n"[..]),
        ("empty lines", b"\r\n"),
        ("nonsense", b"x\n"),
        (
            "logins that are refused",
            b"{\"type\":\"login\",\"userName\":\"ada\"}\n",
        ),
        ("messages without a login", b"{\"type\":\"logout2\"}\n"),
    ] {
        let mut settings = limited();
        settings.limits.sessions_per_user = 1;
        let table = table(4);
        let mut house = House::new(&table, &settings);
        let ada = house.user(1, "ada");
        let mut client = house.connect(0, Transport::Tcp);
        let (taken, said) = flood(&mut house, &mut client, piece);
        assert!(taken < 2 << 20, "{name}: {taken} bytes");
        let said = String::from_utf8(said).unwrap();
        let last = said.lines().last().unwrap();
        assert!(last.contains(r#""closeCode":4029"#), "{name}: {last}");
        let answers = said.lines().count();
        // `open`, the burst, the strikes, the last words.
        assert!(answers <= 1 + 10 + 20 + 1, "{name}: {answers} answers");
        drop((ada, client));
        house.assert_empty();
    }
}

#[test]
fn a_refused_login_costs_more_than_a_message() {
    let mut settings = limited();
    settings.limits.sessions_per_user = 1;
    settings.limits.message_burst = 40;
    let table = table(4);
    let mut house = House::new(&table, &settings);
    let ada = house.user(1, "ada");
    let mut client = house.connect(0, Transport::Tcp);
    for _ in 0..10 {
        client.say(r#"{"type":"login","userName":"ada"}"#);
    }
    house.settle();
    let lines = client.lines();
    let of = |code: &str| lines.iter().filter(|line| line.contains(code)).count();
    assert_eq!((of("capacity"), of("rate_limited")), (4, 6), "{lines:#?}");
    drop((ada, client));
    house.assert_empty();
}

#[test]
fn a_head_that_comes_bit_by_bit_is_not_looked_at_for_ever() {
    let table = table(4);
    let mut house = House::new(&table, &limited());
    let mut client = house.connect(0, Transport::WebSocket);
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ");
    let mut looks = 0;
    while !client.ended {
        client.try_send(b"x");
        house.settle();
        client.bytes();
        looks += 1;
        assert!(looks < 2_000, "it is still looked at");
    }
    drop(client);
    house.assert_empty();
}

#[test]
fn what_a_library_does_by_itself_is_far_from_the_limit() {
    let table = table(4);
    let mut house = House::new(&table, &limited());
    let mut client = house.connect(0, Transport::WebSocket);
    for byte in REQUEST.as_bytes() {
        client.send(&[*byte]);
    }
    house.settle();
    client.bytes();
    client.send(&text(r#"{"type":"login","userName":"ada"}"#));
    // As many messages as may come at once, and pings and pongs besides.
    for number in 0..9 {
        client.send(&text(&format!(r#"{{"type":"ping","id":{number}}}"#)));
    }
    for _ in 0..4 {
        client.send(&frame(FINAL | PING, b"are you there?"));
        client.send(&frame(FINAL | PONG, b""));
    }
    house.settle();
    let answers = frames(&client.bytes());
    let pongs = answers.iter().filter(|(opcode, _)| *opcode == PONG).count();
    assert!(pongs >= 1, "{answers:?}");
    assert!(answers.iter().all(|(opcode, _)| *opcode != CLOSE));
    let refused = answers
        .iter()
        .filter(|(_, payload)| String::from_utf8_lossy(payload).contains("rate_limited"));
    assert_eq!(refused.count(), 0);
    drop(client);
    house.assert_empty();
}
