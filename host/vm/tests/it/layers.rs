#[path = "../../../layers.rs"]
mod law;

const RESERVED: law::Reserved = &[
    (
        "wasmtime::",
        &[
            "engine",
            "module",
            "cache",
            "instance",
            "hostcalls",
            "abi",
            "state",
            "plugin",
            "callbacks",
            "guest",
            "stream",
            "error",
        ],
    ),
    ("cel::", &["expression"]),
    ("use ring", &["hostcalls"]),
    ("unsafe ", &["cache"]),
    ("async ", &[]),
    ("std::net", &["state", "attributes"]),
    ("SystemTime::now", &[]),
    ("println!", &[]),
];

#[test]
fn a_module_imports_only_what_is_declared_below_it() {
    assert_eq!(law::breaches(env!("CARGO_MANIFEST_DIR"), RESERVED), Vec::<String>::new());
}
