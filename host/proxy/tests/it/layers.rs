#[path = "../../../layers.rs"]
mod law;

const RESERVED: law::Reserved = &[
    ("hyper::", &["worker", "serve", "exchange", "upstream", "error", "reply"]),
    ("rustls::", &["tls", "identity", "snapshot"]),
    ("Deserialize", &[]),
    ("unsafe ", &[]),
    ("std::fs", &["observe"]),
    ("println!", &[]),
];

#[test]
fn a_module_imports_only_what_is_declared_below_it() {
    assert_eq!(law::breaches(env!("CARGO_MANIFEST_DIR"), RESERVED), Vec::<String>::new());
}
