//! Header maps: reading, writing, what is ignored, and the serialized form.

use crate::host::check;

fn get(map: u32, key: &str) -> String {
    format!(
        r#"(call $say32 (call $proxy_get_header_map_value (i32.const {map}) "{key}"S OUT)) (call $say_out)"#
    )
}

#[test]
fn a_guest_reads_headers_and_pseudo_headers_by_name() {
    let cases = [
        (":method", ["0", "GET"]),
        (":path", ["0", "/some/path?q=1"]),
        (":authority", ["0", "example.com"]),
        ("host", ["0", "example.com"]),
        (":scheme", ["0", "http"]),
        ("x-one", ["0", "1"]),
        ("X-ONE", ["0", "1"]),
        ("x-two", ["0", "first"]),
        ("x-empty", ["0", ""]),
        ("x-absent", ["1", ""]),
        (":unknown", ["1", ""]),
        ("\\ff\\fe", ["1", ""]),
    ];
    for (key, said) in cases {
        check(&get(0, key), &said);
    }
}
