//! The README's code is what runs.

use std::process::Command;

use crate::examples::example;

const README: &str = include_str!("../../README.md");
const EXAMPLE: &str = include_str!("../../examples/quickstart.rs");

#[test]
fn the_readmes_code_is_part_of_the_quickstart() {
    let code = README.split_once("```rust\n").and_then(|(_, rest)| rest.split_once("```")).unwrap().0;
    let (imports, body) = code.split_once("\n\n").unwrap();
    let indented = |line: &str| if line.is_empty() { String::new() } else { format!("    {line}") };
    let body: Vec<String> = body.trim_end().lines().map(indented).collect();
    assert!(EXAMPLE.contains(imports), "{imports}");
    assert!(EXAMPLE.contains(&body.join("\n")), "{}", body.join("\n"));
}

#[test]
fn the_quickstart_runs() {
    let Some(binary) = example("quickstart") else { return };
    let output = Command::new(binary).output().expect("the example runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (before, after) = text.split_once("now:").unwrap();
    assert!(before.contains("| price ") && !before.contains("nightly_price"), "{text}");
    assert!(after.contains("nightly_price"), "{text}");
}
