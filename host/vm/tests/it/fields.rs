//! Fields as a list: their order, what is replaced and removed, what is refused, and what they hold on to.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use portcullis_vm::{Fields, Refused};

use crate::host::headers;

fn text(fields: &Fields) -> Vec<(&str, &str)> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    fields.iter().map(|(name, value)| (text(name), text(value))).collect()
}

fn filled() -> Fields {
    headers(&[("a", "1"), ("b", "2"), ("c", "3"), ("b", "4"), ("d", "5")])
}

/// Names and values counted one by one.
fn counted(fields: &Fields) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len()).sum()
}

#[test]
fn fields_stand_in_the_order_in_which_they_came() {
    let fields = filled();
    assert_eq!(text(&fields), [("a", "1"), ("b", "2"), ("c", "3"), ("b", "4"), ("d", "5")]);
    assert_eq!(fields.names().collect::<Vec<_>>().concat(), b"abcbd");
    assert_eq!(fields.get("b"), Some(&b"2"[..]));
    assert_eq!(fields.get_all("b").collect::<Vec<_>>(), [b"2", b"4"]);
    assert_eq!((fields.len(), fields.bytes()), (5, 10));
}

#[test]
fn what_is_left_after_a_removal_keeps_its_order() {
    let mut fields = filled();
    assert!(fields.remove("C"));
    assert_eq!(text(&fields), [("a", "1"), ("b", "2"), ("b", "4"), ("d", "5")]);
    assert!(fields.remove("b"));
    assert!(!fields.remove("b"));
    assert_eq!(text(&fields), [("a", "1"), ("d", "5")]);
    fields.append("b", "6").unwrap();
    assert_eq!(text(&fields), [("a", "1"), ("d", "5"), ("b", "6")]);
    fields.retain(|name, value| name != b"a" && value != b"6");
    assert_eq!(text(&fields), [("d", "5")]);
    assert_eq!(fields.bytes(), 2);
    fields.clear();
    assert!(fields.is_empty() && fields.bytes() == 0);
}

#[test]
fn an_inserted_field_takes_the_place_of_the_first_and_removes_the_others() {
    for value in ["", "7", "something longer"] {
        let mut fields = filled();
        fields.insert("B", value).unwrap();
        assert_eq!(text(&fields), [("a", "1"), ("b", value), ("c", "3"), ("d", "5")]);
        assert_eq!(fields.bytes(), counted(&fields));
        fields.insert("e", value).unwrap();
        assert_eq!(text(&fields).last(), Some(&("e", value)));
        assert_eq!(fields.bytes(), counted(&fields));
    }
}

#[test]
fn names_are_kept_in_lower_case_and_found_in_any() {
    let mut fields = Fields::default();
    fields.append("X-Mixed_Case.1~", "Value").unwrap();
    assert_eq!(text(&fields), [("x-mixed_case.1~", "Value")]);
    assert_eq!(fields.get("x-MIXED_case.1~"), Some(&b"Value"[..]));
    assert!(fields.contains(b"X-MIXED_CASE.1~"));
    for other in ["x-mixed_case.1^", "x-mixed-case.1~", "x-mixed_case.1", "", "X"] {
        assert!(!fields.contains(other), "{other}");
    }
}

#[test]
fn what_http_does_not_allow_is_refused_as_the_http_crate_refuses_it() {
    for byte in 0..=u8::MAX {
        for length in 1..20 {
            let mut text = vec![b'x'; length];
            text[usize::from(byte) % length] = byte;
            let name = HeaderName::from_bytes(&text).map_err(|_| Refused::Name);
            let value = HeaderValue::from_bytes(&text).map_err(|_| Refused::Value);
            let mut fields = Fields::default();
            assert_eq!(fields.append(&text, "1"), name.map(drop));
            assert_eq!(fields.insert("new", &text), value.clone().map(drop));
            assert_eq!(fields.insert("new", "longer than any of the others").map(drop), Ok(()));
            assert_eq!(fields.insert("new", &text), value.map(drop));
        }
    }
}

#[test]
fn after_a_refusal_nothing_has_changed() {
    let mut fields = filled();
    let long = "n".repeat(65_536);
    let cases: [(&str, &[u8], Refused); 7] = [
        ("", b"1", Refused::Name),
        ("two words", b"1", Refused::Name),
        ("two words", b"\0", Refused::Name),
        (":path", b"/", Refused::Name),
        (&long, b"1", Refused::Name),
        ("b", b"a\r\nb: c", Refused::Value),
        ("new", b"\x7f", Refused::Value),
    ];
    for (name, value, why) in cases {
        assert_eq!(fields.append(name, value), Err(why));
        assert_eq!(fields.insert(name, value), Err(why));
        assert_eq!(fields, filled());
        assert_eq!(fields.bytes(), 10);
    }
    fields.append(&long[1..], "1").unwrap();
    assert_eq!(fields.get(&long[1..]), Some(&b"1"[..]));
}

#[test]
fn many_changes_leave_what_was_written_last() {
    let mut fields = filled();
    let mut model: Vec<(String, String)> = Vec::new();
    for (name, value) in text(&fields) {
        model.push((name.to_owned(), value.to_owned()));
    }
    let mut random = 1_u32;
    for _ in 0..20_000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let name = ["a", "b", "c", "dd", "ee", "x-long-name"][(random >> 8) as usize % 6];
        let value = "v".repeat((random >> 16) as usize % 300);
        let of_name = |(known, _): &(String, String)| known == name;
        match (random >> 28) % 4 {
            0 if model.len() < 20 => {
                fields.append(name, &value).unwrap();
                model.push((name.to_owned(), value));
            }
            1 => {
                assert_eq!(fields.remove(name), model.iter().any(of_name));
                model.retain(|field| !of_name(field));
            }
            _ => {
                fields.insert(name.to_uppercase(), &value).unwrap();
                let first = model.iter().position(of_name).unwrap_or(model.len());
                let later = model.split_off(first).into_iter().filter(|field| !of_name(field));
                let later: Vec<_> = later.collect();
                model.push((name.to_owned(), value));
                model.extend(later);
            }
        }
        let known: Vec<_> = model.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(text(&fields), known);
        assert_eq!(fields.bytes(), counted(&fields));
    }
}

#[test]
fn fields_become_hypers_and_come_back() {
    let map = HeaderMap::from(&filled());
    assert_eq!(map.len(), 5);
    assert_eq!(map.get_all("b").iter().collect::<Vec<_>>(), ["2", "4"]);
    let back = Fields::from(&map);
    assert_eq!(back.get_all("b").collect::<Vec<_>>(), [b"2", b"4"]);
    assert_eq!((back.len(), back.bytes()), (5, 10));
    let opaque = HeaderValue::from_bytes(b"\xff\tx").unwrap();
    let map = HeaderMap::from_iter([(HeaderName::from_static("x"), opaque)]);
    assert_eq!(HeaderMap::from(&Fields::from(&map)), map);
}

#[test]
fn more_fields_than_hyper_has_room_for_are_no_panic() {
    let mut map = HeaderMap::new();
    for _ in 0..40_000 {
        if map.try_append("x", HeaderValue::from_static("1")).is_err() {
            break;
        }
    }
    let fields = Fields::from(&map);
    assert_eq!(fields.len(), map.len());
    assert!(HeaderMap::from(&fields).len() <= fields.len());
}
