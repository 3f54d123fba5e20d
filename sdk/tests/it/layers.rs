#[allow(
    clippy::print_stdout,
    reason = "a warning of the law is for whoever reads the test's output"
)]
#[path = "../../../host/layers.rs"]
mod law;

const RESERVED: law::Reserved = &[
    ("unsafe ", &["host"]),
    ("allow(unsafe_code", &["host"]),
    ("hostcalls::set_tick_period", &["sleep"]),
];

#[test]
fn a_module_imports_only_what_is_declared_below_it() {
    assert_eq!(law::breaches(env!("CARGO_MANIFEST_DIR"), RESERVED), Vec::<String>::new());
}
