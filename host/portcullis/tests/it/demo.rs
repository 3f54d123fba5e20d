//! `portcullis demo` as a process.

use std::process::{Command, Stdio};

use serde_json::Value;

#[test]
fn the_demo_keeps_its_promises_and_leaves_a_configuration_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.args(["demo", "-o", "json", "--folder"]).arg(folder.path()).stdin(Stdio::null());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["failed"], 0);
    assert_eq!(result["unmet_expectations"], 0);
    assert!(result["sent"].as_u64().unwrap() > 0, "{result}");

    let mut check = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    check.args(["check", "--rehearse", "-c"]).arg(folder.path());
    assert!(check.output().unwrap().status.success());
}
