//! Whether everything that sessions used has come back.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tests::wait::eventually;
use tests::{Client, Server, Transport, processes, status};

/// Holds the server against what was in use when nobody was there.
pub fn everything_is_back(server: &Server, empty: &BTreeMap<String, u64>, descriptors: usize) {
    let mut fill = BTreeMap::new();
    eventually(
        &format!("every row, block, node, group and membership is back: {empty:?}"),
        || {
            let now = status::fill(server);
            if now != fill {
                println!("{now:?}");
                fill = now;
            }
            (fill == *empty).then_some(())
        },
    );
    eventually("every descriptor is back", || {
        (holders(server) <= descriptors).then_some(())
    });
    Client::login(server, Transport::WebSocket, "last").expect_nothing();
}

/// What is in use when nobody is there.
pub fn settled(server: &Server) -> BTreeMap<String, u64> {
    eventually("the start's health check has left", || {
        Some(status::fill(server)).filter(|fill| fill["sessions"] == 0)
    })
}

/// The descriptors of the master and of each of its children.
pub fn holders(server: &Server) -> usize {
    let ended = Instant::now() + Duration::from_secs(1);
    let mut least = usize::MAX;
    // A command's connection to the control socket may still be open.
    while Instant::now() < ended {
        least = least.min(
            processes::children(server.pid())
                .into_iter()
                .chain([server.pid()])
                .map(processes::descriptors)
                .sum(),
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    least
}
