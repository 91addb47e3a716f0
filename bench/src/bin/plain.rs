//! The plain server: what one writes in an afternoon with tokio-tungstenite and a map. On one core: it is measured against one worker.
//!
//! `plain --listen ADDRESS` prints `ready` when it listens.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a yardstick that cannot be set up ends with its place

use std::sync::Arc;

use dashmap::DashMap;
use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

type Sender = UnboundedSender<Message>;

#[derive(Default)]
struct Rooms {
    users: DashMap<String, Sender>,
    groups: DashMap<String, DashMap<String, Sender>>,
}

fn main() {
    let address = yardstick::place::listen_at("plain");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.unwrap();
        println!("ready");
        let rooms = Arc::new(Rooms::default());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = stream.set_nodelay(true);
            tokio::spawn(serve(stream, Arc::clone(&rooms)));
        }
    });
}

async fn serve(stream: TcpStream, rooms: Arc<Rooms>) {
    let Ok(socket) = tokio_tungstenite::accept_async(stream).await else {
        return;
    };
    let (mut write, mut read) = socket.split();
    let (sender, mut queue) = unbounded_channel::<Message>();
    tokio::spawn(async move {
        while let Some(message) = queue.recv().await {
            if write.send(message).await.is_err() {
                return;
            }
        }
    });
    let _ = sender.send(Message::text(r#"{"type":"open"}"#));
    let mut name = String::new();
    let mut joined = Vec::new();
    while let Some(Ok(message)) = read.next().await {
        let Message::Text(text) = message else {
            continue;
        };
        let Ok(request) = serde_json::from_str::<Value>(&text) else {
            continue;
        };
        let field = |name: &str| request[name].as_str().unwrap_or_default();
        match field("type") {
            "login" => {
                name = field("userName").to_owned();
                rooms.users.insert(name.clone(), sender.clone());
                let _ = sender.send(Message::text(r#"{"type":"system","event":"login"}"#));
            }
            "join" => {
                let group = field("group").to_owned();
                let members = rooms.groups.entry(group.clone()).or_default();
                members.insert(name.clone(), sender.clone());
                joined.push(group);
                let _ = sender.send(Message::text(r#"{"type":"system","event":"join"}"#));
            }
            "sendto" => {
                if let Some(to) = rooms.users.get(field("to")) {
                    let _ = to.send(Message::Text(text));
                }
            }
            "sendgroup" => to_group(&rooms, field("to"), &name, &text),
            _ => {}
        }
    }
    rooms.users.remove(&name);
    for group in joined {
        if let Some(members) = rooms.groups.get(&group) {
            members.remove(&name);
        }
    }
}

fn to_group(rooms: &Rooms, group: &str, from: &str, text: &Utf8Bytes) {
    if let Some(members) = rooms.groups.get(group) {
        for member in members.iter().filter(|member| member.key() != from) {
            let _ = member.send(Message::Text(text.clone()));
        }
    }
}
