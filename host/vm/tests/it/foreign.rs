//! Foreign functions: what Envoy has beyond the ABI, with good input and with bad.

use portcullis_vm::{Declaration, Phase, StateKind};

use crate::host::{Host, callback, check, escape};

/// Calls a function in the request-headers callback and keeps its result where the test can see it.
fn calling(function: &str, arguments: &[u8]) -> String {
    let arguments = escape(arguments);
    format!(
        r#"(call $say32 (call $proxy_call_foreign_function "{function}"S "{arguments}"S OUT))
           (drop (call $proxy_set_property "kept"S (i32.load (i32.const 16)) (i32.load (i32.const 20))))"#
    )
}

fn kept(host: &mut Host) -> Vec<u8> {
    host.stream().filter_state.property(b"kept").unwrap().value().to_vec()
}

/// Status and result.
fn answer(function: &str, arguments: &[u8]) -> (String, Vec<u8>) {
    let mut host = Host::new(&callback(&calling(function, arguments)));
    host.run(Phase::RequestHeaders).unwrap();
    let status = host.said().remove(0);
    (status, kept(&mut host))
}

/// A field of a message: bytes that are shorter than 16 KiB.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, bytes.len() as u8 | 0x80, (bytes.len() >> 7) as u8];
    out.extend(bytes);
    out
}

#[test]
fn a_function_that_nobody_knows_is_not_found() {
    assert_eq!(answer("fly", b""), ("1".to_owned(), vec![]));
    assert_eq!(answer("", b"compress").0, "1");
    assert_eq!(answer("compres", b"").0, "1");
}

#[test]
fn a_guest_that_wants_no_result_gets_none() {
    check(
        r#"(call $say32 (call $proxy_call_foreign_function "compress"S "text"S (i32.const 0) (i32.const 0)))
           (call $say32 (call $proxy_call_foreign_function "fly"S "text"S (i32.const 0) (i32.const 0)))"#,
        &["0", "1"],
    );
}

#[test]
fn what_was_compressed_is_uncompressed() {
    for text in
        [&b""[..], b"hello", &[b'x'; 20_000], &(0..=255).cycle().take(9000).collect::<Vec<u8>>()]
    {
        let (status, packed) = answer("compress", text);
        assert_eq!(status, "0");
        assert_eq!(packed[0] & 0x0f, 8, "a zlib stream");
        assert_eq!(answer("uncompress", &packed), ("0".to_owned(), text.to_vec()));
    }
    let made_elsewhere =
        b"\x78\x9c\xcb\x48\xcd\xc9\xc9\x07\x00\x06\x2c\x02\x15 and a rest that nobody reads";
    assert_eq!(answer("uncompress", made_elsewhere), ("0".to_owned(), b"hello".to_vec()));
}

#[test]
fn what_is_no_zlib_stream_is_a_serialization_failure() {
    let cases: [&[u8]; 5] = [
        b"",
        b"plain text",
        b"\x78\x9c\xcb\x48\xcd",
        b"\x78\x9c\xcb\x48\xcd\xc9\xc9\x07\x00\x06\x2c\x02\x16",
        b"\x78\x9c\x07\xff\xff",
    ];
    for bytes in cases {
        assert_eq!(answer("uncompress", bytes), ("3".to_owned(), vec![]), "{bytes:?}");
    }
}

#[test]
fn a_zip_bomb_is_a_serialization_failure() {
    use std::io::Write as _;
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(&vec![0; 16 << 20]).unwrap();
    let bomb = packer.finish().unwrap();
    assert!(bomb.len() < 20_000);
    assert_eq!(answer("uncompress", &bomb), ("3".to_owned(), vec![]));
}

/// Statuses of `expr_create` and `expr_evaluate`, and the value.
fn evaluate_with(text: &str, prepare: impl FnOnce(&mut Host)) -> (String, String, Vec<u8>) {
    let text = escape(text.as_bytes());
    let mut host = Host::new(&callback(&format!(
        r#"(call $say32 (call $proxy_call_foreign_function "expr_create"S "{text}"S OUT))
           (i32.store (i32.const 32) (i32.load (i32.load (i32.const 16))))
           (i32.store (i32.const 20) (i32.const 0))
           (call $say32 (call $proxy_call_foreign_function "expr_evaluate"S (i32.const 32) (i32.const 4) OUT))
           (drop (call $proxy_set_property "kept"S (i32.load (i32.const 16)) (i32.load (i32.const 20))))"#
    )));
    prepare(&mut host);
    host.run(Phase::RequestHeaders).unwrap();
    let mut said = host.said();
    (said.remove(0), said.remove(0), kept(&mut host))
}

