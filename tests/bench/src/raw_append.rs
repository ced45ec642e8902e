//! The floor of a durable broker's throughput: tasks that hand messages to a thread, which appends all that wait to a file,
//! syncs it, and answers.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use futures::future::try_join_all;
use tokio::sync::{mpsc, oneshot};

use crate::Failure;
use crate::load::BODY;

/// Messages a second with so many in flight.
pub(crate) async fn rate(folder: &Path, messages: usize, in_flight: usize) -> Result<f64, Failure> {
    let mut file = File::create(folder.join("appended"))?;
    let (submit, mut submitted) = mpsc::channel::<oneshot::Sender<()>>(in_flight);
    let writer = std::thread::spawn(move || -> std::io::Result<()> {
        let body = [b'x'; BODY];
        let mut waiting = Vec::new();
        while submitted.blocking_recv_many(&mut waiting, in_flight) > 0 {
            file.write_all(&body.repeat(waiting.len()))?;
            file.sync_data()?;
            for answer in waiting.drain(..) {
                // The task waits for it.
                let _ = answer.send(());
            }
        }
        Ok(())
    });
    let begin = Instant::now();
    let tasks = (0..in_flight).map(|_| {
        let submit = submit.clone();
        tokio::spawn(async move {
            for _ in 0..messages / in_flight {
                let (reply, answer) = oneshot::channel();
                submit.send(reply).await?;
                answer.await?;
            }
            Ok::<_, Failure>(())
        })
    });
    for outcome in try_join_all(tasks).await? {
        outcome?;
    }
    let rate = messages as f64 / begin.elapsed().as_secs_f64();
    drop(submit);
    writer.join().map_err(|_| "the thread that appends panicked")??;
    Ok(rate)
}
