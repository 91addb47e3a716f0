//! Many come and go at once, on all hosts: who stays is agreed on, and the directory says so, whoever dies meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tests::Transport::{Tcp, WebSocket};
use tests::cluster::{Bus, Cluster};
use tests::random::Random;
use tests::wait::eventually;
use tests::{Client, Settings};

/// The clients that are still there: those whose place in the list is told.
fn living(clients: &mut [Client]) -> Vec<usize> {
    let ping = json!({"type": "ping"}).to_string();
    (0..clients.len())
        .filter(|&at| clients[at].try_send(&ping).is_ok() && clients[at].survives())
        .collect()
}

#[test]
fn of_racing_logins_exactly_one_stays() {
    let settings = Settings::new().with("limits.same_user", "one");
    let cluster = Cluster::with(Bus::Redis, 3, settings);
    for round in 0..20 {
        let name = format!("ann{round}");
        let barrier = Barrier::new(3);
        let mut clients: Vec<Client> = thread::scope(|scope| {
            let logins: Vec<_> = (0..3)
                .map(|host| {
                    let (cluster, barrier, name) = (&cluster, &barrier, &name);
                    scope.spawn(move || {
                        let mut client = Client::open(cluster.host(host), Tcp);
                        barrier.wait();
                        client.send(json!({"type": "login", "userName": name}));
                        client
                    })
                })
                .collect();
            logins
                .into_iter()
                .map(|login| login.join().unwrap())
                .collect()
        });
        let left = eventually("one session stays", || {
            let left = living(&mut clients);
            assert!(!left.is_empty(), "round {round}: all were replaced");
            (left.len() == 1).then_some(left[0])
        });
        eventually("the directory knows it", || {
            let entries = cluster.entries("user");
            (entries.get(&name) == Some(&vec![format!("n{}", left + 1)])).then_some(())
        });
        assert_eq!(living(&mut clients), [left], "round {round}");
    }
}

/// Clients of one host that log in, join, leave and log out; those who stay, and the groups they are in.
fn churn(cluster: &Cluster, host: usize, seed: u64) -> Vec<(Client, BTreeSet<String>)> {
    let mut random = Random::new(seed);
    let mut here: Vec<(Client, BTreeSet<String>)> = Vec::new();
    for _ in 0..250 {
        match random.below(4) {
            0 if here.len() < 12 => {
                let transport = if random.one_in(2) { Tcp } else { WebSocket };
                let name = format!("u{}", random.below(10));
                here.push((cluster.login(host, transport, &name), BTreeSet::new()));
            }
            1 if !here.is_empty() => {
                let (client, _) = here.swap_remove(random.below(here.len()));
                // Politely or not.
                if random.one_in(2) {
                    drop(client);
                } else {
                    let mut client = client;
                    client.send(json!({"type": "logout"}));
                    client.ending();
                }
            }
            _ if !here.is_empty() => {
                let at = random.below(here.len());
                let (client, groups) = &mut here[at];
                let group = format!("g{}", random.below(6));
                if groups.remove(&group) {
                    client.send(json!({"type": "leave", "group": group}));
                } else {
                    client.join(&group);
                    groups.insert(group);
                }
            }
            _ => {}
        }
        thread::sleep(Duration::from_millis(random.below(12) as u64));
    }
    here
}

#[test]
fn the_directory_is_exact_after_coming_and_going_and_dying() {
    let cluster = Cluster::start(Bus::Mesh, 3);
    let here: Vec<Vec<(Client, BTreeSet<String>)>> = thread::scope(|scope| {
        let hosts: Vec<_> = (0..3)
            .map(|host| {
                let cluster = &cluster;
                scope.spawn(move || churn(cluster, host, 7 + host as u64))
            })
            .collect();
        for host in 0..3 {
            // Its successor comes at once only if it worked for a second.
            thread::sleep(Duration::from_millis(400));
            cluster.kill_link(host);
            let worker = cluster.host(host).workers()[0];
            let _ = kill(Pid::from_raw(worker), Signal::SIGKILL);
        }
        hosts.into_iter().map(|host| host.join().unwrap()).collect()
    });
    let mut users: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    let mut groups: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    for (host, clients) in here.iter().enumerate() {
        for (client, memberships) in clients {
            users.entry(client.name()).or_default().insert(host);
            for group in memberships {
                groups.entry(group).or_default().insert(host);
            }
        }
    }
    println!("users {users:?}, groups {groups:?}");
    cluster.is_level();
    let lists = [users, groups].map(|wanted| -> Vec<(&str, Vec<usize>)> {
        let list = |(name, hosts): (_, BTreeSet<usize>)| (name, hosts.into_iter().collect());
        wanted.into_iter().map(list).collect()
    });
    let [users, groups] = lists.each_ref().map(|list| -> Vec<(&str, &[usize])> {
        list.iter()
            .map(|(name, hosts)| (*name, &hosts[..]))
            .collect()
    });
    cluster.expect_users(&users);
    cluster.expect_groups(&groups);
}
