//! What every bus must carry.

use bytes::Bytes;
use std::collections::BTreeMap;
use tokio::time::timeout;

use crate::hosts::{LONG, TestHost};

/// A payload whose content follows from its number and sender, so that a byte out of place is noticed.
fn payload(from: &str, number: u32, length: usize) -> Bytes {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend(from.as_bytes());
    while bytes.len() < length {
        bytes.push((bytes.len() as u32 ^ number) as u8);
    }
    bytes.into()
}

fn length(number: u32) -> usize {
    match number % 50 {
        49 => 100_000,
        n => 10 + n as usize * 37,
    }
}

/// Every host sends every other `count` frames of several lengths at once; all must arrive in order.
pub async fn all_to_all(hosts: &mut [TestHost], count: u32) {
    for index in 0..hosts.len() {
        for other in 0..hosts.len() {
            if index != other {
                let (from, to) = take_two(hosts, index, other);
                from.until_heard(to).await;
            }
        }
    }
    let names: Vec<_> = hosts.iter().map(|host| host.name.clone()).collect();
    let mut sent: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut heard: BTreeMap<(String, String), u32> = BTreeMap::new();
    let pairs = (names.len() * (names.len() - 1)) as u32;
    let run = async {
        while heard.values().sum::<u32>() < pairs * count {
            for host in hosts.iter_mut() {
                for to in names.iter().filter(|to| **to != host.name) {
                    let number = sent.entry((host.name.clone(), to.clone())).or_default();
                    // At most 64 in flight for each pair, like the lanes.
                    let got = *heard.entry((host.name.clone(), to.clone())).or_default();
                    while *number < count
                        && *number < got + 64
                        && host
                            .bus
                            .send(to, payload(&host.name, *number, length(*number)))
                            .is_ok()
                    {
                        *number += 1;
                    }
                }
                while let Some(incoming) = host.bus.try_receive() {
                    let number = heard
                        .entry((incoming.from.clone(), host.name.clone()))
                        .or_default();
                    assert_eq!(
                        incoming.payload,
                        payload(&incoming.from, *number, length(*number)),
                        "frame {number} from {} to {}",
                        incoming.from,
                        host.name
                    );
                    *number += 1;
                }
            }
            tokio::time::sleep(std::time::Duration::from_micros(200)).await;
        }
    };
    assert!(
        timeout(LONG, run).await.is_ok(),
        "heard only {heard:?} of {count}"
    );
}

/// One mebibyte in one frame, and an empty one behind it.
pub async fn long_and_empty(from: &TestHost, to: &mut TestHost) {
    let long = payload(&from.name, 7, 1024 * 1024);
    from.send(&to.name, long.clone()).await;
    from.send(&to.name, Bytes::new()).await;
    assert_eq!(to.hear().await, (from.name.clone(), long));
    assert_eq!(to.hear().await, (from.name.clone(), Bytes::new()));
}

/// Two of them, to send from one to the other.
pub fn take_two(hosts: &mut [TestHost], one: usize, other: usize) -> (&TestHost, &mut TestHost) {
    if one < other {
        let (left, right) = hosts.split_at_mut(other);
        (&left[one], &mut right[0])
    } else {
        let (left, right) = hosts.split_at_mut(one);
        (&right[0], &mut left[other])
    }
}
