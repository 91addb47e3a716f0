//! Measurements that users can run as well: `cargo run --release -p bench -- idle [SESSIONS]`.
//!
//! They measure the executable that `cargo build --release` made, or the one that STEADFAST_BIN names, or those on the command line.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a measurement that cannot be taken ends with its place

mod arguments;
mod check;
mod cluster;
mod compare;
mod connect;
mod content;
mod fanout;
mod groups;
mod idle;
mod light;
mod load;
mod pairs;
mod pause;
mod run;
mod scaling;
mod storm;
mod subject;
mod swarm;
mod tree;

use std::time::Duration;

use arguments::Arguments;
use check::Faults;
use run::Span;
use subject::Needs;

const USAGE: &str = "\
usage: bench COMMAND [--OPTION VALUE]...

Against a server of its own, or one that runs (--connect ADDRESS --pid PID; --server floor, plain or an executable;
--room SESSIONS for a table of that size):
  pairs    private messages between two        --connections 100 --size 64 --window 16 --seconds 5 [--rate A_SECOND]
  fanout   some speak to a whole group         --members 1000 --senders 1 --size 64 --window 1 --seconds 5
  groups   all speak in turn, each to a group  --connections 4000 --groups 4000 --members 10 --size 64 --at-once 64 --seconds 5
  connect  connect, log in, be cut off         --count 8000 --at-once 50 [--beside SESSIONS --join true (all are in one group)]
  hold     stay, logged in, and do nothing     --count 8000 --seconds 5
  storm    all are cut off and return at once  --count 10000

Several servers in turn, as a table:
  compare  floor, plain and this server        --rounds 3 --seconds 2 --only PART_OF_A_LOAD'S_NAME --write FILE
                                               --subjects floor,plain,steadfast (or executables, as name=path)

What only this server has:
  scaling                                      one worker and two, pairs within and across  --rounds 3 --seconds 1
  idle [SESSIONS]                              memory of idle, logged-in connections, process by process
  load BIN [OTHER_BIN [ROUNDS [PART]]]         processor time per message with two workers, one executable or two
  cluster                                      messages between two hosts, over each bus
  pause [SESSIONS]                             how long messages take while processes are replaced";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        [command, ref options @ ..] if options.iter().any(|word| word.starts_with("--")) => {
            Arguments::read(options).and_then(|options| obey(command, options))
        }
        ["pairs" | "fanout" | "groups" | "connect" | "hold" | "storm" | "scaling" | "compare"] => {
            Arguments::read(&[]).and_then(|options| obey(arguments[0], options))
        }
        ref words => obey_words(words),
    };
    if let Err(error) = done {
        eprintln!("{error}\n\n{USAGE}");
        std::process::exit(2);
    }
}

/// Does what takes words.
fn obey_words(words: &[&str]) -> Result<(), String> {
    match *words {
        ["idle"] => idle::measure(9_000),
        ["idle", sessions] => idle::measure(number(sessions)),
        ["cluster"] => cluster::measure(),
        ["pause"] => [1_000, 10_000].into_iter().for_each(pause::measure),
        ["pause", sessions] => pause::measure(number(sessions)),
        ["load", one] => load::measure(&[one], 5, ""),
        ["load", one, other] => load::measure(&[one, other], 5, ""),
        ["load", one, other, rounds] => load::measure(&[one, other], number(rounds), ""),
        ["load", one, other, rounds, part] => load::measure(&[one, other], number(rounds), part),
        _ => return Err("that is no command".to_owned()),
    }
    Ok(())
}

