//! Every attack a few times at a small scale, beside an honest client.

use std::path::Path;
use std::time::Duration;

use rocketmq_thin_proxy::app::App;
use rocketmq_thin_proxy::config::Config;
use soak::honest::{Honest, Work};
use soak::hostile::{Scale, attack};
use soak::server::descriptors;
use tokio::sync::oneshot;

const TIMES: usize = 3;
/// More than any of the proxy's timeouts that end a connection.
const AT_MOST: Duration = Duration::from_secs(60);

fn sockets() -> usize {
    descriptors(Path::new("/proc/self")).expect("this process").1
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_client_is_not_disturbed_and_every_connection_ends() {
    let data = tempfile::tempdir().expect("a directory");
    let mut config = Config { listen: "127.0.0.1:0".to_owned(), ..Config::default() };
    config.backend.embedded.data_dir = data.path().to_owned();
    let app = App::start(config).await.expect("a proxy");
    let address = app.address().expect("an address").to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(app.run(async {
        let _ = stopped.await;
    }));
    let before = sockets();

    let work = Work { topic: "honest".to_owned(), body: 4, pause: Duration::ZERO };
    let honest = Honest::start(&address, work).await.expect("a client");
    attack(&address, Scale::Small, TIMES).await;
    let report = honest.stop().await;
    assert_eq!((report.errors, report.first_error), (0, None));
    assert!(report.calls > 0);

    let ended = tokio::time::timeout(AT_MOST, async {
        while sockets() > before {
            tokio::task::yield_now().await;
        }
    });
    ended.await.expect("every connection ends");
    drop(stop);
    running.await.expect("an orderly end");
}
