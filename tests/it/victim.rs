//! Where memory is short the kernel ends one of the processes that can be replaced, and not the master.

use tests::processes::{children, oom_score};
use tests::{Client, Server, Transport, posts};

/// Every child stands before its master.
fn assert_master_is_last(server: &Server, when: &str) {
    let (master_adj, master) = oom_score(server.pid());
    let roles = children(server.pid());
    assert!(roles.len() >= 3, "{when}: {roles:?}");
    for pid in roles {
        let (adj, score) = oom_score(pid);
        // Where everything stands at the end of the scale already, nobody can stand before the master.
        assert!(adj > master_adj || master_adj == 1000, "{when}: {adj}");
        assert!(
            score > master || master_adj == 1000,
            "{when}: {score} against {master}"
        );
    }
}

#[test]
fn every_role_stands_before_the_master_however_it_was_started() {
    let server = Server::standard();
    let mut client = Client::login(&server, Transport::WebSocket, "ann");
    assert_master_is_last(&server, "at the start");
    posts::kill_each(&server, "worker");
    posts::kill_each(&server, "timer");
    assert_master_is_last(&server, "after deaths");
    for command in ["reload", "upgrade", "reload"] {
        let output = server.house().run(&[command]);
        assert!(output.status.success(), "{output:?}");
        posts::filled(&server);
        assert_master_is_last(&server, command);
    }
    client.expect_nothing();
}
