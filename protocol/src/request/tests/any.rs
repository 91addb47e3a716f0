//! Messages nobody would think of.

use super::*;
use proptest::prelude::*;

/// Any JSON value, written with space in places.
fn json() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("JSON has no such numbers", |n| n.is_finite())
            .prop_map(|n| n.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        let list = proptest::collection::vec(inner.clone(), 0..4);
        let object = proptest::collection::vec((any::<String>(), inner), 0..4);
        prop_oneof![
            list.prop_map(|items| format!("[{}]", items.join(" ,\n"))),
            object.prop_map(|items| {
                let field = |(name, value): &(String, String)| {
                    format!("{}: {value}", serde_json::to_string(name).unwrap())
                };
                format!(
                    "{{{}}}",
                    items.iter().map(field).collect::<Vec<_>>().join(",\r\n")
                )
            }),
        ]
    })
}

proptest! {
    #[test]
    fn any_content_comes_out_as_it_went_in(content in json(), to in "[a-z \"\\\\é]{1,20}") {
        let to_json = serde_json::to_string(&to).unwrap();
        let text = format!("{{\"content\":{content},\"to\":{to_json},\"type\":\"sendto\"}}");
        prop_assert_eq!(good(&text), Request::SendTo(send(&to, &content)));
    }

    #[test]
    fn nothing_makes_it_panic(text in any::<String>(), object in json()) {
        let _ = parse(&text);
        let _ = parse(&object);
    }
}