fn evaluate(text: &str) -> (String, String, Vec<u8>) {
    evaluate_with(text, |_| ())
}

#[test]
fn expressions_read_attributes_and_have_values() {
    let eight = |number: i64| number.to_le_bytes().to_vec();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("request.path", b"/some/path?q=1".to_vec()),
        ("request.url_path.startsWith('/some') && request.method == 'GET'", vec![1]),
        ("request['host']", b"example.com".to_vec()),
        ("request.headers['x-one']", b"1".to_vec()),
        ("request.headers['x-two']", b"first,second".to_vec()),
        ("has(request.headers.absent)", vec![0]),
        ("has(request.headers) && !has(response.code)", vec![1]),
        ("'x-one' in request.headers", vec![1]),
        ("request.headers.exists(name, name.endsWith('-two'))", vec![1]),
        ("response.code == 200 || request.method == 'GET'", vec![1]),
        ("request.path.matches('^/[a-z]+/p')", vec![1]),
        ("matches(request.path, '^p')", vec![0]),
        ("source.port + 1", eight(55001)),
        ("connection.id", eight(7)),
        ("1.5", 1.5_f64.to_le_bytes().to_vec()),
        ("connection.mtls", vec![0]),
        ("request.time", eight(1_700_000_000_000_000_000)),
        ("request.time + duration('1s')", eight(1_700_000_001_000_000_000)),
        ("duration('15ms')", eight(15_000_000)),
        ("'a' + 'b'", b"ab".to_vec()),
        ("b'\\xff'", vec![0xff]),
        ("[1, 2, 3, 4].filter(x, x % 2 == 0).map(x, x * 10)[1]", eight(40)),
        ("[1, 2].all(x, x > 0) && [1, 2].exists_one(x, x == 2)", vec![1]),
        ("type(1) == int", vec![1]),
        ("size(plugin_name)", eight(14)),
        ("['ab', 'c']", b"\x02\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0ab\0\0c\0\0".to_vec()),
        ("{'k': true}", b"\x01\0\0\0\x01\0\0\0\x01\0\0\0k\0\x01\0".to_vec()),
    ];
    for (text, expected) in cases {
        assert_eq!(evaluate(text), ("0".to_owned(), "0".to_owned(), expected), "{text}");
    }
}

#[test]
fn expressions_read_what_filters_stored() {
    let prepare = |host: &mut Host| {
        let state = &mut host.stream().filter_state;
        let declared = Declaration { kind: StateKind::String, read_only: false };
        state.set_property(b"tenant", b"blue", declared).unwrap();
        state.set(b"plain", b"text", declared).unwrap();
        state.set_property(b"raw", b"\x01", Declaration::default()).unwrap();
    };
    for text in [
        "tenant == 'blue'",
        "filter_state['wasm.tenant'] == 'blue'",
        "filter_state.plain == 'text'",
        "raw == b'\\x01'",
    ] {
        assert_eq!(evaluate_with(text, prepare).2, [1], "{text}");
    }
}

#[test]
fn bad_expressions_and_tokens_have_their_statuses() {
    for text in
        ["", "1 +", "fly(1)", "'a'.fly()", "request.path ==", "Thing{a: 1}", "a.b.c(", "\u{0}"]
    {
        assert_eq!(evaluate(text).0, "2", "{text}");
    }
    for text in [
        "absent == 1",
        "1 + 'a'",
        "1 / 0",
        "'a'.matches('(')",
        "request",
        "9223372036854775807 + 1",
        "-9223372036854775808 / -1",
        "[1, 2][-1]",
        "[1][9]",
    ] {
        assert_eq!(
            (evaluate(text).0, evaluate(text).1),
            ("0".to_owned(), "10".to_owned()),
            "{text}"
        );
    }
    assert_eq!(evaluate("null").1, "3");
    assert_eq!(answer("expr_create", b"\xff").0, "2");
    assert_eq!(answer("expr_evaluate", b"\0\0\0").0, "2");
    assert_eq!(answer("expr_evaluate", b"\0\0\0\0\0").0, "2");
    assert_eq!(answer("expr_evaluate", b"\x07\0\0\0").0, "1");
    assert_eq!(answer("expr_delete", b"\x07").0, "2");
    assert_eq!(answer("expr_delete", b"\x07\0\0\0").0, "0");
}

