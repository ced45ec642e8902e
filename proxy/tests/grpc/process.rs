//! The binary as an operator runs it.

use std::path::Path;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};

fn command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rocketmq-thin-proxy"));
    command.args(["--listen", "127.0.0.1:0", "--data-dir"]).arg(data).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

async fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let output = child.stdout.take().expect("an output");
    BufReader::new(output).read_line(&mut line).await.expect("a line");
    line
}

async fn terminate(mut child: Child) -> ExitStatus {
    let id = child.id().expect("an id").to_string();
    let sent = Command::new("kill").args(["-TERM", &id]).status().await.expect("kill");
    assert!(sent.success());
    child.wait().await.expect("an end")
}

#[tokio::test]
async fn it_says_where_it_listens_and_ends_in_order_when_asked() {
    let data = tempfile::tempdir().expect("a directory");
    let mut child = command(data.path(), &[]).spawn().expect("the binary");
    let line = first_line(&mut child).await;
    let address = line.strip_prefix("listening on 127.0.0.1:").expect("the announcement").trim();
    assert_ne!(address.parse::<u16>().expect("a port"), 0);
    assert!(terminate(child).await.success());
}

#[tokio::test]
async fn the_first_user_is_told_beside_the_address() {
    let data = tempfile::tempdir().expect("a directory");
    let folder = tempfile::tempdir().expect("a directory");
    let file = folder.path().join("access.toml");
    let path = file.to_str().expect("UTF-8");
    let mut child = command(data.path(), &["--access-file", path]).spawn().expect("the binary");
    let mut told = String::new();
    let errors = child.stderr.as_mut().expect("an error output");
    BufReader::new(errors).read_line(&mut told).await.expect("a line");
    assert!(told.contains("access key admin, secret key "), "{told}");
    assert!(first_line(&mut child).await.starts_with("listening on "));
    assert!(terminate(child).await.success());
}

#[tokio::test]
async fn a_second_process_on_the_same_directory_is_refused() {
    let data = tempfile::tempdir().expect("a directory");
    let mut first = command(data.path(), &[]).spawn().expect("the binary");
    assert!(first_line(&mut first).await.starts_with("listening on "));
    let second = command(data.path(), &[]).output().await.expect("the binary");
    assert!(!second.status.success());
    let complaint = String::from_utf8(second.stderr).expect("UTF-8");
    assert!(complaint.starts_with("error: ") && complaint.contains("another process"), "{complaint}");
    assert!(terminate(first).await.success());
}

#[tokio::test]
async fn a_misspelt_setting_is_named() {
    let data = tempfile::tempdir().expect("a directory");
    let file = data.path().join("proxy.toml");
    std::fs::write(&file, "[backend.embedded]\nflash = 'sync'\n").expect("written");
    let path = file.to_str().expect("UTF-8");
    let mut child = command(data.path(), &["--config", path]).spawn().expect("the binary");
    let mut complaint = String::new();
    let errors = child.stderr.as_mut().expect("an error output");
    errors.read_to_string(&mut complaint).await.expect("a complaint");
    assert!(!child.wait().await.expect("an end").success());
    assert!(complaint.contains("proxy.toml") && complaint.contains("flash"), "{complaint}");
}

#[tokio::test]
async fn the_printed_configuration_is_what_the_environment_and_the_flags_make_it() {
    let data = tempfile::tempdir().expect("a directory");
    let mut command = command(data.path(), &["--print-config", "--log", "info"]);
    command.env("ROCKETMQ_THIN_PROXY_AUTO_CREATE_TOPICS", "false").env("ROCKETMQ_THIN_PROXY_LOG", "error");
    let printed = command.output().await.expect("the binary");
    let printed = String::from_utf8(printed.stdout).expect("UTF-8");
    for setting in ["listen = \"127.0.0.1:0\"", "auto_create_topics = false", "level = \"info\""] {
        assert!(printed.contains(setting), "{setting} is not in\n{printed}");
    }
}

#[tokio::test]
async fn the_log_level_is_changed_while_it_runs() {
    let data = tempfile::tempdir().expect("a directory");
    let mut child = command(data.path(), &["--log", "error"]).spawn().expect("the binary");
    let line = first_line(&mut child).await;
    let address = line.strip_prefix("listening on ").expect("the announcement").trim();
    let mut log_level = Command::new(env!("CARGO_BIN_EXE_rocketmq-thin-proxy"));
    let changed =
        log_level.args(["log-level", "debug", "--server", address]).output().await.expect("the binary");
    assert!(changed.status.success(), "{}", String::from_utf8_lossy(&changed.stderr));
    // This call is logged.
    let again = log_level.output().await.expect("the binary");
    assert!(again.status.success());
    let mut errors = child.stderr.take().expect("an error output");
    assert!(terminate(child).await.success());
    let mut log = String::new();
    errors.read_to_string(&mut log).await.expect("UTF-8");
    assert!(log.contains("DEBUG"), "{log}");
}
