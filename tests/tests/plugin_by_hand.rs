//! `flatnet` run by a person.

use std::process::{Command, Output};

use flatnet_tests::program;
use serde_json::json;

fn flatnet(args: &[&str]) -> Output {
    #[expect(clippy::disallowed_methods, reason = "a person runs programs")]
    let mut command = Command::new(program("flatnet"));
    command.args(args).env_remove("CNI_COMMAND").output().expect("run flatnet")
}

#[test]
fn check_config_names_every_problem_and_says_so_in_its_status() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("10-flatnet.conflist");
    let path = file.display().to_string();
    let list = |entry: serde_json::Value| json!({ "cniVersion": "1.0.0", "name": "n", "plugins": [entry] });
    std::fs::write(&file, list(json!({ "type": "flatnet", "mtu": 1500 })).to_string()).unwrap();
    let good = flatnet(&["check-config", &path]);
    assert!(good.status.success() && good.stderr.is_empty(), "{good:?}");
    std::fs::write(&file, list(json!({ "type": "flatnet", "subnet": [], "mtu": 5 })).to_string()).unwrap();
    let bad = flatnet(&["check-config", &path]);
    assert_eq!(bad.status.code(), Some(1));
    let said = String::from_utf8(bad.stderr).unwrap();
    assert!(said.contains("did you mean \"subnets\"?") && said.contains("mtu 5"), "{said}");
    assert_eq!(flatnet(&["check-config", "/nonexistent"]).status.code(), Some(1));
    assert_eq!(flatnet(&["check-config"]).status.code(), Some(2));
    let help = String::from_utf8(flatnet(&["--help"]).stdout).unwrap();
    assert!(help.contains("check-config FILE") && help.contains("loopback"), "{help}");
}
