//! How the server is: taken from the table and the master, as JSON for programs and as a text for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use role::logging;
use serde::{Deserialize, Serialize};
use shm_table::{Counter, Transport};

use crate::master::Master;
use crate::post::Post;
use crate::shortage;
use crate::status_cluster::Cluster;
use crate::status_turns::Turns;

/// The state of the server at one moment. Names and meanings are kept: programs read this.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub node: String,
    pub pid: u32,
    /// `starting`, `running`, `draining`, `ending`.
    pub state: String,
    pub uptime_ms: u64,
    /// How far a reload is that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<String>,
    pub websocket: Vec<SocketAddr>,
    pub tcp: Vec<SocketAddr>,
    /// Name of the shared-memory segment, and its size.
    pub segment: String,
    pub segment_bytes: u64,
    pub processes: Vec<Process>,
    /// Rows by the state of their session.
    pub sessions: BTreeMap<String, u32>,
    /// Every section of the table.
    pub sections: Vec<Section>,
    /// Newcomers that are being refused at this moment, and that were refused since the start.
    pub refusals_in_progress: u64,
    pub refusals: u64,
    /// Lines that were lost since the start because the log did not take them.
    #[serde(default)]
    pub log_lines_lost: u64,
    /// What the system has no room for at the moment, and how often it had none since this master was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shortage: Option<shortage::Report>,
    #[serde(default)]
    pub shortages: u64,
    /// Where this host is one of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Cluster>,
}

/// One process slot.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Process {
    pub slot: u8,
    pub role: String,
    pub pid: i32,
    /// How many processes this slot has had.
    pub incarnation: u16,
    pub state: String,
    pub heartbeat_age_ms: u64,
    /// Until the next process is started here: its predecessors died young.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again_in_ms: Option<u64>,
    /// The slot of the process that holds the index lock for which this one waits; it is in no way to blame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for_slot: Option<u8>,
    /// Index locks that it holds; more than a moment long only if it is stopped or stuck.
    #[serde(default)]
    pub locks: u32,
    /// Processes that ended here without having been asked to.
    #[serde(default)]
    pub deaths: u32,
    pub sessions: u32,
    /// Since the slot was first used.
    pub counters: BTreeMap<String, u64>,
    /// Of a worker: how long the turns of its event loop took, since the slot was first used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turns: Option<Turns>,
}

/// One section of the table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Section {
    pub name: String,
    pub used: u64,
    pub capacity: u64,
    /// The most that was ever in use.
    pub high_water: u64,
}

impl Status {
    /// Of a master, now.
    pub fn of(master: &Master<'_>) -> Self {
        logging::account(|lost| master.hands.count(Counter::LinesLost, lost));
        let stats = master.table.stats();
        let (shortage, shortages) = master.shortage.report();
        let lines_lost = Counter::LinesLost.name();
        let all_lost = stats.processes.iter().flat_map(|process| &process.counters);
        let log_lines_lost = all_lost
            .filter(|(name, _)| *name == lines_lost)
            .map(|&(_, count)| count)
            .sum();
        let cluster = &master.config.cluster;
        let addresses = |transport: Transport| {
            master
                .listeners
                .addresses()
                .filter(|&(t, _)| t == transport)
                .map(|(_, address)| address)
                .collect()
        };
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            node: master.config.server.node.clone(),
            pid: std::process::id(),
            state: master.phase.name().into(),
            uptime_ms: u64::try_from(master.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            reload: master.reload.as_ref().map(|r| r.describe(&master.posts)),
            websocket: addresses(Transport::WebSocket),
            tcp: addresses(Transport::Tcp),
            segment: master.segment.claim.name().to_owned(),
            segment_bytes: master.table.capacity().segment_bytes(),
            processes: stats
                .processes
                .into_iter()
                .map(|stats| Process::of(stats, &master.posts))
                .collect(),
            sessions: stats
                .sessions_by_state
                .into_iter()
                .map(|(state, n)| (state.to_owned(), n))
                .collect(),
            sections: stats
                .sections
                .iter()
                .map(|s| Section {
                    name: s.name.into(),
                    used: s.used,
                    capacity: s.capacity,
                    high_water: s.high_water,
                })
                .collect(),
            refusals_in_progress: master.refusals.in_progress() as u64,
            refusals: master.refusals.total(),
            log_lines_lost,
            shortage,
            shortages,
            cluster: cluster.enabled.then(|| {
                let now_ms = master.table.now_ms();
                Cluster::of(&master.table.cluster(), cluster.bus, now_ms)
            }),
        }
    }
}