#[test]
fn a_deleted_expression_is_not_found_and_others_stay() {
    let create = r#"(call $say32 (call $proxy_call_foreign_function "expr_create"S "1"S OUT))
                    (call $say32 (i32.load (i32.load (i32.const 16))))"#;
    let with = |function: &str, token: u8| {
        format!(
            r#"(call $say32 (call $proxy_call_foreign_function "{function}"S "\{token:02x}\00\00\00"S OUT))"#
        )
    };
    let code = create.to_owned()
        + create
        + &with("expr_delete", 0)
        + &with("expr_evaluate", 0)
        + &with("expr_evaluate", 1);
    check(&code, &["0", "0", "0", "1", "0", "1", "0"]);
}

#[test]
fn an_instance_keeps_only_so_many_expressions() {
    let mut host = Host::new(&callback(
        r#"(local $left i32) (local $status i32)
           (local.set $left (i32.const 50))
           (loop $more
             (local.set $status (call $proxy_call_foreign_function "expr_create"S "1"S (i32.const 0) (i32.const 0)))
             (local.set $left (i32.sub (local.get $left) (i32.const 1)))
             (br_if $more (i32.and (i32.ne (local.get $left) (i32.const 0)) (i32.eqz (local.get $status)))))
           (call $say32 (local.get $left)) (call $say32 (local.get $status))"#,
    ));
    for _ in 0..5 {
        host.run(Phase::RequestHeaders).unwrap();
        assert_eq!(host.said(), ["0", "0"]);
    }
    host.run(Phase::RequestHeaders).unwrap();
    let said = host.said();
    assert_eq!(said[said.len() - 2..], ["43", "10"]);
    assert_eq!(host.record.violations(), ["proxy_call_foreign_function"]);
}

#[test]
fn a_callback_compiles_only_so_many_expressions_and_goes_on() {
    let mut host = Host::new(&callback(
        r#"(local $left i32) (local $status i32) (local $created i32)
           (local.set $left (i32.const 100))
           (loop $more
             (local.set $status (call $proxy_call_foreign_function "expr_create"S "1"S (i32.const 0) (i32.const 0)))
             (local.set $created (i32.add (local.get $created) (i32.eqz (local.get $status))))
             (local.set $left (i32.sub (local.get $left) (i32.const 1)))
             (br_if $more (local.get $left)))
           (call $say32 (local.get $created)) (call $say32 (local.get $status))
           (call $say32 (call $proxy_call_foreign_function "expr_evaluate"S "\00\00\00\00"S OUT))"#,
    ));
    for _ in 0..2 {
        host.run(Phase::RequestHeaders).unwrap();
        let said = host.said();
        assert_eq!(said[said.len() - 3..], ["64", "2", "0"]);
        assert_eq!(host.record.violations(), ["proxy_call_foreign_function"; 36]);
    }
}

#[test]
fn expressions_that_would_cost_too_much_end_without_a_value() {
    let digits = "[0,1,2,3,4,5,6,7,8,9]";
    let nested = |inner: &str| {
        let open: String = ('a'..='i').map(|name| format!("{digits}.all({name},")).collect();
        format!("{open}{inner}{}", ")".repeat(9))
    };
    let doubled = |step: &str| format!("['0123456789']{}", step.repeat(30));
    let texts = [
        nested("true"),
        nested("a == b || true"),
        doubled(".map(x, x + x)"),
        doubled(".map(x, [x, x])"),
        doubled(".map(x, {1: x, 2: x})"),
        format!("{digits}.map(x, {digits}.map(y, 'a'.matches('(\\\\w{{40}}){{40}}')))"),
        format!(
            "{digits}.exists(x, {digits}.map(y, {digits}.map(z, {digits}.map(u, {digits}.map(v, 'x')))) == [x])"
        ),
    ];
    for text in texts {
        let (created, evaluated, value) = evaluate(&text);
        let refused = created == "2" || evaluated == "10";
        assert!(refused && value.is_empty(), "{created} {evaluated} {text}");
    }
}

