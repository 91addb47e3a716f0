//! `limits.same_user` across hosts: a newer login replaces the older one wherever that is.

use tests::Transport::{Tcp, WebSocket};
use tests::cluster::{Bus, Cluster};
use tests::{Client, Settings};

#[test]
fn one_session_in_the_whole_cluster() {
    let settings = Settings::new().with("limits.same_user", "one");
    let cluster = Cluster::with(Bus::Mesh, 3, settings);
    let mut older = cluster.login(0, Tcp, "ann");
    let mut bob = cluster.login(0, Tcp, "bob");
    let mut at = 0;
    for (host, transport) in [(1, WebSocket), (2, Tcp), (0, WebSocket), (1, Tcp)] {
        cluster.expect_users(&[("ann", &[at]), ("bob", &[0])]);
        let newer = cluster.login(host, transport, "ann");
        older.expect_ending(4004);
        (older, at) = (newer, host);
    }
    cluster.expect_users(&[("ann", &[1]), ("bob", &[0])]);
    older.expect_nothing();
    bob.expect_nothing();
}

#[test]
fn one_session_for_each_device() {
    let settings = Settings::new().with("limits.same_user", "one_per_device");
    let cluster = Cluster::with(Bus::Redis, 2, settings);
    let phone = Client::device(cluster.host(0), Tcp, "ann", "phone", "x");
    let mut desk = Client::device(cluster.host(0), Tcp, "ann", "desk", "x");
    cluster.expect_users(&[("ann", &[0])]);
    let mut again = Client::device(cluster.host(1), WebSocket, "ann", "phone", "x");
    phone.expect_ending(4004);
    cluster.expect_users(&[("ann", &[0, 1])]);
    desk.expect_nothing();
    again.expect_nothing();
}
