//! The commands of the README's section on HTTP run as they are printed.

use tokio::process::Command;

use serde_json::Value;

use crate::http::proxy;

/// The address in the README, which stands for the proxy's.
const ADDRESS: &str = "127.0.0.1:8081";

/// The commands in a section of a Markdown text.
fn commands(text: &str, section: &str) -> Vec<String> {
    let (_, section) = text.split_once(&format!("\n## {section}\n")).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks
        .flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

#[tokio::test]
async fn the_readme_shows_what_works() {
    let proxy = proxy().await;
    let commands = commands(include_str!("../../README.md"), "HTTP");
    assert!(commands.len() >= 4, "{commands:?}");
    let mut handle = String::new();
    for command in commands {
        let line = command.replace(ADDRESS, &proxy.address.to_string()).replace("HANDLE", &handle);
        // A stream has no end.
        let line = line.replace("curl ", "curl --silent --show-error --fail-with-body --max-time 20 ");
        let output =
            Command::new("sh").args(["-c", &line]).output().await.expect("sh, and curl 7.82 or later");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}: {text} {}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if let Some(received) = answer["messages"][0]["handle"].as_str() {
            handle = received.to_owned();
        }
        if let Some(results) = answer["results"].as_array() {
            assert!(results.iter().all(|result| result["done"] == true), "{command}: {text}");
        }
    }
    assert!(!handle.is_empty());
}