impl Process {
    fn of(stats: shm_table::ProcessStats, posts: &[Post]) -> Self {
        let post = posts.iter().find(|post| post.slot == stats.slot);
        Self {
            slot: stats.slot,
            role: stats.role.name().into(),
            pid: stats.pid,
            incarnation: stats.incarnation,
            state: stats.state.name().into(),
            heartbeat_age_ms: stats.heartbeat_age_ms,
            again_in_ms: stats.again_in_ms,
            waits_for_slot: stats.waits_for.map(|holder| holder.slot),
            locks: stats.locks,
            deaths: post.map_or(0, |post| post.deaths),
            sessions: stats.sessions,
            counters: stats
                .counters
                .into_iter()
                .map(|(name, n)| (name.to_owned(), n))
                .collect(),
            turns: Turns::of(&stats.turns),
        }
    }
}

/// For a person.
pub fn text(status: &Status) -> String {
    let mut out = String::new();
    // Writing to memory does not fail.
    let _ = write_text(&mut out, status);
    out
}

fn write_text(out: &mut String, status: &Status) -> std::fmt::Result {
    let Status {
        version,
        node,
        pid,
        state,
        ..
    } = status;
    writeln!(
        out,
        "Steadfast {version}, node {node}, pid {pid}, {state} for {}",
        duration(status.uptime_ms)
    )?;
    if let Some(reload) = &status.reload {
        writeln!(out, "  reload     {reload}")?;
    }
    if status.log_lines_lost > 0 {
        let lost = status.log_lines_lost;
        writeln!(
            out,
            "  log        {lost} lines were lost: nobody read it, or it took no more"
        )?;
    }
    if let Some(shortage) = &status.shortage {
        let since = duration(shortage.since_ms);
        writeln!(out, "  no room    for {since}: {}", shortage.what)?;
    } else if status.shortages > 0 {
        let times = status.shortages;
        writeln!(
            out,
            "  no room    {times} times since the start, and now there is"
        )?;
    }
    for (name, addresses) in [("websocket", &status.websocket), ("tcp", &status.tcp)] {
        for address in addresses {
            writeln!(out, "  {name:<10} {address}")?;
        }
    }

    writeln!(
        out,
        "\n{:<8} {:>4} {:>8} {:>5} {:>6} {:<9} {:>9} {:>9} {:>12} {:>12} {:>14} {:>14}",
        "process",
        "slot",
        "pid",
        "start",
        "deaths",
        "state",
        "alive",
        "sessions",
        "messages in",
        "out",
        "bytes in",
        "out"
    )?;
    for process in &status.processes {
        let alive = match process.again_in_ms {
            Some(ms) => format!("in {ms} ms"),
            None => format!("{} ms", process.heartbeat_age_ms),
        };
        let count = |name: &str| process.counters.get(name).copied().unwrap_or(0);
        writeln!(
            out,
            "{:<8} {:>4} {:>8} {:>5} {:>6} {:<9} {:>9} {:>9} {:>12} {:>12} {:>14} {:>14}",
            process.role,
            process.slot,
            process.pid,
            process.incarnation,
            process.deaths,
            process.state,
            alive,
            process.sessions,
            count("messages_in"),
            count("messages_out"),
            count("bytes_in"),
            count("bytes_out"),
        )?;
    }

    let by_state: Vec<_> = status
        .sessions
        .iter()
        .filter(|&(state, &n)| n > 0 && !state.eq_ignore_ascii_case("free"))
        .map(|(state, n)| format!("{n} {state}"))
        .collect();
    let by_state = if by_state.is_empty() {
        "none".to_owned()
    } else {
        by_state.join(", ")
    };
    writeln!(
        out,
        "\nsessions: {by_state}; newcomers refused: {}",
        status.refusals
    )?;
    for process in &status.processes {
        if let Some(turns) = &process.turns {
            writeln!(out, "turns of slot {}: {turns}", process.slot)?;
        }
    }
    if let Some(cluster) = &status.cluster {
        cluster.write(out)?;
    }

    let mib = status.segment_bytes as f64 / f64::from(1 << 20);
    writeln!(
        out,
        "\n{:<20} {:>12} {:>12} {:>6} {:>12}",
        "section", "used", "capacity", "fill", "most ever"
    )?;
    for Section {
        name,
        used,
        capacity,
        high_water,
    } in &status.sections
    {
        let fill = *used as f64 * 100.0 / (*capacity).max(1) as f64;
        writeln!(
            out,
            "{name:<20} {used:>12} {capacity:>12} {fill:>5.1}% {high_water:>12}"
        )?;
    }
    write!(out, "segment {} of {mib:.1} MiB", status.segment)
}

