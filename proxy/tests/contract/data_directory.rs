//! The embedded backend: directories that it refuses to open.

use std::fs;

use rocketmq_thin_proxy::backend::embedded::{EmbeddedConfig, OpenError, open};

fn in_directory(directory: &tempfile::TempDir) -> EmbeddedConfig {
    EmbeddedConfig { data_dir: directory.path().to_owned(), ..EmbeddedConfig::default() }
}

async fn refusal(directory: &tempfile::TempDir) -> OpenError {
    match open(in_directory(directory)).await {
        Ok(_) => panic!("it opened"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn a_directory_in_use_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let _first = open(in_directory(&directory)).await.expect("a fresh directory opens");
    let error = refusal(&directory).await;
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
    assert!(error.to_string().contains("in use"), "{error}");
}

#[tokio::test]
async fn a_directory_of_another_program_is_refused_and_not_changed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("holiday.jpg"), "sun").expect("a file");
    let error = refusal(&directory).await;
    assert!(matches!(error, OpenError::Foreign(_)), "{error}");
    assert_eq!(fs::read_dir(directory.path()).expect("readable").count(), 1);
}

#[tokio::test]
async fn another_format_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::write(directory.path().join("FORMAT"), "rocketmq-thin-proxy data, format 999\n").expect("a file");
    let error = refusal(&directory).await;
    assert!(matches!(error, OpenError::OtherFormat(..)), "{error}");
    assert!(error.to_string().contains("999"), "{error}");
}

#[tokio::test]
async fn a_damaged_directory_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let broker = open(in_directory(&directory)).await.expect("a fresh directory opens");
    broker.close().await;
    fs::write(directory.path().join("log").join("version"), "nonsense").expect("a file");
    let error = refusal(&directory).await;
    assert!(matches!(error, OpenError::Damaged(..) | OpenError::Io(..)), "{error}");
}

#[tokio::test]
async fn a_file_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("file");
    fs::write(&file, "x").expect("a file");
    let config = EmbeddedConfig { data_dir: file, ..EmbeddedConfig::default() };
    assert!(matches!(open(config).await, Err(OpenError::Io(..))));
}