#[test]
fn patterns_that_take_long_to_compile_are_refused() {
    let zeros = vec!["0"; 60].join(",");
    let exists = |pattern: &str| format!("[{zeros}].exists(i, 'x'.matches(r'{pattern}'))");
    let classes = |flags: &str, times: usize| format!("{flags}{}", r"[\S]".repeat(times));
    let patterns = [
        classes("(?iu)", 440),
        classes("(?iu)", 1),
        classes("(?u)", 0) + "x",
        format!("a|({}x)", classes("(?i)(?s-U:b)(?u:", 1) + ")*"),
        r"(?x)( ?iu: [\S] )*".to_owned(),
        r"\pL*".to_owned(),
        format!("x{}", "x?".repeat(128)),
    ];
    for pattern in patterns {
        let expected = ("0".to_owned(), "10".to_owned(), vec![]);
        assert_eq!(evaluate(&exists(&pattern)), expected, "{pattern}");
    }
    for pattern in [classes("(?i)", 1), r"(?-u:X)|(?i:X)".to_owned(), r"^\w$".to_owned()] {
        let expected = ("0".to_owned(), "0".to_owned(), vec![1]);
        assert_eq!(evaluate(&exists(&pattern)), expected, "{pattern}");
    }
}

#[test]
fn expressions_that_are_nested_or_long_are_refused_or_evaluated_but_never_fatal() {
    let deep = |open: &str, inner: &str, close: &str, times: usize| {
        format!("{}{inner}{}", open.repeat(times), close.repeat(times))
    };
    for times in [10, 20, 40, 47, 100, 900] {
        for text in [
            deep("(", "1", ")", times),
            deep("[", "1", "]", times),
            deep("{1:", "1", "}", times),
            deep("true?1:", "1", "", times),
            deep("!", "true", "", times),
            deep("-", "1", "", times),
            deep("", "1", "+1", times),
            deep("')'+(", "1", ")", times),
            deep("r'\\'+(", "1", ")", times),
            deep("(//)\n", "1", ")", times),
            deep("", "true", "&&true", times),
            deep("", "a", ".a", times),
            deep("", "a", "[0]", times),
            deep("", "[1]", ".map(x,x)", times / 4),
            deep("size(", "'a'", ")", times),
        ] {
            let (created, ..) = evaluate(&text);
            assert!(created == "0" || created == "2", "{created} {text}");
            assert!(text.len() <= 2048 || created == "2", "{text}");
        }
    }
}

const RSA: &str = include_str!("keys/rsa.pem");
const RSA_PKCS1: &str = include_str!("keys/rsa.pkcs1.pem");
const RSA_PUBLIC: &str = include_str!("keys/rsa.pub.pem");
const EC: &str = include_str!("keys/ec.pem");
const EC_PUBLIC: &str = include_str!("keys/ec.pub.pem");

fn verify(hash: &str, key: &str, signature: &[u8], text: &[u8]) -> (String, Vec<u8>) {
    let fields =
        [field(1, hash.as_bytes()), field(5, key.as_bytes()), field(3, signature), field(4, text)];
    answer("verify_signature", &fields.concat())
}

fn sign(hash: &str, key: &str, text: &[u8]) -> (String, Vec<u8>) {
    answer("sign", &[field(1, hash.as_bytes()), field(4, key.as_bytes()), field(3, text)].concat())
}

const VALID: &[u8] = &[0x08, 1];

fn error(number: u8, text: &str) -> Vec<u8> {
    let mut out = vec![number << 3 | 2, text.len() as u8];
    out.extend(text.as_bytes());
    out
}

#[test]
fn signatures_made_elsewhere_are_verified() {
    let rsa = |hash: &str, signature: &[u8]| verify(hash, RSA_PUBLIC, signature, b"hello");
    assert_eq!(rsa("sha1", include_bytes!("keys/rsa.sha1.sig")), ("0".to_owned(), VALID.to_vec()));
    assert_eq!(rsa("SHA512", include_bytes!("keys/rsa.sha512.sig")).1, VALID);
    let ec = include_bytes!("keys/ec.sha256.sig");
    assert_eq!(verify("sha256", EC_PUBLIC, ec, b"hello").1, VALID);
    let wrong = error(2, "Failed to verify digest. Error code: 0");
    assert_eq!(verify("sha256", EC_PUBLIC, ec, b"hallo"), ("0".to_owned(), wrong.clone()));
    assert_eq!(rsa("sha256", include_bytes!("keys/rsa.sha512.sig")).1, wrong);
}

#[test]
fn what_was_signed_is_verified() {
    for (hash, key, public) in [
        ("sha256", RSA, RSA_PUBLIC),
        ("sha384", RSA_PKCS1, RSA_PUBLIC),
        ("Sha512", RSA, RSA_PUBLIC),
        ("sha256", EC, EC_PUBLIC),
    ] {
        let (status, made) = sign(hash, key, b"some text");
        assert_eq!((status.as_str(), &made[..3]), ("0", &[0x08, 1, 0x12][..]), "{hash}");
        let signature = if made[3] & 0x80 == 0 { &made[4..] } else { &made[5..] };
        assert_eq!(verify(hash, public, signature, b"some text").1, VALID, "{hash}");
    }
}

