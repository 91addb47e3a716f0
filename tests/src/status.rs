//! What `master status --json` says, as numbers.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::server::Server;

/// One section of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section {
    /// Elements that fit.
    pub capacity: u64,
    /// Elements in use now.
    pub used: u64,
    /// The most that were ever in use.
    pub high_water: u64,
}

/// The whole answer.
pub fn whole(server: &Server) -> Value {
    let output = server.house().run(&["status", "--json"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output:?}"))
}

/// Every section by its name.
pub fn sections(server: &Server) -> BTreeMap<String, Section> {
    let status = whole(server);
    let number = |section: &Value, key: &str| {
        section[key]
            .as_u64()
            .unwrap_or_else(|| panic!("no {key} in {section}"))
    };
    let sections = status["sections"]
        .as_array()
        .unwrap_or_else(|| panic!("no sections in {status}"));
    let named = sections.iter().map(|section| {
        let name = section["name"]
            .as_str()
            .unwrap_or_else(|| panic!("no name in {section}"))
            .to_owned();
        let numbers = Section {
            capacity: number(section, "capacity"),
            used: number(section, "used"),
            high_water: number(section, "high_water"),
        };
        (name, numbers)
    });
    named.collect()
}

/// What is in use of every section.
pub fn fill(server: &Server) -> BTreeMap<String, u64> {
    sections(server)
        .into_iter()
        .map(|(name, section)| (name, section.used))
        .collect()
}
