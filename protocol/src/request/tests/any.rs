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

fn quickly(text: &str) -> Option<fields::Fields<'_>> {
    let mut found = fields::Fields::default();
    quick::find(text, &mut found).map(|()| found)
}

proptest! {
    #[test]
    fn any_content_comes_out_as_it_went_in(content in json(), to in "[a-z \"\\\\é]{1,20}") {
        let to_json = serde_json::to_string(&to).unwrap();
        let text = format!("{{\"content\":{content},\"to\":{to_json},\"type\":\"sendto\"}}");
        prop_assert_eq!(good(&text), Request::SendTo(send(&to, &content)));
    }

    #[test]
    fn the_quick_way_finds_what_the_thorough_way_finds(
        object in json(),
        near in r#"\{("(type|to|id|\\u0041|x)" ?: ?(-?[0-9.e]{1,4}|"[a\\u0-9"\x00-\x20\x7f\x80é]{0,9}"|true|fals|null|\[1, ?2\]|\{\})[, }]{0,2}){1,4}\}?"#,
    ) {
        for text in [&object, &near] {
            if let Some(fields) = quickly(text) {
                prop_assert_eq!(fields::find_thoroughly(text), Ok(fields));
            }
        }
    }

    #[test]
    fn what_looks_like_a_message_before_means_what_it_means_alone(
        texts in proptest::collection::vec(
            r#"\{("(type":"send(to|group)"|to":"[a\x09\\é"]{0,3}"|to":"[a-z]{1,66}"|id":(-?[0-9.e]{1,3}|"[x"]{0,2}"|"x{0,130}")|quiet":(true|false|null)|content":("[a"\\]{0,3}"|17|\[\]))[, ]?){0,5}\}?"#,
            1..4,
        ),
        to in "[a-zé\u{301} \u{200d}]{1,9}",
        content in any::<String>(),
        id in any::<i64>(),
    ) {
        let mut shapes = Shapes::default();
        let content = serde_json::to_string(&content).unwrap();
        let usual = [
            format!(r#"{{"type":"sendto","to":"{to}","content":{content}}}"#),
            format!(r#"{{"id":{id},"type":"sendgroup","quiet":true,"content":"x","to":"{to}"}}"#),
            format!(r#"{{"id":"{id}","type":"sendgroup","quiet":true,"content":"x","to":"{to}"}}"#),
        ];
        for text in usual.iter().chain(&texts).chain(&usual).chain(&texts) {
            shapes.learn_now();
            prop_assert_eq!(shapes.parse(text, Rules::ANY), parse(text), "{}", text);
            let strict = super::super::parse(text, Rules::STRICT);
            prop_assert_eq!(shapes.parse(text, Rules::STRICT), strict, "{}", text);
        }
    }

    #[test]
    fn nothing_makes_it_panic(text in any::<String>(), object in json()) {
        let _ = parse(&text);
        let _ = parse(&object);
    }
}

#[test]
fn what_programs_write_goes_the_quick_way() {
    for text in [
        r#"{"type":"sendto","to":"bob","quiet":true,"content":"h\u00e9 \"x\" \/"}"#,
        r#"{"type": "sendto", "to": "bob", "id": 17, "content": {"a": [1.5, null]}, "x": -0}"#,
        r#"{"type":"sendgroup","to":"группа","content":["a","b"],"id":"1"}"#,
    ] {
        let found = quickly(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(fields::find_thoroughly(text), Ok(found));
    }
}

#[test]
fn what_looks_like_a_message_before_needs_no_other_look() {
    let mut shapes = Shapes::default();
    let text = |to: &str, id: &str, content: &str| {
        format!(r#"{{"type":"sendto","to":"{to}", "id":{id},"x":[1,2],"content":"{content}"}}"#)
    };
    let first = text("bob", "17", "hello");
    assert_eq!(shapes.known(&first, Rules::ANY), None);
    assert_eq!(shapes.parse(&first, Rules::ANY), parse(&first));
    for (to, id, content, is_known) in [
        ("bob", "17", "hello", true),
        ("группа", "-4", "", true),
        ("x", "0", "é{}[],:", true),
        ("", "1", "a name is missing", false),
        ("x", "01", "no number", false),
        ("x", "1.5", "no whole number", false),
        ("x", "\"1\"", "no number", false),
        ("x", "1", "with \\u0041 escape", false),
        ("x", "1", "a\",\"b\":\"c", false),
    ] {
        let text = text(to, id, content);
        assert_eq!(
            shapes.known(&text, Rules::ANY).is_some(),
            is_known,
            "{text}"
        );
        assert_eq!(shapes.parse(&text, Rules::ANY), parse(&text), "{text}");
    }
}

#[test]
fn what_is_no_json_never_goes_the_quick_way() {
    for text in [
        "",
        "{",
        "{}x",
        r#"{"type":"ping"} "#,
        r#"{"type":"ping",}"#,
        r#"{"type":"pi
ng"}"#,
        r#"{"type":"\x"}"#,
        r#"{"type":"\u00g0"}"#,
        r#"{"id":01}"#,
        r#"{"id":-}"#,
        r#"{"id":1.5}"#,
        r#"{"a":tru}"#,
        r#"{"a":truex}"#,
        r#"{"a":[1,]}"#,
        r#"{"a":{"b":}}"#,
        r#"{"a" "b"}"#,
        r#"{"\u0061":1}"#,
        r#"["type"]"#,
        r#"{"a":"b"#,
    ] {
        assert_eq!(quickly(text), None, "{text}");
    }
}
