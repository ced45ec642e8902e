//! `--check-config`, and the example configurations.

use std::path::Path;
use std::process::Stdio;

use rocketmq_thin_proxy::app::App;
use rocketmq_thin_proxy::config::Config;
use tempfile::TempDir;
use tokio::process::Command;

/// Directories of examples that exist before a start, and those that a start makes.
const MADE_BEFORE: [&str; 2] = ["/etc/rocketmq-thin", "/var/log/rocketmq-thin"];
const MADE_BY_START: [&str; 2] = ["/var/lib/rocketmq-thin", "rocketmq-thin-data"];

/// What the checker says.
struct Checked {
    succeeds: bool,
    printed: String,
}

async fn check(file: &Path, flags: &[&str], variables: &[(&str, &str)]) -> Checked {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rocketmq-thin-proxy"));
    command.arg("--check-config").arg("--config").arg(file).args(flags).stdin(Stdio::null());
    let output = command.envs(variables.iter().copied()).output().await.expect("the binary");
    let printed = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() || output.status.code() == Some(1), "{}", output.status);
    Checked { succeeds: output.status.success(), printed }
}

async fn checked(text: &str, flags: &[&str]) -> Checked {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("proxy.toml");
    std::fs::write(&file, text).expect("written");
    check(&file, flags, &[]).await
}

