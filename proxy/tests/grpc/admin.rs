//! The subcommands, against a running proxy.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use rocketmq_thin_proxy::front::grpc::RemoteAdmin;
use rocketmq_thin_proxy::front::port::TlsMode;

use crate::support::Proxy;

pub(crate) async fn run(proxy: &Proxy, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rocketmq-thin-proxy"));
    command.args(arguments).args(["--server", &proxy.address.to_string()]);
    let input = input.to_owned();
    let finished = tokio::task::spawn_blocking(move || {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary");
        child.stdin.take().expect("an input").write_all(input.as_bytes()).expect("written");
        child.wait_with_output().expect("an end")
    });
    finished.await.expect("a result")
}

pub(crate) fn text(output: &[u8]) -> &str {
    std::str::from_utf8(output).expect("UTF-8")
}

#[tokio::test]
async fn a_topic_is_created_listed_shown_and_deleted() {
    let proxy = Proxy::start().await;
    let create = ["topic", "create", "orders", "--type", "fifo", "--read-queues", "4", "--perm", "r"];
    let created = run(&proxy, &create, "").await;
    assert!(created.status.success(), "{}", text(&created.stderr));
    let again = run(&proxy, &create, "").await;
    assert!(!again.status.success());
    assert!(text(&again.stderr).starts_with("error: "), "{}", text(&again.stderr));
    let listed = run(&proxy, &["topic", "list"], "").await;
    let listed = text(&listed.stdout);
    assert!(listed.contains("orders  fifo  4            8             r"), "{listed}");
    let shown = run(&proxy, &["topic", "show", "orders"], "").await;
    let shown = text(&shown.stdout).to_owned();
    assert!(shown.contains("type = \"fifo\""), "{shown}");
    assert!(run(&proxy, &["topic", "delete", "orders"], "").await.status.success());
    assert!(!run(&proxy, &["topic", "show", "orders"], "").await.status.success());
    // What `show` prints is what `apply` reads.
    assert!(run(&proxy, &["apply", "-"], &shown).await.status.success());
    assert_eq!(text(&run(&proxy, &["topic", "show", "orders"], "").await.stdout), shown);
}

#[tokio::test]
async fn a_group_is_created_listed_shown_and_deleted() {
    let proxy = Proxy::start().await;
    let create = ["group", "create", "billing", "--fifo", "--max-retries", "3", "--no-consume"];
    assert!(run(&proxy, &create, "").await.status.success());
    let listed = run(&proxy, &["group", "list"], "").await;
    assert!(text(&listed.stdout).contains("billing  yes   no       3"), "{}", text(&listed.stdout));
    assert!(run(&proxy, &["group", "delete", "billing"], "").await.status.success());
    assert!(!run(&proxy, &["group", "delete", "billing"], "").await.status.success());
}

#[tokio::test]
async fn apply_creates_and_changes() {
    let proxy = Proxy::start().await;
    let file = r#"{"topics": [{"name": "t", "queues": 2}], "groups": [{"name": "g", "max_retries": 1}]}"#;
    let applied = run(&proxy, &["apply", "-"], file).await;
    assert_eq!(text(&applied.stdout), "applied 1 topic and 1 group\n", "{}", text(&applied.stderr));
    let changed = "[[groups]]\nname = 'g'\nmax_retries = 5\nretry = ['1s', '2500ms']";
    assert!(run(&proxy, &["apply", "-"], changed).await.status.success());
    let shown = run(&proxy, &["group", "show", "g"], "").await;
    let shown = text(&shown.stdout);
    assert!(shown.contains("max_retries = 5") && shown.contains("2s 500ms"), "{shown}");
    let misspelt = run(&proxy, &["apply", "-"], "[[topics]]\nname = 't'\nquees = 1").await;
    assert!(!misspelt.status.success());
    assert!(text(&misspelt.stderr).contains("quees"), "{}", text(&misspelt.stderr));
}

#[test]
fn an_answer_that_nobody_reads_is_no_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_rocketmq-thin-proxy"));
    let output = command.arg("--print-config").stdout(writer).output().expect("the binary");
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[tokio::test]
async fn what_a_command_lacks_is_named() {
    let proxy = Proxy::start().await;
    for (command, named) in [
        (&["message", "find", "t"][..], "<--id <ID>|--key <KEY>|--from <TIME>|--to <TIME>>"),
        (&["message", "show", "t"], "<--queue <N>|--id <ID>>"),
        (&["group", "reset", "g", "t"], "<--to <PLACE>|--offset <N>>"),
        (&["dlq", "resend", "g"], "<--id <ID>|--all>"),
        (&["dlq", "peek", "g"], "group g has no dead letters"),
    ] {
        let refused = run(&proxy, command, "").await;
        assert!(
            !refused.status.success() && text(&refused.stderr).contains(named),
            "{}",
            text(&refused.stderr)
        );
    }
}

#[tokio::test]
async fn an_absent_proxy_is_named() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rocketmq-thin-proxy"));
    command.args(["topic", "list", "--server", "127.0.0.1:1"]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("run").expect("output");
    assert!(!output.status.success());
    assert!(text(&output.stderr).contains("127.0.0.1:1"), "{}", text(&output.stderr));
}

#[tokio::test]
async fn administration_on_an_address_of_its_own_is_served_there_only() {
    let proxy = Proxy::configured(|config| config.admin_listen = Some("127.0.0.1:0".to_owned())).await;
    let admin_address = proxy.admin_address.expect("an address");
    let list = async |address: std::net::SocketAddr| {
        let mut admin = RemoteAdmin::connect(&address.to_string(), None, None).await.expect("a connection");
        admin.topics().await
    };
    let refused = list(proxy.address).await.expect_err("a refusal");
    assert!(refused.to_string().contains("Method not found"), "{refused}");
    assert!(list(admin_address).await.expect("an answer").is_empty());
    let mut messaging =
        crate::support::Client::connect(format!("http://{admin_address}")).await.expect("a connection");
    let beat = crate::support::request(rocketmq_thin_proto::v2::HeartbeatRequest::default());
    let refused = messaging.heartbeat(beat).await.expect_err("a refusal");
    assert_eq!(refused.code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn commands_may_use_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let proxy = Proxy::configured(|config| {
        config.tls.mode = TlsMode::Required;
        config.tls.certificate = Some(certificate.clone());
        config.tls.key = Some(key);
    })
    .await;
    let ca_file = certificate.to_str().expect("a path");
    let created = run(&proxy, &["topic", "create", "orders", "--ca-file", ca_file], "").await;
    assert!(created.status.success(), "{}", text(&created.stderr));
    let connect = async |server: &str| RemoteAdmin::connect(server, None, None).await.map(drop);
    let untrusted = connect(&format!("https://{}", proxy.address)).await.expect_err("a refusal").to_string();
    assert!(untrusted.contains("certificate"), "{untrusted}");
}
