#[path = "../../../layers.rs"]
mod law;

const RESERVED: law::Reserved = &[
    ("clap::", &["cli"]),
    ("hyper::", &["admin", "cli", "fetch"]),
    ("kube::", &["cluster"]),
    ("saphyr_parser", &["spec"]),
    (" ring::", &["signature"]),
    ("println!", &["cli", "term"]),
    ("libmimalloc_sys", &["memory"]),
    ("unsafe ", &["memory"]),
];

#[test]
fn a_module_imports_only_what_is_declared_below_it() {
    assert_eq!(law::breaches(env!("CARGO_MANIFEST_DIR"), RESERVED), Vec::<String>::new());
}