/// Does what takes options. Ends the process if messages were lost or worse.
fn obey(command: &str, mut options: Arguments) -> Result<(), String> {
    match command {
        "pairs" => {
            let pairs = pairs::Pairs {
                connections: options.take("connections", 100)?,
                size: options.take("size", 64)?,
                window: options.take("window", 16)?,
                rate: options.maybe("rate")?,
                partners: pairs::Partners::Neighbours,
            };
            if pairs.connections % 2 == 1 || pairs.size < content::BYTES_MIN {
                let least = content::BYTES_MIN;
                return Err(format!(
                    "it takes two for a pair, and a size of at least {least}"
                ));
            }
            let span = span(options.take("seconds", 5.0)?);
            let subject = options.subject(Needs::connections(pairs.connections))?;
            options.end()?;
            report(&pairs.run(&subject, span));
        }
        "fanout" => {
            let fanout = fanout::Fanout {
                members: options.take("members", 1_000)?,
                senders: options.take("senders", 1)?,
                size: options.take("size", 64)?,
                window: options.take("window", 1)?,
            };
            if fanout.senders > fanout.members || fanout.members < 2 || fanout.window == 0 {
                return Err("senders are members, of whom there are two at least".to_owned());
            }
            let span = span(options.take("seconds", 5.0)?);
            let subject = options.subject(Needs {
                groups: 1,
                memberships: fanout.members,
                ..Needs::connections(fanout.members)
            })?;
            options.end()?;
            report(&fanout.run(&subject, span));
        }
        "groups" => {
            let groups = groups::Groups {
                connections: options.take("connections", 4_000)?,
                groups: options.take("groups", 4_000)?,
                members: options.take("members", 10)?,
                size: options.take("size", 64)?,
                at_once: options.take("at-once", 64)?,
            };
            groups.check()?;
            let span = span(options.take("seconds", 5.0)?);
            let subject = options.subject(Needs {
                groups: groups.groups,
                memberships: groups.memberships(),
                ..Needs::connections(groups.connections)
            })?;
            options.end()?;
            report(&groups.run(&subject, span));
        }
        "connect" => {
            let newcomers = connect::Newcomers {
                count: options.take("count", 8_000)?,
                at_once: options.take("at-once", 50)?,
                beside: options.take("beside", 0)?,
                join: options.take("join", false)?,
            };
            let all = newcomers.beside + 20 * newcomers.at_once;
            let subject = options.subject(Needs {
                groups: 1,
                memberships: all,
                ..Needs::connections(all)
            })?;
            options.end()?;
            println!("{}", newcomers.connect(&subject));
        }
        "hold" => {
            let (count, seconds) = (options.take("count", 8_000)?, options.take("seconds", 5)?);
            let subject = options.subject(Needs::connections(count + 64))?;
            options.end()?;
            println!(
                "{}",
                connect::idle(&subject, count, Duration::from_secs(seconds))
            );
        }
        "storm" => {
            let count = options.take("count", 10_000)?;
            let subject = options.subject(Needs::connections(count))?;
            options.end()?;
            let connected = connect::Newcomers::usual(count.min(8_000)).connect(&subject);
            println!("one after another, some at a time:\n{connected}");
            println!("at once:\n{}", storm::run(&subject, count));
        }
        "scaling" => {
            let (rounds, seconds) = (options.take("rounds", 3)?, options.take("seconds", 1.0)?);
            let kind = arguments::kind(&options.take("server", "steadfast".to_owned())?);
            options.end()?;
            end_badly(scaling::run(&kind, rounds, span(seconds)));
        }
        "compare" => {
            let names = options.take("subjects", "floor,plain,steadfast".to_owned())?;
            let subjects = names.split(',').map(|name| {
                let (name, path) = name.split_once('=').unwrap_or((name, name));
                (name.to_owned(), arguments::kind(path))
            });
            let plan = compare::Plan {
                subjects: subjects.collect(),
                rounds: options.take("rounds", 3)?,
                seconds: options.take("seconds", 2.0)?,
                only: options.take("only", String::new())?,
                write: options.maybe("write")?,
            };
            options.end()?;
            end_badly(compare::run(&plan));
        }
        other => return Err(format!("{other} is no command")),
    }
    Ok(())
}

fn span(seconds: f64) -> Span {
    Span {
        warm_up: Duration::from_secs_f64(seconds / 4.0),
        measured: Duration::from_secs_f64(seconds),
    }
}

fn report(outcome: &run::Outcome) {
    println!("{outcome}");
    end_badly(outcome.faults);
}

fn end_badly(faults: Faults) {
    if !faults.none() {
        std::process::exit(1);
    }
}

fn number<T: std::str::FromStr>(text: &str) -> T {
    let number = text.parse().ok();
    number.unwrap_or_else(|| panic!("{text:?} is no number"))
}
