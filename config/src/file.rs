//! The text of a `config.toml` as a list of values, each with the line it stands on. Which keys exist is not known here.

use serde_json::Value;
use toml::de::{DeTable, DeValue};

/// One `key = value` of a section; a key outside a section has an empty `section`. The head of a section, which comes before its keys,
/// is an entry with an empty `key`.
#[derive(Debug, PartialEq)]
pub(crate) struct Entry {
    pub section: String,
    pub key: String,
    /// The value, or why it cannot be one of ours.
    pub value: Result<Value, String>,
    /// Counted from 1.
    pub line: usize,
}

/// Reads the text. The error is a syntax error's line and reason.
pub(crate) fn entries(text: &str) -> Result<Vec<Entry>, (usize, String)> {
    let line_at = |offset: usize| 1 + text.bytes().take(offset).filter(|&b| b == b'\n').count();
    let table = DeTable::parse(text).map_err(|e| {
        let line = line_at(e.span().map_or(0, |s| s.start));
        (line, e.message().replace('\n', ", "))
    })?;
    let mut entries = Vec::new();
    for (name, value) in table.get_ref() {
        let line = line_at(name.span().start);
        match value.get_ref() {
            DeValue::Table(section) => {
                let section_name = || name.get_ref().to_string();
                entries.push(Entry {
                    section: section_name(),
                    key: String::new(),
                    value: Ok(Value::Null),
                    line,
                });
                for (key, value) in section {
                    entries.push(Entry {
                        section: section_name(),
                        key: key.get_ref().to_string(),
                        value: plain(value.get_ref()),
                        line: line_at(key.span().start),
                    });
                }
            }
            other => entries.push(Entry {
                section: String::new(),
                key: name.get_ref().to_string(),
                value: plain(other),
                line,
            }),
        }
    }
    entries.sort_by_key(|e| e.line);
    Ok(entries)
}

/// Reads an array as TOML writes it; `None` where the text is not one.
pub(crate) fn array(text: &str) -> Option<Value> {
    let line = format!("x = {text}");
    let table = DeTable::parse(&line).ok()?;
    let value = plain(table.get_ref().get("x")?.get_ref()).ok()?;
    value.is_array().then_some(value)
}

fn plain(value: &DeValue<'_>) -> Result<Value, String> {
    match value {
        DeValue::String(text) => Ok(Value::from(text.as_ref())),
        DeValue::Boolean(truth) => Ok(Value::from(*truth)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::from)
            .map_err(|_| format!("{number} is out of range")),
        DeValue::Array(values) => values.iter().map(|v| plain(v.get_ref())).collect(),
        DeValue::Float(_) => Err("a number with a fraction is not a value of any key".into()),
        DeValue::Datetime(_) => Err("a date is not a value of any key".into()),
        DeValue::Table(_) => Err("a table is not a value of any key".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_know_their_lines() {
        let found =
            entries("top = 1\n\n[a]\nx = \"y\"\nlist = [\n  1,\n  2,\n]\n[empty]\n[b]\nz = true\n")
                .unwrap();
        let lines: Vec<_> = found
            .iter()
            .map(|e| (e.section.as_str(), e.key.as_str(), e.line))
            .collect();
        assert_eq!(
            lines,
            [
                ("", "top", 1),
                ("a", "", 3),
                ("a", "x", 4),
                ("a", "list", 5),
                ("empty", "", 9),
                ("b", "", 10),
                ("b", "z", 11)
            ]
        );
        assert_eq!(found[3].value, Ok(serde_json::json!([1, 2])));
    }

    #[test]
    fn a_syntax_error_has_its_line() {
        assert_eq!(entries("[a]\nx = 1\ny = = 2\n").unwrap_err().0, 3);
        assert_eq!(entries("[a]\nx = 1\nx = 2\n").unwrap_err().0, 3);
        assert_eq!(entries("[a]\n\n[b\n").unwrap_err().0, 3);
    }

    #[test]
    fn numbers_of_every_radix_and_none_too_large() {
        let found = entries("a = 0x10\nb = 1_000\nc = 99999999999999999999\nd = 1.5\n").unwrap();
        assert_eq!(found[0].value, Ok(Value::from(16)));
        assert_eq!(found[1].value, Ok(Value::from(1000)));
        assert!(found[2].value.is_err());
        assert!(found[3].value.is_err());
    }
}
