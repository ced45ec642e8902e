//! The cases about users and their rights, replayed against our proxy with these users.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tokio::{fs, io::AsyncWriteExt, process::Command};

use crate::{
    Place, Tally,
    install::source,
    text,
    transcripts::{self, Record, Replayer},
};

/// The users of the cases.
#[derive(Deserialize)]
struct Setup {
    users: Vec<User>,
}

#[derive(Deserialize)]
struct User {
    name: String,
    secret: String,
    #[serde(default, rename = "super")]
    is_super: bool,
    #[serde(default)]
    disabled: bool,
    /// Each is a resource and its actions, and optionally a network and an effect.
    #[serde(default)]
    policies: Vec<Vec<String>>,
}

/// Replays the matching cases and prints the differences.
pub(crate) async fn replay(
    replayer: &Replayer,
    place: &Place<'_>,
    (cache, case): (&Path, &str),
) -> Result<Tally> {
    let folder = cache.join("access");
    if folder.exists() {
        fs::remove_dir_all(&folder).await?;
    }
    fs::create_dir_all(&folder).await?;
    let setup: Setup = serde_json::from_str(&fs::read_to_string(source("transcripts/access.json")).await?)?;
    let users = Users { program: place.program(), file: folder.join("access.toml") };
    for user in &setup.users {
        users.add(user).await?;
    }
    let config = folder.join("proxy.toml");
    // The cases send more wrong signatures than a client may.
    fs::write(&config, "[access]\nfailures_per_minute = 0\n").await?;
    let flags = [
        ("--config", config.display().to_string()),
        ("--access-file", users.file.display().to_string()),
        ("--auto-create-topics", "true".to_owned()),
    ];
    let flags: Vec<_> = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
    transcripts::replay(replayer, place, &Record { name: Some("--access"), flags: &flags, case }).await
}

/// The file of users.
struct Users<'a> {
    program: &'a Path,
    file: PathBuf,
}

impl Users<'_> {
    async fn add(&self, user: &User) -> Result<()> {
        let User { name, secret, is_super, disabled, policies } = user;
        let kind = if *is_super { &["--super"][..] } else { &[] };
        self.run(&[&["user", "add", name, "--secret-stdin"], kind].concat(), secret).await?;
        for policy in policies {
            let [resource, actions, conditions @ ..] = policy.as_slice() else { continue };
            let mut arguments = vec!["acl", "add", name, resource, actions];
            if let Some(network) = conditions.first().filter(|network| !network.is_empty()) {
                arguments.extend(["--from", network]);
            }
            if conditions.get(1).is_some_and(|effect| effect == "deny") {
                arguments.push("--deny");
            }
            self.run(&arguments, "").await?;
        }
        if *disabled {
            self.run(&["user", "disable", name], "").await?;
        }
        Ok(())
    }

    async fn run(&self, arguments: &[&str], input: &str) -> Result<()> {
        let mut command = Command::new(self.program);
        command.args(arguments).arg("--access-file").arg(&self.file);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("starting the proxy's command")?;
        child.stdin.take().context("no stdin")?.write_all(input.as_bytes()).await?;
        let output = child.wait_with_output().await?;
        ensure!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        Ok(())
    }
}
