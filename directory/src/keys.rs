//! The names of the keys, and how to read what is under them. Braces keep a name's keys together in a Redis Cluster.

use redis::{Cmd, Value};

use crate::Entry;

/// What the directory knows hosts of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A user, by name.
    User(String),
    /// A group, by name.
    Group(String),
}

impl Key {
    /// As a member of an index.
    pub(crate) fn member(&self) -> String {
        match self {
            Key::User(name) => format!("user:{name}"),
            Key::Group(name) => format!("group:{name}"),
        }
    }

    pub(crate) fn of_member(member: &str) -> Option<Self> {
        match member.split_once(':')? {
            ("user", name) => Some(Key::User(name.to_owned())),
            ("group", name) => Some(Key::Group(name.to_owned())),
            _ => None,
        }
    }
}

/// The keys of one namespace.
#[derive(Clone, Debug)]
pub struct Keys {
    namespace: String,
}

impl Keys {
    /// Of a namespace.
    pub fn new(namespace: &str) -> Self {
        Keys {
            namespace: namespace.to_owned(),
        }
    }

    /// A user's or group's hash.
    pub fn hash(&self, key: &Key) -> String {
        let namespace = &self.namespace;
        match key {
            Key::User(name) => format!("{namespace}:user:{{{name}}}"),
            Key::Group(name) => format!("{namespace}:group:{{{name}}}"),
        }
    }

    /// When a user was last seen.
    pub fn seen(&self, user: &str) -> String {
        format!("{}:seen:{{{user}}}", self.namespace)
    }

    /// A host's lease.
    pub fn lease(&self, host: &str) -> String {
        format!("{}:host:{host}", self.namespace)
    }

    /// Every life of a host that may have left something.
    pub fn hosts(&self) -> String {
        format!("{}:hosts", self.namespace)
    }

    /// What one life of a host has written.
    pub fn index(&self, host: &str, boot: &str) -> String {
        format!("{}:index:{host}:{boot}", self.namespace)
    }

    /// Who cleans after it.
    pub fn cleaning(&self, host: &str, boot: &str) -> String {
        format!("{}:cleaning:{host}:{boot}", self.namespace)
    }

    pub(crate) fn read(&self, key: &Key) -> Cmd {
        Cmd::hgetall(self.hash(key))
    }
}

/// A text, if it is one.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// A number, if it is one.
pub(crate) fn number(value: Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(number).ok(),
        other => text(&other)?.parse().ok(),
    }
}

/// The texts of a list or a set.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) | Value::Set(values) => values.iter().filter_map(text).collect(),
        _ => Vec::new(),
    }
}

/// The fields of a hash, in both protocols of Redis.
pub(crate) fn fields(value: &Value) -> Vec<(String, String)> {
    match value {
        Value::Map(pairs) => pairs
            .iter()
            .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
            .collect(),
        Value::Array(values) => values
            .chunks_exact(2)
            .filter_map(|pair| match pair {
                [name, value] => Some((text(name)?, text(value)?)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The fields of a key's hash.
pub(crate) fn entries(value: &Value) -> Vec<Entry> {
    fields(value)
        .into_iter()
        .map(|(host, value)| Entry { host, value })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_again_by_its_member() {
        for key in [Key::User("a:b".into()), Key::Group("ü{}".into())] {
            assert_eq!(Key::of_member(&key.member()), Some(key));
        }
        assert_eq!(Key::of_member("host:x"), None);
        assert_eq!(Key::of_member("x"), None);
    }

    #[test]
    fn hashes_are_read_in_both_protocols() {
        let text = |t: &str| Value::BulkString(t.as_bytes().to_vec());
        let wanted = vec![("a".to_owned(), "1".to_owned())];
        let list = Value::Array(vec![text("a"), text("1")]);
        let map = Value::Map(vec![(text("a"), text("1"))]);
        assert_eq!(fields(&list), wanted);
        assert_eq!(fields(&map), wanted);
        assert_eq!(number(text("12")), Some(12));
        assert_eq!(number(Value::Nil), None);
    }
}
