//! Tests of `store check` and `store copy`.

use std::fs;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::backend::embedded::broker::Broker;
use crate::backend::embedded::catalog::IfExists;
use crate::backend::embedded::config::EmbeddedConfig;
use crate::backend::embedded::reclaim;
use crate::backend::embedded::testing::{deliveries, flip_in, open as open_broker, send};
use crate::service::{Message, TopicConfig, TopicKind};

async fn broker(directory: &TempDir) -> Broker {
    let data_dir = directory.path().to_owned();
    open_broker(EmbeddedConfig { data_dir, default_queues: 1, ..EmbeddedConfig::default() }).await
}

/// Creates a directory with messages of this size, each in a chunk of its own. One of them is delivered.
async fn filled(count: usize, size: usize) -> TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = broker(&directory).await;
    for id in 0..count {
        let message = Message { id: id.to_string(), body: vec![7; size].into(), ..Message::default() };
        let deadline = Instant::now() + Duration::from_secs(30);
        broker.store_messages("topic", vec![message], deadline).await.expect("a send");
    }
    deliveries(&broker, 1).await;
    reclaim::flush(&broker.store.log().expect("open"), &broker.store).expect("written");
    broker.writer.stop();
    directory
}

/// Checks a directory after the writer thread has released it.
fn checked(directory: &TempDir) -> CheckReport {
    loop {
        match check(directory.path(), &mut |_, _| {}) {
            Err(OpenError::Running(_)) => std::thread::yield_now(),
            checked => return checked.expect("a report"),
        }
    }
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => drop(found.insert(path.clone(), fs::read(path).expect("readable"))),
        }
    }
    found
}

fn change(file: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).expect("readable");
    change(&mut bytes);
    fs::write(file, bytes).expect("writable");
}

fn first_file(directory: &TempDir, folder: &str) -> PathBuf {
    let folder = directory.path().join("log/keyspaces/1").join(folder);
    fs::read_dir(folder).expect("a folder").next().expect("a file").expect("readable").path()
}

#[tokio::test]
async fn a_sound_directory_is_read_whole_and_not_changed() {
    let directory = filled(3, 2_000).await;
    let report = checked(&directory);
    let before = files(directory.path());
    let again = checked(&directory);
    assert_eq!(before, files(directory.path()));
    assert!(report.findings.is_empty() && again.findings.is_empty(), "{:?}", report.findings);
    assert_eq!((report.topics, report.groups, report.messages, report.leases), (1, 1, 3, 1));
    assert!(report.bytes > 6_000);
}

#[tokio::test]
async fn a_proxy_does_not_start_without_a_part_of_its_catalog_but_starts_on_a_copy() {
    let directory = filled(1, 10).await;
    let stopped = broker(&directory).await;
    for number in 0..300 {
        let config = TopicConfig::new(format!("topic-{number:030}"), TopicKind::Normal, 1);
        stopped.catalog.put_topic(config, IfExists::Refuse).expect("a new topic");
    }
    reclaim::flush(&stopped.store.state().expect("open"), &stopped.store).expect("written");
    stopped.writer.stop();
    drop(stopped);
    flip_in(directory.path(), "state", "tables", |_| 6_000);
    let config = EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() };
    let refused = loop {
        match Broker::open(config.clone()).map(drop).expect_err("its catalog is damaged") {
            OpenError::InUse(_) => std::thread::yield_now(),
            refused => break refused,
        }
    };
    assert!(matches!(refused, OpenError::DamagedCatalog(..)), "{refused}");
    assert!(refused.to_string().contains("store check") && refused.to_string().contains("store copy"));
    let target = tempfile::tempdir().expect("a temporary directory");
    copy(directory.path(), target.path(), &mut |_, _| {}).expect("a copy");
    let topics = broker(&target).await.catalog.topics().len();
    assert!((100..301).contains(&topics), "{topics}");
}

