//! Applies changes of the placement rules in the configuration file.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::file_version::FileVersion;
use crate::processor::Processor;

/// How often the file is checked for changes, which take effect within this time.
const RELOAD_INTERVAL: Duration = Duration::from_secs(1);

/// The configuration file, and the version that was read last. If that version was invalid, older rules are in force.
pub(super) struct PlacementFile {
    path: PathBuf,
    last_read: FileVersion,
}

impl PlacementFile {
    /// The file that this configuration was read from. Returns `None` if there is no file, or only one cluster.
    pub(super) fn of(config: &Config) -> Option<Self> {
        let path = config.file.clone().filter(|_| !config.backend.clusters.is_empty())?;
        Some(Self { last_read: FileVersion::of(&path), path })
    }

    /// Applies changes until the proxy drains. If the file can't be read or is invalid, that is logged, and the previous rules
    /// stay in force.
    pub(super) async fn watch(mut self, processor: Arc<Processor>) {
        let draining = processor.draining().clone();
        let watching = async {
            loop {
                tokio::time::sleep(RELOAD_INTERVAL).await;
                let processor = processor.clone();
                let reload = move || {
                    self.reload(&processor);
                    self
                };
                // Blocking, because a disk may be slow.
                let Ok(this) = tokio::task::spawn_blocking(reload).await else { return };
                self = this;
            }
        };
        let _: Option<()> = draining.run_until_cancelled(watching).await;
    }

    fn reload(&mut self, processor: &Processor) {
        let version = FileVersion::of(&self.path);
        if version == self.last_read {
            return;
        }
        self.last_read = version;
        match read_rules(&self.path, processor) {
            Ok(rules) => tracing::info!(rules, "reloaded the placement rules"),
            Err(error) => {
                tracing::error!(%error, "failed to reload the placement rules, keeping the previous ones")
            }
        }
    }
}

/// Puts the rules of the file in force. Returns their number.
fn read_rules(path: &Path, processor: &Processor) -> Result<usize, String> {
    let rules = Config::read(path).map_err(|error| error.to_string())?.placement;
    let count = rules.len();
    processor.replace_placement(rules).map_err(|problem| format!("{}: {problem}", path.display()))?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::backend::embedded::{self, Embedded, EmbeddedConfig};
    use crate::context::Context;
    use crate::layer::{Layers, Quotas};
    use crate::processor::{
        AckCommand, AckEntry, ClusterRouter, Draft, Expression, HandleKey, Limits, ProcessorConfig,
        ReceiveCommand, Received, SendCommand, TopicName,
    };
    use crate::service::{TopicConfig, TopicKind};

    const CLUSTERS: &str =
        "[backend.remote]\nname_server = 'a:9876'\n[backend.clusters.new]\nname_server = 'b:9876'\n";
    const GROUPS: usize = 40;

    async fn broker(folder: &Path) -> Embedded {
        let config = EmbeddedConfig { data_dir: folder.to_owned(), ..EmbeddedConfig::default() };
        let broker = embedded::open(config).await.expect("a broker");
        let topic = TopicConfig::new("orders".to_owned(), TopicKind::Fifo, 1);
        broker.services().metadata.create_topic(topic, false).await.expect("a topic");
        broker
    }

    /// Sends one request with a message of each message group.
    async fn send(processor: &Processor, round: usize) {
        let draft = |group: usize| Draft {
            topic: TopicName { name: "orders".to_owned(), ..TopicName::default() },
            id: format!("{round}-{group}"),
            message_group: Some(group.to_string()),
            body: b"x".to_vec().into(),
            ..Draft::default()
        };
        let command = SendCommand { messages: (0..GROUPS).map(draft).collect(), types_unknown: false };
        let stored = processor.run(&Context::of_client("p"), command).await.expect("sent");
        let ids: Vec<_> = stored.into_iter().map(|stored| stored.expect("stored").message_id).collect();
        assert_eq!(ids, (0..GROUPS).map(|group| format!("{round}-{group}")).collect::<Vec<_>>());
    }

    async fn messages_in(broker: &Embedded) -> u64 {
        let stats = broker.services().administration.topic_stats("orders", None).await.expect("statistics");
        stats.queues.iter().map(|queue| queue.next.unsigned_abs()).sum()
    }

    #[tokio::test]
    async fn a_changed_file_moves_a_share_of_a_topic_and_consumers_get_all_messages() {
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let (old, new) = (broker(folders[0].path()).await, broker(folders[1].path()).await);
        let router = ClusterRouter::single(old.services()).add("new".to_owned(), new.services());
        let rules = ProcessorConfig { limits: Limits::default(), handle_key: HandleKey::new(b"secret") };
        let layers = Layers::new(100, Quotas::default(), None);
        let processor = Processor::new(router, rules, layers, CancellationToken::new());
        let path = folders[0].path().join("proxy.toml");
        let write = |rules: &str| std::fs::write(&path, format!("{CLUSTERS}{rules}")).expect("written");
        write("");
        let config = Config::read(&path).expect("a configuration");
        let mut file = PlacementFile::of(&config).expect("a file");

        send(&processor, 0).await;
        assert_eq!((messages_in(&old).await, messages_in(&new).await), (GROUPS as u64, 0));
        let rule =
            |percent| format!("[[placement]]\ntopic = 'orders'\ncluster = 'new'\npercent = {percent}\n");
        write(&rule(50));
        file.reload(&processor);
        send(&processor, 1).await;
        let moved = messages_in(&new).await;
        assert!((5..35).contains(&moved), "{moved}");
        // A file with a mistake changes nothing.
        write("[[placement]]\ncluster = 'unknown'\n");
        file.reload(&processor);
        send(&processor, 2).await;
        assert_eq!(messages_in(&new).await, 2 * moved);
        write(&rule(100));
        file.reload(&processor);
        send(&processor, 3).await;
        assert_eq!(messages_in(&new).await, 2 * moved + GROUPS as u64);

        let mut received = BTreeSet::new();
        while received.len() < 4 * GROUPS {
            for id in receive(&processor).await {
                assert!(received.insert(id.clone()), "{id} was received again");
            }
        }
        for broker in [old, new] {
            broker.close().await;
        }
    }

    async fn receive(processor: &Processor) -> Vec<String> {
        let context = Context::of_client("c");
        let command = ReceiveCommand {
            topic: "orders".to_owned(),
            group: "g".to_owned(),
            broker: None,
            expression: Expression::Tags("*".to_owned()),
            batch_size: 32,
            invisible_ms: 60_000,
            auto_renew: false,
            polling_ms: Some(5_000),
            attempt_id: None,
        };
        let Received::Messages(leased) = processor.run(&context, command).await.expect("received") else {
            return Vec::new();
        };
        let entries = leased.iter().map(|leased| AckEntry {
            handle: leased.handle.clone(),
            message_id: leased.delivery.message.id.clone(),
            lite_topic: None,
        });
        let command =
            AckCommand { topic: "orders".to_owned(), group: "g".to_owned(), entries: entries.collect() };
        let results = processor.run(&context, command).await.expect("acknowledged");
        assert_eq!(results.len(), leased.len());
        leased.into_iter().map(|leased| leased.delivery.message.id).collect()
    }
}
