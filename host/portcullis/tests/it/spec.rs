//! One document at a time: what is read, and what is wrong with it.

use portcullis::spec::{Contents, Home, Object, read};

/// Documents and problems of a text, each problem as `CODE line:column field`.
fn check(text: &str) -> (Contents, Vec<String>) {
    let contents = read(0, &"a.yaml".into(), &text.into(), &Home::default());
    let short = |problem: &portcullis::diagnose::Problem| {
        let place = problem.place.as_ref().unwrap();
        format!("{} {}:{} {}", problem.code, place.line, place.column, place.field)
            .trim_end()
            .to_owned()
    };
    let problems = contents.problems.iter().map(short).collect();
    (contents, problems)
}

fn filter(limits: &str) -> String {
    format!(
        "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {{name: f}}\n\
         spec: {{url: \"file://f.wasm\", limits: {{{limits}}}}}\n"
    )
}

fn limits(text: &str) -> Result<portcullis::spec::filter::FilterLimits, Vec<String>> {
    let (contents, problems) = check(&filter(text));
    match contents.documents[0].object.clone() {
        Some(Object::WasmFilter(spec)) => Ok(spec.limits),
        _ => Err(problems),
    }
}

#[test]
fn durations_follow_gep_2257() {
    let right = [
        ("250ms", 250),
        ("10s", 10_000),
        ("1m30s", 90_000),
        ("1h2m3s4ms", 3_723_004),
        ("99999h", 359_996_400_000),
        ("0s", 0),
        ("1s1s", 2000),
    ];
    for (text, millis) in right {
        let found = limits(&format!("callback: {text}")).unwrap();
        assert_eq!(found.callback.unwrap().get().as_millis(), millis, "{text}");
    }
    let wrong = [
        "10",
        "1.5s",
        "10 s",
        "-1s",
        "100000s",
        "1us",
        "1d",
        "s",
        "1h1h1h1h1h",
        "\"\"",
        "1S",
        "\"1s \"",
    ];
    for text in wrong {
        let found = limits(&format!("callback: {text}"));
        assert_eq!(found.unwrap_err(), ["P0104 4:49 spec.limits.callback"], "{text}");
    }
}

#[test]
fn sizes_are_kubernetes_quantities_of_whole_bytes() {
    let right = [
        ("1048576", 1 << 20),
        ("64Ki", 64 << 10),
        ("1Mi", 1 << 20),
        ("1.5Gi", 3 << 29),
        ("64k", 64_000),
        ("0.5k", 500),
        ("1e3", 1000),
        ("\"12\"", 12),
        ("0", 0),
    ];
    for (text, bytes) in right {
        assert_eq!(
            limits(&format!("memory: {text}")).unwrap().memory.unwrap().get(),
            bytes,
            "{text}"
        );
    }
    for text in
        ["64KB", "64ki", "1.5", "-1", "1 Mi", "0.3Ki", "Mi", "1.", "99999999999999999Ei", "\"\""]
    {
        let found = limits(&format!("memory: {text}"));
        assert_eq!(found.unwrap_err(), ["P0109 4:47 spec.limits.memory"], "{text}");
    }
}

#[test]
fn every_problem_of_an_object_is_found_and_not_only_the_first() {
    let (_, problems) = check(
        "apiVersion: portcullis.dev/v1alpha1
kind: Backend
metadata: {name: Bad, label: {}}
spec:
  protocl: HTTP
  endpoints:
  - {weight: heavy}
  - {address: 80, port: 1}
  - nonsense
  tls: [a]
",
    );
    let expected = [
        "P0111 3:18 metadata.name",
        "P0102 3:23 metadata.label",
        "P0102 5:3 spec.protocl",
        "P0108 7:5 spec.endpoints[0].address",
        "P0103 7:14 spec.endpoints[0].weight",
        "P0103 8:15 spec.endpoints[1].address",
        "P0102 8:19 spec.endpoints[1].port",
        "P0103 9:5 spec.endpoints[2]",
        "P0103 10:8 spec.tls",
    ];
    assert_eq!(problems, expected);
}

#[test]
fn a_document_that_cannot_be_read_hides_no_other() {
    let good = filter("");
    let (contents, problems) =
        check(&format!("{good}---\na: [1\n---\n{good}---\n\"open\n---\n{good}"));
    assert_eq!(contents.documents.len(), 3);
    assert!(contents.documents.iter().all(|document| document.object.is_some()));
    assert!(contents.incomplete);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems.iter().all(|problem| problem.starts_with("P0101")), "{problems:?}");
}

#[test]
fn texts_that_are_no_documents_are_refused_by_name() {
    let deep = format!("a: {}{}", "[".repeat(100), "]".repeat(100));
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs += &format!("a{level}: &a{level} [{aliases}]\n");
    }
    let cases = [
        ("", ""),
        ("# nothing\n---\n---\n", ""),
        ("just a text", "P0108 1:1 apiVersion"),
        ("apiVersion: v1\n", "P0108 1:1 kind"),
        ("apiVersion: v1\nkind: Secret\n", "P0107 2:7 kind"),
        ("apiVersion: portcullis.dev/v1\nkind: Proxy\n", "P0107 1:13 apiVersion"),
        ("a: 1\na: 2\n", "P0108 1:1 apiVersion P0112 2:1"),
        ("? [a]\n: 1\n", "P0103 1:3"),
        ("a: !secret x\n", "P0108 1:1 apiVersion P0110 1:4"),
        ("<<: {a: 1}\n", "P0110 1:1 P0108 1:1 apiVersion"),
        ("a:\n\t- b\n", "P0101 2:2"),
        ("a: *nowhere\n", "P0101 1:4"),
        (&deep, "P0113 1:67"),
        (&laughs, "P0113 5:45"),
    ];
    for (text, expected) in cases {
        let (contents, problems) = check(text);
        assert_eq!(problems.join(" "), expected, "{text}");
        assert!(contents.documents.is_empty(), "{text}");
    }
}