#[tokio::test]
async fn a_damaged_message_is_named() {
    let directory = filled(9, 2_000).await;
    let file = first_file(&directory, "blobs");
    change(&file, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let report = checked(&directory);
    let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
    assert_eq!((finding.topic.as_deref(), finding.queue), (Some("topic topic"), Some(0)));
    assert_eq!((finding.first_offset, finding.last_offset), (Some(4), Some(4)));
    assert!(report.is_damaged());
    assert_eq!(report.messages, 8);
}

#[tokio::test]
async fn the_messages_of_a_damaged_block_are_named() {
    let directory = filled(300, 30).await;
    change(&first_file(&directory, "tables"), |bytes| bytes[6_000] ^= 1);
    let report = checked(&directory);
    let lost = report.findings.iter().find(|finding| finding.first_offset.is_some()).expect("lost messages");
    let (first, last) = (lost.first_offset.expect("an offset"), lost.last_offset.expect("an offset"));
    assert!(first > 0 && last < 299, "{lost:?}");
    assert_eq!(report.messages, 300 - (last - first + 1));
}

#[tokio::test]
async fn a_copy_has_what_can_be_read_and_goes_on_after_what_is_lost() {
    let directory = filled(300, 30).await;
    change(&first_file(&directory, "tables"), |bytes| bytes[6_000] ^= 1);
    checked(&directory);
    let (before, new) = (files(directory.path()), tempfile::tempdir().expect("a temporary directory"));
    let report = copy(directory.path(), &new.path().join("copy"), &mut |_, _| {}).expect("a copy");
    assert_eq!(before, files(directory.path()));
    assert!(report.found.is_damaged() && report.found.messages > 0, "{:?}", report.found.findings);
    let again =
        copy(directory.path(), &new.path().join("copy"), &mut |_, _| {}).expect_err("it is not empty");
    assert!(matches!(again, OpenError::NotEmpty(_)), "{again}");
    let copied = check(&new.path().join("copy"), &mut |_, _| {}).expect("a report");
    assert!(copied.findings.iter().all(|finding| finding.first_offset.is_some()), "{:?}", copied.findings);
    let counts = |report: &CheckReport| (report.topics, report.groups, report.messages, report.leases);
    assert_eq!(counts(&copied), counts(&report.found));

    let data_dir = new.path().join("copy");
    let broker =
        open_broker(EmbeddedConfig { data_dir, default_queues: 1, ..EmbeddedConfig::default() }).await;
    let mut received = 1;
    while received < report.found.messages {
        received += deliveries(&broker, 32).await.len() as u64;
    }
}

#[tokio::test]
async fn a_group_gets_what_takes_the_place_of_lost_messages() {
    let directory = filled(2, 2_000).await;
    let file = first_file(&directory, "blobs");
    change(&file, |bytes| {
        let last = bytes.len() * 3 / 4;
        bytes[last] ^= 1;
    });
    checked(&directory);
    {
        let state = open_state_in(&directory.path().join(STATE), 0).expect("open");
        // The group has consumed both messages.
        let (key, _) = state.iter().filter_map(|entry| entry.into_inner().ok()).last().expect("a lease");
        let mut batch = state.batch(fjall::PersistMode::SyncAll);
        batch.insert(&state, &key[..12], 2u64.to_be_bytes());
        batch.remove(&state, key);
        batch.commit().expect("written");
    }
    let new = tempfile::tempdir().expect("a temporary directory");
    let report = copy(directory.path(), new.path(), &mut |_, _| {}).expect("a copy");
    assert_eq!(report.found.messages, 1, "{:?}", report.found.findings);
    let data_dir = new.path().to_owned();
    let broker =
        open_broker(EmbeddedConfig { data_dir, default_queues: 1, ..EmbeddedConfig::default() }).await;
    send(&broker, ["new"]).await;
    let delivery = deliveries(&broker, 1).await.remove(0);
    assert_eq!((delivery.message.id.as_str(), delivery.queue_offset), ("new", 1));
}

#[tokio::test]
async fn an_interrupted_write_of_a_proxy_that_does_not_sync_is_no_damage() {
    for (flush, damaged) in [(Flush::Sync, true), (Flush::Async, false)] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let data_dir = directory.path().to_owned();
        let broker = open_broker(EmbeddedConfig { data_dir, flush, ..EmbeddedConfig::default() }).await;
        for body in [vec![1; 20_000], vec![2; 20_000], vec![3; 20]] {
            let message = Message { body: body.into(), ..Message::default() };
            let deadline = Instant::now() + Duration::from_secs(30);
            broker.store_messages("topic", vec![message], deadline).await.expect("a send");
        }
        broker.writer.stop();
        drop(broker);
        checked(&directory);
        let files = files(&directory.path().join(LOG)).into_keys();
        let mut journals = files.filter(|file| file.extension().is_some_and(|extension| extension == "jnl"));
        // The sectors of the second write did not reach the disk, though the third write did.
        change(&journals.next().expect("a journal"), |bytes| {
            let second = bytes.windows(100).position(|window| window == [2; 100]).expect("the message");
            let sector = second.next_multiple_of(4096);
            bytes[sector..sector + 8192].fill(0);
        });
        let report = checked(&directory);
        assert_eq!((report.findings.len(), report.is_damaged()), (1, damaged), "{:?}", report.findings);
    }
}

#[tokio::test]
async fn journals_are_checked() {
    let directory = filled(1, 10).await;
    let journal = || {
        let files = files(directory.path()).into_keys();
        let mut journals = files.filter(|file| file.starts_with(directory.path().join("state")));
        journals.find(|file| file.extension().is_some_and(|extension| extension == "jnl")).expect("a journal")
    };
    assert!(checked(&directory).findings.is_empty());
    let used = fs::read(journal()).expect("readable").iter().rposition(|byte| *byte != 0).expect("bytes");
    change(&journal(), |bytes| bytes.truncate(used - 2));
    let report = checked(&directory);
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    assert!(!report.is_damaged());
    change(&journal(), |bytes| bytes[40] ^= 1);
    let report = checked(&directory);
    assert!(report.is_damaged(), "{:?}", report.findings);
    assert!(report.findings.iter().any(|finding| finding.advice.contains("truncate --size=0")));
}

#[tokio::test]
async fn a_directory_in_use_is_refused_and_others_too() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let refused = check(directory.path(), &mut |_, _| {}).expect_err("nothing is there");
    assert!(matches!(refused, OpenError::NoData(_)), "{refused}");
    let _broker = broker(&directory).await;
    let refused = check(directory.path(), &mut |_, _| {}).expect_err("in use");
    assert!(matches!(refused, OpenError::Running(_)), "{refused}");
}
