//! Classic clients that stop in the middle of a frame: they cost little, others are served, and they are closed.

use std::fs;
use std::time::Duration;

use rocketmq_thin_proxy::app::App;
use rocketmq_thin_proxy::config::Config;
use soak::honest::{Honest, Work};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

const CONNECTIONS: usize = 1000;
/// What each frame says that it has.
const LENGTH: u32 = 8 << 20;
/// Bytes of memory for one connection, both ends of which are in this process.
const MOST: u64 = 64 << 10;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// More than it takes until every connection is closed.
const AT_MOST: Duration = Duration::from_secs(60);

/// The resident memory of this process.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("this process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// The beginning of a frame with a JSON header, and a part of its body.
fn beginning() -> Vec<u8> {
    let header = br#"{"code":310,"opaque":1,"extFields":{"a":"p","b":"honest","e":"0","g":"1"}}"#;
    let lengths = [LENGTH, u32::try_from(header.len()).expect("short")].map(u32::to_be_bytes).concat();
    [&lengths[..], header, &[b'x'; 200]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_half_frames_cost_little_and_disturb_nobody() {
    let data = tempfile::tempdir().expect("a directory");
    let mut config = Config { listen: "127.0.0.1:0".to_owned(), ..Config::default() };
    config.backend.embedded.data_dir = data.path().to_owned();
    config.remoting.enabled = true;
    config.transport.request_timeout = REQUEST_TIMEOUT;
    let app = App::start(config).await.expect("a proxy");
    let address = app.address().expect("an address").to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(app.run(async {
        let _ = stopped.await;
    }));
    let work = Work { topic: "honest".to_owned(), body: 4, pause: Duration::from_millis(20) };
    let honest = Honest::start(&address, work).await.expect("a client");

    let (before, frame) = (resident(), beginning());
    let mut connections = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let mut connection = TcpStream::connect(&address).await.expect("a connection");
        // One byte at least, which tells the protocol, and never a whole header and body.
        let sent = &frame[..=number % (frame.len() - 1)];
        connection.write_all(sent).await.expect("the connection is open");
        connections.push(connection);
    }
    let ended = timeout(AT_MOST, async {
        for connection in &mut connections {
            // Closed, or reset.
            let _ = connection.read_to_end(&mut Vec::new()).await;
        }
    });
    let grown = resident().saturating_sub(before);
    ended.await.expect("every connection is closed");
    assert!(grown < MOST * CONNECTIONS as u64, "{grown} bytes for {CONNECTIONS} connections");

    let report = honest.stop().await;
    assert_eq!((report.errors, report.first_error), (0, None));
    assert!(report.calls > 0);
    drop(stop);
    running.await.expect("an orderly end");
}
