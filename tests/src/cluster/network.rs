//! A network of the test's own: a hub and some places, each a network namespace with a way to the hub that can be cut.
//!
//! They belong to the thread that made them and go with it: what is started and connected to from a thread lies in the
//! namespace in which the thread is at that moment.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

/// The network. The thread that made it is in the hub, whose address is [`Network::HUB`].
pub struct Network {
    hub: File,
    places: Vec<File>,
}

impl Network {
    /// Address of the hub.
    pub const HUB: &str = "10.99.0.1";

    /// Makes one with so many places. The calling thread never comes back to the network it was in.
    pub fn new(places: usize) -> Network {
        let hub = namespace();
        let places: Vec<File> = (0..places).map(|_| namespace()).collect();
        let network = Network { hub, places };
        network.to_hub();
        run("ip", "link add name hub type bridge");
        run("ip", &format!("address add {}/24 dev hub", Network::HUB));
        run("ip", "link set hub up");
        for (index, place) in network.places.iter().enumerate() {
            let namespace = format!("/proc/{}/fd/{}", std::process::id(), place.as_raw_fd());
            run(
                "ip",
                &format!("link add to{index} type veth peer name out netns {namespace}"),
            );
            run("ip", &format!("link set to{index} master hub up"));
            network.enter(index);
            run(
                "ip",
                &format!("address add {}/24 dev out", Network::address(index)),
            );
            run("ip", "link set out up");
            network.to_hub();
        }
        network
    }

    /// Address of a place.
    pub fn address(place: usize) -> String {
        format!("10.99.0.{}", place + 2)
    }

    /// Moves this thread to a place.
    pub fn enter(&self, place: usize) {
        setns(&self.places[place], CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// Moves this thread to the hub.
    pub fn to_hub(&self) {
        setns(&self.hub, CloneFlags::CLONE_NEWNET).unwrap();
    }

    /// Cuts a place off from everything, or heals that.
    pub fn cut(&self, place: usize, cut: bool) {
        self.to_hub();
        let how = if cut { "down" } else { "up" };
        run("ip", &format!("link set to{place} {how}"));
    }

    /// Cuts the places off from each other, but not from the hub, or heals that.
    pub fn isolate(&self, isolate: bool) {
        self.to_hub();
        let how = if isolate { "on" } else { "off" };
        for place in 0..self.places.len() {
            run("bridge", &format!("link set dev to{place} isolated {how}"));
        }
    }
}

/// A new namespace, in which this thread is then.
fn namespace() -> File {
    unshare(CloneFlags::CLONE_NEWNET)
        .expect("network namespaces of its own take a user who may make them (root)");
    run("ip", "link set lo up");
    File::open("/proc/thread-self/ns/net").unwrap()
}

fn run(program: &str, arguments: &str) {
    let output = Command::new(program)
        .args(arguments.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs what is missing"));
    assert!(output.status.success(), "{program} {arguments}: {output:?}");
}
