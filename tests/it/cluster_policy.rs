//! `limits.same_user` across hosts: a newer login replaces the older one wherever that is.

use tests::Transport::{Tcp, WebSocket};
use tests::cluster::{Bus, Cluster};
use tests::wall_clock::WallClock;
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

#[test]
fn the_newest_login_wins_whatever_a_host_s_clock_is_set_to() {
    let settings = Settings::new().with("limits.same_user", "one");
    let clock = WallClock::new();
    let mut cluster = Cluster::with(Bus::Mesh, 1, settings);
    cluster.start_host_with(1, &clock);
    cluster.is_level();
    for ahead_s in [-3600, 3600, 0, 7200, -7200] {
        // One that is here before the step, and stays what it is: older than all that come.
        let mut last = (0, cluster.login(0, Tcp, "ann"));
        cluster.expect_users(&[("ann", &[0])]);
        clock.set(ahead_s);
        for (host, transport) in [(1, WebSocket), (0, Tcp), (1, Tcp), (1, WebSocket), (0, Tcp)] {
            let newer = cluster.login(host, transport, "ann");
            last.1.expect_ending(4004);
            cluster.expect_users(&[("ann", &[host])]);
            last = (host, newer);
        }
        last.1.expect_nothing();
        last.1.logout();
        cluster.expect_users(&[]);
    }
}
