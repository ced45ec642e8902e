//! A relay between client and server that can stop passing bytes without closing anything.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

/// Forwards connections to one address. After [`freeze`](Self::freeze), existing connections pass no bytes; new ones work.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    freezes: Arc<watch::Sender<usize>>,
    frozen: Arc<Mutex<Vec<TcpStream>>>,
    _tasks: JoinSet<()>,
}

impl Relay {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let freezes = Arc::new(watch::Sender::new(0));
        let frozen = Arc::<Mutex<Vec<TcpStream>>>::default();
        let mut tasks = JoinSet::new();
        let (told, kept) = (freezes.clone(), frozen.clone());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let mut server = TcpStream::connect(server).await.unwrap();
                let mut told = told.subscribe();
                let kept = kept.clone();
                connections.spawn(async move {
                    let cut = tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => false,
                        _ = told.changed() => true,
                    };
                    if cut {
                        kept.lock().unwrap().extend([client, server]);
                    }
                });
            }
        });
        Self { address, freezes, frozen, _tasks: tasks }
    }

    /// Stops passing bytes over the existing connections. Waits until there are `connections` of them.
    pub(crate) async fn freeze(&self, connections: usize) {
        self.freezes.send_modify(|freezes| *freezes += 1);
        while self.frozen.lock().unwrap().len() < 2 * connections {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until the client has closed all frozen connections.
    pub(crate) async fn closed_by_client(&self) {
        let frozen = std::mem::take(&mut *self.frozen.lock().unwrap());
        for (at, mut stream) in frozen.into_iter().enumerate() {
            if at % 2 == 0 {
                let mut rest = Vec::new();
                // The client may close the connection or reset it.
                let _ = stream.read_to_end(&mut rest).await;
            }
        }
    }
}
