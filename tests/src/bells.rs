//! Connections to every worker, to know that each has had a turn.

use serde_json::json;

use crate::client::{BOTH, Client};
use crate::server::Server;

/// A few sessions, spread over all workers as newcomers are.
pub struct Bells(Vec<Client>);

impl Bells {
    /// Logs them in.
    pub fn hang(server: &Server) -> Bells {
        let count = 4 * server.workers().len();
        let bell = |number: usize| {
            let name = format!("bell{number}");
            Client::login(server, BOTH[number / 2 % 2], &name)
        };
        Bells((0..count).map(bell).collect())
    }

    /// Returns when every worker has read what had arrived before, and so has every worker that took over from one since.
    pub fn ring(&mut self) {
        for _ in 0..2 {
            for bell in &mut self.0 {
                bell.send(json!({"type": "ping"}));
            }
            for bell in &mut self.0 {
                bell.expect("pong");
            }
        }
    }
}