/// For a person: in the two largest units.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_every_process_and_section() {
        let process = Process {
            slot: 4,
            role: "worker".into(),
            pid: 78,
            incarnation: 2,
            state: "running".into(),
            heartbeat_age_ms: 12,
            again_in_ms: None,
            waits_for_slot: None,
            locks: 0,
            deaths: 31,
            sessions: 5,
            counters: [("messages_in".to_owned(), 99)].into(),
            turns: None,
        };
        let status = Status {
            version: "1.2.3".into(),
            node: "local".into(),
            pid: 77,
            state: "running".into(),
            uptime_ms: 3_723_000,
            reload: Some("1 of 3 replaced".into()),
            websocket: vec!["[::1]:9501".parse().unwrap()],
            tcp: vec![],
            segment: "steadfast-x".into(),
            segment_bytes: 3 << 20,
            processes: vec![
                process.clone(),
                Process {
                    slot: 5,
                    state: "waiting".into(),
                    again_in_ms: Some(1_600),
                    ..process
                },
            ],
            sessions: [("free".to_owned(), 5), ("logged_in".to_owned(), 5)].into(),
            sections: vec![Section {
                name: "sessions".into(),
                used: 5,
                capacity: 10,
                high_water: 7,
            }],
            refusals_in_progress: 0,
            refusals: 3,
            log_lines_lost: 12,
            shortage: Some(shortage::Report {
                since_ms: 4_000,
                what: "start a worker: none left".into(),
            }),
            shortages: 5,
            cluster: None,
        };
        let text = text(&status);
        for part in [
            "pid 77, running for 1 h 2 min",
            "[::1]:9501",
            "1 of 3 replaced",
            "12 lines were lost",
            "for 4 s: start a worker: none left",
            "worker",
            " 31 running       12 ms",
            " 31 waiting   in 1600 ms",
            "99",
            "5 logged_in;",
            "50.0%",
            "3.0 MiB",
        ] {
            assert!(text.contains(part), "{part} is missing:\n{text}");
        }
        assert!(!text.contains("5 free"));
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(
            serde_json::from_str::<Status>(&json).unwrap().sections[0].high_water,
            7
        );
    }

    #[test]
    fn durations() {
        assert_eq!(duration(999), "0 s");
        assert_eq!(duration(61_000), "1 min 1 s");
        assert_eq!(duration(90_000_000), "1 d 1 h");
    }
}