/// Copies an example. Its files are in a folder of the test, and its ports are free ones.
fn example(name: &str) -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let mut text = std::fs::read_to_string(source).expect("the example");
    let inside = folder.path().to_str().expect("UTF-8");
    for place in MADE_BEFORE {
        text = text.replace(&format!("\"{place}/"), &format!("\"{inside}/"));
    }
    for place in MADE_BY_START {
        text = text.replace(&format!("\"{place}\""), &format!("\"{inside}/data\""));
    }
    let lines = text.lines().map(|line| match line.strip_prefix("listen = ") {
        Some(_) => "listen = \"127.0.0.1:0\"",
        None => line,
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(folder.path().join("proxy.crt"), made.cert.pem()).expect("written");
    std::fs::write(folder.path().join("proxy.key"), made.signing_key.serialize_pem()).expect("written");
    let file = folder.path().join(name);
    std::fs::write(&file, text).expect("written");
    (folder, file)
}

#[tokio::test]
async fn the_examples_have_no_mistakes_and_start() {
    for (name, entries) in [
        ("development.toml", vec![]),
        ("public.toml", vec!["public", "intranet"]),
        ("fleet.toml", vec!["intranet", "partners"]),
    ] {
        let (folder, file) = example(name);
        let checked = check(&file, &[], &[("ROCKETMQ_THIN_PROXY_HANDLE_KEY", "secret")]).await;
        assert!(
            checked.succeeds && checked.printed.contains("0 errors, 0 warnings"),
            "{name}: {}",
            checked.printed
        );
        let mut config = Config::read(&file).expect("a configuration");
        config.handle_key = Some("secret".to_owned());
        if let Some(users) = &config.access.file {
            // The binary does this before it starts.
            crate::access::offline(users, &["user", "add", "shop"]);
        }
        let app = App::start(config).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        for entry in entries {
            assert!(app.address_of(entry).expect("an address").is_some(), "{name}: {entry}");
        }
        app.run(async {}).await;
        drop(folder);
    }
}

#[tokio::test]
async fn all_mistakes_are_told_at_once_with_lines_and_remedies() {
    let text = "\
listen = '0.0.0.0'
drain = 10

[backend.embedded]
flash = 'sync'
retension = '3h'
handle_key = 'secret'

[tls]
certificate = 'proxy.crt'

[limits]
min_polling = '10s'
max_polling = '1s'

[[entries]]
name = 'metrics'
listen = '127.0.0.1:1'
protocols = ['smtp']

[[placement]]
cluster = 'payments'

[[access.issuers]]
issuer = 'https://login.example'
audiences = ['mq']
keys_file = 'nowhere.json'
algorithms = ['HS256', 'none', 'ES512']
leeway = '1d'

[[quotas]]
name = 'x'
per = 'user'
long_polls = 1

[[quotas]]
name = 'y'

[[quotas]]
name = 'x y'
per = 'client'
long_polls = 1
";
    let Checked { succeeds, printed } = checked(text, &[]).await;
    assert!(!succeeds);
    for (line, said, remedy) in [
        (1, "\"0.0.0.0\" is not a host and a port", "HOST:PORT"),
        (2, "drain: ", "\"30s\""),
        (5, "there is no setting flash", "write flush"),
        (6, "there is no setting retension", "write retention"),
        (7, "there is no setting handle_key", "top of the file"),
        (10, "certificate and key belong together", "add key"),
        (13, "above limits.max_polling", "raise limits.max_polling"),
        (19, "`smtp`", ""),
        (22, "there is no cluster payments", "add [backend.clusters.payments]"),
        (24, "no users that tokens could name", "set access.file"),
        (27, "nowhere.json: No such file", "JSON Web Key Set"),
        (28, "HS256 is not allowed", "RS256"),
        (28, "none is not allowed", "RS256"),
        (28, "\"ES512\" is not known", "RS256"),
        (29, "it is above one hour", ""),
        (31, "there are no users", ""),
        (36, "quotas[2]: it has no per", "add per"),
        (39, "quotas[3]: quota x y", ""),
    ] {
        let place = format!("proxy.toml:{line}: error: ");
        let mut lines = printed.lines().skip_while(|told| !(told.contains(&place) && told.contains(said)));
        assert!(lines.next().is_some(), "line {line}: {said} is not in\n{printed}");
        let told = lines.next().expect("a remedy");
        assert!(told.starts_with("    remedy: ") && told.contains(remedy), "{told}");
    }
}

#[tokio::test]
async fn warnings_let_a_proxy_start_and_flags_count() {
    let text = "[backend.embedded]\nretention = '1h'\n";
    let alone = checked(text, &[]).await;
    assert!(alone.succeeds && alone.printed.contains("0 errors, 0 warnings"), "{}", alone.printed);
    let before = checked(text, &["--name-server", "127.0.0.1:1"]).await;
    assert!(before.succeeds, "{}", before.printed);
    assert!(before.printed.contains("proxy.toml:1: warning: backend.embedded: "), "{}", before.printed);
    assert!(before.printed.contains("warning: handle_key: "), "{}", before.printed);
    let console = checked("[http]\nconsole = true\n", &[]).await;
    assert!(console.printed.contains("proxy.toml:2: warning: http.console: "), "{}", console.printed);
    let merged = checked("[access]\nbrokers = true\n", &[]).await;
    assert!(
        !merged.succeeds && merged.printed.contains("no Apache brokers are configured"),
        "{}",
        merged.printed
    );
    let open = "\
[access]
file = 'access.toml'

[[entries]]
name = 'open'
listen = '0.0.0.0:1'
access = 'off'
administration = true
";
    let open = checked(open, &[]).await;
    let exposed =
        "proxy.toml:8: warning: entries[1].administration: anyone who can reach this entry may administer";
    assert!(open.succeeds && open.printed.contains(exposed), "{}", open.printed);
    let unsigned = checked("[access]\nbrokers = true\n", &["--name-server", "127.0.0.1:1"]).await;
    assert!(
        !unsigned.succeeds && unsigned.printed.contains("set backend.remote.credentials"),
        "{}",
        unsigned.printed
    );
    let wrong = checked(text, &["--listen", "8081", "--log", "loud"]).await;
    assert!(!wrong.succeeds);
    for setting in ["listen", "log.level"] {
        let place = format!("error: {setting}: ");
        let line = wrong.printed.lines().find(|line| line.starts_with(&place));
        assert!(
            line.is_some_and(|line| line.ends_with("(from a flag or the environment)")),
            "{}",
            wrong.printed
        );
    }
}
