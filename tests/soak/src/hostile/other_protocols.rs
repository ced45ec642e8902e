//! Attacks over the remoting protocol and HTTP.

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::Run;

/// A message of a batch without a body and properties: its length, magic, checksum, flag, and two lengths.
const EMPTY_MESSAGE: [u8; 22] = [0, 0, 0, 22, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl Run<'_> {
    /// Requests of classic clients that are small for what they ask for, and some that stop in the middle.
    pub(super) async fn classic(&self) -> Result<()> {
        let batch = EMPTY_MESSAGE.repeat(self.scale.of(500_000));
        let members = vec!["{}"; self.scale.of(1_000_000)].join(",");
        let heartbeat = format!(r#"{{"clientID":"hostile","consumerDataSet":[{members}]}}"#);
        let nested = "[".repeat(self.scale.of(1 << 20));
        for (header, body) in [
            (r#"{"code":320,"opaque":1,"extFields":{"a":"p","b":"hostile","e":"0","m":"true"}}"#, &batch[..]),
            (r#"{"code":34,"opaque":2}"#, heartbeat.as_bytes()),
            (r#"{"code":41,"opaque":3}"#, nested.as_bytes()),
        ] {
            self.exchange(&frame(header, body, body.len())).await?;
        }
        let mut stopped = Vec::new();
        for _ in 0..self.scale.of(100) {
            let mut stream = TcpStream::connect(self.address).await?;
            stream.write_all(&frame(r#"{"code":310,"opaque":4}"#, &[7; 1000], 15 << 20)).await?;
            stopped.push(stream);
        }
        sleep(self.scale.patience()).await;
        Ok(())
    }

    /// HTTP requests that are costly to read, or stop in the middle, and streams that nobody reads.
    pub(super) async fn http(&self) -> Result<()> {
        let nested = "[".repeat(self.scale.of(1 << 20));
        let tiny = vec![r#"{"text":""}"#; self.scale.of(100_000)].join(",");
        for body in [nested, format!("[{tiny}]")] {
            self.exchange(request(&body, body.len()).as_bytes()).await?;
        }
        let mut held = Vec::new();
        for number in 0..self.scale.of(100) {
            let mut stream = TcpStream::connect(self.address).await?;
            let events = format!(
                "GET /v1/groups/hostile-{number}/topics/slow/receive HTTP/1.1\r\nhost: h\r\naccept: text/event-stream\r\n\r\n"
            );
            let unfinished = request(r#"{"text":"#, 1 << 20);
            stream.write_all(if number % 2 == 0 { events } else { unfinished }.as_bytes()).await?;
            held.push(stream);
        }
        sleep(self.scale.patience()).await;
        Ok(())
    }

    /// Sends these bytes, and reads the beginning of the answer.
    async fn exchange(&self, bytes: &[u8]) -> Result<()> {
        let mut stream = TcpStream::connect(self.address).await?;
        // A connection that the proxy closes meanwhile is an answer, too.
        let _ = timeout(self.scale.patience(), stream.write_all(bytes)).await;
        let _ = timeout(self.scale.patience(), stream.read(&mut [0; 64])).await;
        Ok(())
    }
}

/// A frame of the remoting protocol that announces a body of `length` bytes.
fn frame(header: &str, body: &[u8], length: usize) -> Vec<u8> {
    let lengths = [4 + header.len() + length, header.len()];
    let lengths = lengths.map(|length| u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()).concat();
    [&lengths, header.as_bytes(), body].concat()
}

/// A send over HTTP that announces a body of `length` bytes.
fn request(body: &str, length: usize) -> String {
    format!(
        "POST /v1/topics/hostile/messages HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}