#[test]
fn hashes_that_are_not_supported_are_answered_in_words() {
    assert_eq!(sign("md5", RSA, b"text"), ("0".to_owned(), error(3, "md5 is not supported.")));
    assert_eq!(sign("sha512", EC, b"text").1, error(3, "sha512 is not supported."));
    assert_eq!(verify("", RSA_PUBLIC, b"", b"").1, error(2, " is not supported."));
}

#[test]
fn keys_that_cannot_be_used_are_answered_in_words() {
    let unusable = error(2, "Failed to initialize digest verify.");
    for key in ["no key", RSA, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        assert_eq!(
            verify("sha256", key, b"", b"text"),
            ("0".to_owned(), unusable.clone()),
            "{key}"
        );
    }
    let unusable = error(3, "Invalid key type: private key required for signing operation.");
    for key in ["no key", RSA_PUBLIC] {
        assert_eq!(sign("sha256", key, b"text"), ("0".to_owned(), unusable.clone()), "{key}");
    }
}

#[test]
fn messages_without_one_key_or_that_are_none_are_bad_arguments() {
    let pem = field(5, RSA_PUBLIC.as_bytes());
    for arguments in [
        field(4, b"text"),
        [field(2, b"der"), pem.clone()].concat(),
        [field(1, b"\xff"), pem].concat(),
        vec![0x0a, 0x7f, 1],
        vec![0x0b],
        vec![0x08],
        vec![0x80; 20],
    ] {
        assert_eq!(answer("verify_signature", &arguments), ("2".to_owned(), vec![]));
    }
    for arguments in [&b""[..], &field(1, b"sha256"), &field(1, b"\xff"), b"\x0b", b"\x08"] {
        assert_eq!(answer("sign", arguments).0, "2");
    }
}

#[test]
fn filter_state_is_stored_under_its_plain_name() {
    let arguments =
        [field(1, b"envoy.tcp_proxy.cluster"), field(2, b"blue"), vec![0x18, 1]].concat();
    let mut host = Host::new(&callback(&calling("set_envoy_filter_state", &arguments)));
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said(), ["0"]);
    let state = host.stream().filter_state.get(b"envoy.tcp_proxy.cluster").unwrap().clone();
    assert_eq!((state.value(), state.declaration().kind), (&b"blue"[..], StateKind::String));
    assert_eq!(answer("set_envoy_filter_state", b"\x0a\x7f").0, "2");
}

#[test]
fn filter_state_without_an_exchange_is_not_found() {
    let host = Host::new(
        r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
            (call $say32 (call $proxy_call_foreign_function "set_envoy_filter_state"S "\0a\01k\12\01v"S OUT))
            (i32.const 1))"#,
    );
    assert_eq!(host.said(), ["1"]);
}

#[test]
fn a_declared_property_is_what_it_was_declared_to_be() {
    let set =
        |value: &str| format!(r#"(call $say32 (call $proxy_set_property "mark"S "{value}"S))"#);
    let declare = |arguments: &[u8]| calling("declare_property", arguments);
    let read_only = [field(1, b"mark"), vec![0x10, 1, 0x18, 1]].concat();
    let code = declare(&read_only) + &declare(&read_only) + &set("first") + &set("second");
    let ignored = "proxy_set_property ignored: the property is read-only";
    let mut host = check(&code, &["0", "2", "0", ignored, "0"]);
    let state = host.stream().filter_state.property(b"mark").unwrap().clone();
    assert_eq!((state.value(), state.declaration().kind), (&b"first"[..], StateKind::String));
    assert_eq!(host.record.violations(), ["proxy_set_property"]);
    assert_eq!(answer("declare_property", b"\x0b").0, "2");
    assert_eq!(answer("declare_property", &field(1, &[b'n'; 2000])).0, "2");
}

#[test]
fn clearing_the_route_cache_asks_for_another_selection() {
    let mut host = Host::new(&callback(&calling("clear_route_cache", b"")));
    host.run(Phase::RequestHeaders).unwrap();
    assert_eq!(host.said(), ["0"]);
    assert!(host.stream().route_cleared);

    let mut host = Host::new(&callback(&calling("clear_route_cache", b"")));
    host.stream().request_sent = true;
    host.run(Phase::RequestHeaders).unwrap();
    assert!(!host.stream().route_cleared);
    assert_eq!(host.record.violations(), ["proxy_call_foreign_function"]);
}
