//! Each load against each server, for a moment: everything arrives, once and in order, or the command says so and fails.
#![allow(clippy::unwrap_used)]

use std::process::{Command, Output};

fn bench(arguments: &[&str]) -> Output {
    // Named here so that they are built: the command finds them beside itself.
    let _ = (env!("CARGO_BIN_EXE_floor"), env!("CARGO_BIN_EXE_plain"));
    Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(arguments)
        .output()
        .unwrap()
}

fn works(arguments: &[&str]) {
    for server in ["floor", "plain", "steadfast"] {
        let output = bench(&[arguments, &["--server", server]].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{server}: {output:?}");
        assert!(
            said.contains("us of processor time each"),
            "{server}: {said}"
        );
    }
}

#[test]
fn pairs() {
    for size in ["64", "5000"] {
        works(&[
            "pairs",
            "--connections",
            "10",
            "--size",
            size,
            "--seconds",
            "0.2",
        ]);
    }
    works(&[
        "pairs",
        "--connections",
        "10",
        "--rate",
        "2000",
        "--seconds",
        "0.2",
    ]);
}

#[test]
fn fanout() {
    works(&[
        "fanout",
        "--members",
        "20",
        "--senders",
        "3",
        "--window",
        "2",
        "--seconds",
        "0.2",
    ]);
}

#[test]
fn groups() {
    for groups in ["1", "40", "80"] {
        works(&[
            "groups",
            "--connections",
            "40",
            "--groups",
            groups,
            "--members",
            "10",
            "--seconds",
            "0.2",
        ]);
    }
}

#[test]
fn connect() {
    works(&["connect", "--count", "40", "--at-once", "4"]);
    works(&[
        "connect",
        "--count",
        "40",
        "--at-once",
        "4",
        "--beside",
        "20",
        "--join",
        "true",
    ]);
}

#[test]
fn all_return_from_a_storm() {
    for server in ["floor", "plain", "steadfast"] {
        let output = bench(&["storm", "--count", "60", "--server", server]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{server}: {output:?}");
        assert!(said.contains("all 60 are back"), "{server}: {said}");
    }
}

#[test]
fn scaling() {
    let output = bench(&["scaling", "--rounds", "1", "--seconds", "0.1"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("| window 16: us a message |"), "{said}");
}

#[test]
fn a_wrong_command_line_is_explained() {
    for arguments in [
        &[][..],
        &["pears"],
        &["pairs", "--size", "x"],
        &["pairs", "--size", "3"],
        &["pairs", "--sise", "64"],
        &["groups", "--connections", "41"],
        &["pairs", "--connect", "127.0.0.1:1"],
    ] {
        let output = bench(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("usage: bench"), "{said}");
    }
}