#[test]
fn json_and_anchors_are_read_like_any_other_document() {
    let json = r#"{"apiVersion": "portcullis.dev/v1alpha1", "kind": "Backend", "metadata": {"name": "b"},
                   "spec": {"protocol": "H2C", "endpoints": [{"address": "a:1"}, {"address": "b:2"}]}}"#;
    let anchors = "apiVersion: portcullis.dev/v1alpha1
kind: Backend
metadata: {name: b}
spec:
  protocol: H2C
  endpoints: [&first {address: \"a:1\"}, *first]
";
    for text in [json, anchors] {
        let (contents, problems) = check(text);
        assert_eq!(problems, Vec::<String>::new());
        let Some(Object::Backend(spec)) = &contents.documents[0].object else { panic!("{text}") };
        assert_eq!(spec.endpoints.len(), 2);
    }
}

#[test]
fn what_the_api_server_adds_is_ignored_but_for_the_age() {
    let (contents, problems) = check(
        "apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: r
  namespace: shop
  uid: 1b4e
  generation: 3
  resourceVersion: \"12\"
  creationTimestamp: \"2026-01-31T12:00:00Z\"
  managedFields: [{manager: kubectl}]
  annotations: {a: b}
  ownerReferences: []
spec: {hostnames: null}
status: {parents: [{anything: at all}]}
",
    );
    assert_eq!(problems, Vec::<String>::new());
    let document = &contents.documents[0];
    assert_eq!(document.key(), "shop/r");
    assert_eq!(document.created, Some(1_769_860_800));
}

#[test]
fn an_istio_plugin_has_istio_s_fields_and_no_others() {
    let (contents, problems) = check(
        "apiVersion: extensions.istio.io/v1alpha1
kind: WasmPlugin
metadata: {name: p}
spec:
  url: file://p.wasm
  phase: AUTHN
  failStrategy: FAIL_OPEN
  priority: -5
  pluginConfig: {list: [1, 2.5, true, null, text]}
  match: [{mode: CLIENT, ports: [{number: 80}]}]
  vmConfig: {env: [{name: A, value: b}], vmId: x}
  isolation: SHARED
",
    );
    assert_eq!(problems, ["P0102 11:42 spec.vmConfig.vmId", "P0102 12:3 spec.isolation"]);
    assert!(contents.documents[0].object.is_none());
}

#[test]
fn free_form_configuration_keeps_its_values() {
    let (contents, _) = check(
        "apiVersion: portcullis.dev/v1alpha1
kind: WasmFilter
metadata: {name: f}
spec:
  url: file://f.wasm
  pluginConfig: {list: [1, -2, 2.5, true, null, \"1\", yes, 0x10, ~], big: 18446744073709551615}
",
    );
    let Some(Object::WasmFilter(spec)) = &contents.documents[0].object else { panic!() };
    let expected = r#"{"big":18446744073709551615,"list":[1,-2,2.5,true,null,"1","yes",16,null]}"#;
    assert_eq!(spec.plugin_config.as_ref().unwrap().to_string(), expected);
}

#[test]
fn no_text_makes_the_reader_panic() {
    let good = format!(
        "{}---\n{{\"a\": [1, &x {{b: 'c'}}, *x, \"d\"]}}\n--- |\n text\n...\n",
        filter("callback: 1s, memory: 1Mi")
    );
    let signs = "\0\t\n {}[]:,-?&*!|>'\"%@`#<\u{85}\u{feff}\u{1f600}";
    for (at, replaced) in good.char_indices() {
        check(&good[..at]);
        for sign in signs.chars() {
            let rest = &good[at + replaced.len_utf8()..];
            check(&format!("{}{sign}{rest}", &good[..at]));
        }
    }
}

#[test]
fn a_text_full_of_mistakes_is_refused_with_a_bounded_number_of_problems() {
    let twice = "a: 1\n".repeat(50_000);
    let syntax = "---\na: [\n".repeat(5_000);
    let unknown: String = (0..20_000).map(|index| format!("  u{index}: 1\n")).collect();
    let unknown = format!(
        "{}{unknown}",
        filter("")
            .replace("spec: {", "spec:\n  limits: {")
            .replace("url: \"file://f.wasm\", limits: {}}", "}")
    );
    for text in [twice, syntax, unknown] {
        let (contents, problems) = check(&text);
        assert!((1..=250).contains(&problems.len()), "{}", problems.len());
        assert!(contents.documents.iter().all(|document| document.object.is_none()));
    }
}

#[test]
fn a_value_of_the_wrong_type_is_not_repeated() {
    let text = "apiVersion: portcullis.dev/v1alpha1\nkind: WasmFilter\nmetadata: {name: f}\n\
                spec: {url: \"file://f.wasm\", vmConfig: {env: [{name: PIN, value: 1234567890}]}}\n";
    let problems = read(0, &"f.yaml".into(), &text.into(), &Home::default()).problems;
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0].title, "expected a text, found a number");
    assert!(!problems[0].to_string().contains("1234567890"), "{}", problems[0]);
}
