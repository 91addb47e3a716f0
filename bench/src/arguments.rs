//! Options on the command line: `--name value`, any of them left out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::subject::{Kind, Needs, Subject};

/// What was given, until it is asked for.
pub struct Arguments(BTreeMap<String, String>);

impl Arguments {
    /// Reads pairs of option and value.
    pub fn read(words: &[&str]) -> Result<Arguments, String> {
        let mut options = BTreeMap::new();
        for pair in words.chunks(2) {
            let name = pair[0].strip_prefix("--");
            let name = name.ok_or_else(|| format!("{} is no option", pair[0]))?;
            let value = pair
                .get(1)
                .ok_or_else(|| format!("--{name} needs a value"))?;
            options.insert(name.to_owned(), (*value).to_owned());
        }
        Ok(Arguments(options))
    }

    /// Takes an option's value, or what is usual.
    pub fn take<T: FromStr>(&mut self, name: &str, usual: T) -> Result<T, String> {
        self.maybe(name).map(|given| given.unwrap_or(usual))
    }

    /// Takes an option's value, if it was given.
    pub fn maybe<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, String> {
        let given = self.0.remove(name);
        let wrong = |value: &str| format!("--{name}: {value:?} cannot be understood");
        given
            .map(|value| value.parse().map_err(|_| wrong(&value)))
            .transpose()
    }

    /// The server that was asked for: one that runs (`--connect ADDRESS --pid PID`), or one to be started (`--server floor`, `plain`,
    /// or an executable of ours).
    pub fn subject(&mut self, needs: Needs) -> Result<Subject, String> {
        let pid = self.maybe("pid")?;
        let workers = self.take("workers", needs.workers)?;
        let room = self.maybe("room")?.or(needs.room);
        if let Some(address) = self.maybe::<SocketAddr>("connect")? {
            let pid = pid.ok_or("--connect needs --pid: whose processor time is to be measured")?;
            return Ok(Subject::Given(pid, address));
        }
        let kind = kind(&self.take("server", "steadfast".to_owned())?);
        Ok(Subject::start(
            &kind,
            Needs {
                workers,
                room,
                ..needs
            },
        ))
    }

    /// Nothing may be left.
    pub fn end(&self) -> Result<(), String> {
        match self.0.keys().next() {
            Some(name) => Err(format!("--{name} is not known here")),
            None => Ok(()),
        }
    }
}

/// A server by its name, or the path of an executable of ours.
pub fn kind(name: &str) -> Kind {
    match name {
        "floor" => Kind::Floor,
        "plain" => Kind::Plain,
        "steadfast" => Kind::Steadfast(::tests::house::executable()),
        path => Kind::Steadfast(std::path::absolute(path).unwrap_or_else(|_| path.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_taken_and_the_rest_is_usual() {
        let mut arguments = Arguments::read(&["--size", "64", "--rate", "x"]).unwrap();
        assert_eq!(arguments.take("window", 16), Ok(16));
        assert_eq!(arguments.take("size", 1), Ok(64));
        assert!(arguments.end().is_err_and(|error| error.contains("--rate")));
        assert!(arguments.maybe::<u64>("rate").is_err());
        assert_eq!(arguments.end(), Ok(()));
        assert!(Arguments::read(&["size", "64"]).is_err());
        assert!(Arguments::read(&["--size"]).is_err());
    }
}
