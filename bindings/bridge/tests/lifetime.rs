//! Operations end when the runtime of the process stops. Uses real sockets.

use std::net::TcpListener;
use std::sync::mpsc::channel;
use std::time::Duration;

use rocketmq_thin_bridge::{ClientOptions, ErrorKind, Outcome, Queue, connect, run, shutdown};

const HOUR: Duration = Duration::from_secs(3600);

/// One test, because a shutdown applies to the whole process.
#[test]
fn operations_end_when_the_runtime_does() {
    let unused_address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options = ClientOptions::new(unused_address.to_string()).startup_timeout(Duration::from_millis(200));
    assert_eq!(failure(run(connect(options).unwrap())), ErrorKind::Unavailable);

    // Accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = ClientOptions::new(silent.local_addr().unwrap().to_string())
        .startup_timeout(HOUR)
        .request_timeout(HOUR)
        .operation_timeout(HOUR);
    let (woken, wakes) = channel();
    let queue = Queue::new(move || woken.send(()).unwrap()).unwrap();
    let waiting = queue.submit(connect(options).unwrap()).unwrap();

    shutdown(HOUR);
    wakes.recv().unwrap();
    let (id, outcome) = queue.drain(10).pop().unwrap();
    assert_eq!((id, failure(outcome)), (waiting, ErrorKind::Closed));

    let late = queue.submit(connect(ClientOptions::default()).unwrap()).unwrap();
    wakes.recv().unwrap();
    let (id, outcome) = queue.drain(10).pop().unwrap();
    assert_eq!((id, failure(outcome)), (late, ErrorKind::Closed));
    assert_eq!(failure(run(connect(ClientOptions::default()).unwrap())), ErrorKind::Closed);
}

fn failure(outcome: Outcome) -> ErrorKind {
    match outcome {
        Outcome::Failed(error) => error.kind(),
        _ => panic!("the operation succeeded"),
    }
}
