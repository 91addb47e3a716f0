//! Environment variables: `STEADFAST_SECTION_KEY` sets `section.key` and wins over the file.
//!
//! A list is written as a TOML array or as values with commas between them; a text is taken as it is, without quotes.

use serde_json::Value;

use crate::file;

/// What every variable of the server begins with.
pub(crate) const PREFIX: &str = "STEADFAST_";

/// The variable that sets a key.
pub(crate) fn variable(section: &str, key: &str) -> String {
    format!(
        "{PREFIX}{}_{}",
        section.to_ascii_uppercase(),
        key.to_ascii_uppercase()
    )
}

/// Reads a variable's text as a value of the same kind as `like`, the key's default.
pub(crate) fn value(text: &str, like: &Value) -> Result<Value, String> {
    match like {
        Value::Bool(_) => text
            .parse()
            .map(Value::Bool)
            .map_err(|_| format!("`{text}` is neither true nor false")),
        Value::Number(_) => text
            .parse::<i64>()
            .map(Value::from)
            .map_err(|_| format!("`{text}` is not a whole number")),
        Value::Array(_) => Ok(file::array(text).unwrap_or_else(|| separated(text))),
        _ => Ok(Value::from(text)),
    }
}

fn separated(text: &str) -> Value {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_is_an_array_or_has_commas() {
        let list = json!([]);
        assert_eq!(value("", &list), Ok(json!([])));
        assert_eq!(value("a, b", &list), Ok(json!(["a", "b"])));
        assert_eq!(value(r#"["a,b", "c"]"#, &list), Ok(json!(["a,b", "c"])));
        // An IPv6 address begins like an array and is none.
        assert_eq!(
            value("[::1]:9501,[::1]:9502", &list),
            Ok(json!(["[::1]:9501", "[::1]:9502"]))
        );
    }

    #[test]
    fn other_kinds_follow_the_default() {
        assert_eq!(value("7", &json!("x")), Ok(json!("7")));
        assert_eq!(value("7", &json!(1)), Ok(json!(7)));
        assert_eq!(value("true", &json!(false)), Ok(json!(true)));
        assert!(value("yes", &json!(false)).is_err());
        assert!(value("7s", &json!(1)).is_err());
    }
}
