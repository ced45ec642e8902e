//! The metrics that Prometheus scrapes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use rocketmq_thin_proto::v2 as pb;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::classic::{Classic, code as classic_code, send as classic_send};
use crate::support::{
    Proxy, ack, code, duration, handle, message, receive, receive_request, request, resource, send,
};

/// The result of a scrape: values by series, such as `name{label="value"}`.
#[derive(Debug)]
pub(crate) struct Scraped(BTreeMap<String, f64>);

impl Scraped {
    pub(crate) fn value(&self, series: &str) -> f64 {
        *self.0.get(series).unwrap_or_else(|| panic!("{series} is not among {:#?}", self.0.keys()))
    }

    /// The series of a metric.
    fn series(&self, name: &str) -> Vec<&str> {
        let of = |series: &&str| series.split('{').next() == Some(name);
        self.0.keys().map(String::as_str).filter(of).collect()
    }

    /// Reads the text format, and checks its rules: each metric has a help and a type before its samples, all its samples are
    /// together, no series comes twice, and buckets of histograms are sums.
    fn parse(text: &str) -> Self {
        let (mut values, mut metrics, mut metric) =
            (BTreeMap::new(), BTreeSet::new(), (String::new(), String::new()));
        let mut helped = "";
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').expect("a help");
                assert!(!help.is_empty() && is_name(name), "{line}");
                helped = name;
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                assert!(helped == name && metrics.insert(name), "{line}");
                metric = (name.to_owned(), kind.to_owned());
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
                let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
                let suffix =
                    name.strip_prefix(metric.0.as_str()).unwrap_or_else(|| panic!("{line} in {metric:?}"));
                let suffixes: &[_] = match metric.1.as_str() {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    "counter" => &["", "_total"],
                    _ => &[""],
                };
                assert!(suffixes.contains(&suffix), "{line}");
                check_labels(labels);
                let value = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
                assert!(values.insert(series.to_owned(), value).is_none(), "twice: {line}");
            }
        }
        let scraped = Self(values);
        scraped.check_histograms();
        scraped
    }

    fn check_histograms(&self) {
        // The position of this label differs between the formats.
        let without = |series: &str| {
            let series = series.replace("le=\"+Inf\",", "").replace(",le=\"+Inf\"", "");
            series.replace("{le=\"+Inf\"}", "").replacen("_bucket", "_count", 1)
        };
        for (series, count) in self.0.iter().filter(|(series, _)| series.contains("le=\"+Inf\"")) {
            assert_eq!(self.value(&without(series)), *count);
        }
    }
}

fn is_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(legal) && !name.starts_with(|first: char| first.is_ascii_digit())
}

/// Labels of a sample, up to the bracket that closes them.
fn check_labels(mut rest: &str) {
    while rest != "}" {
        let (name, value) = rest.split_once("=\"").expect("a label");
        assert!(is_name(name), "{rest}");
        let mut escaped = false;
        let end = value.find(|next: char| {
            let ends = next == '"' && !escaped;
            escaped = next == '\\' && !escaped;
            ends
        });
        rest = &value[end.expect("a quote") + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

/// Sends a request, and returns the head and the body of the answer.
async fn http(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

pub(crate) async fn scrape(proxy: &Proxy) -> Scraped {
    let address = proxy.metrics_address.expect("an address");
    let (head, body) = http(address, "GET /metrics HTTP/1.1\r\nhost: proxy\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("text/plain; version=0.0.4"), "{head}");
    Scraped::parse(&body)
}

async fn measured(max_series: usize) -> Proxy {
    Proxy::configured(|config| {
        config.metrics.listen = Some("127.0.0.1:0".to_owned());
        config.metrics.max_series = max_series;
    })
    .await
}

#[tokio::test]
async fn requests_of_both_protocols_are_counted() {
    let proxy = measured(10).await;
    let mut client = proxy.client().await;
    send(&mut client, vec![message("orders", "1", "four"), message("orders", "2", "five!")]).await;
    let mut classic = Classic::connect(proxy.address).await;
    let sent = classic.call(classic_send("orders", 0, &[], "classic")).await;
    assert_eq!(sent.code, classic_code::SUCCESS, "{:?}", sent.remark);
    let refused = send(&mut client, vec![message("no topic!", "3", "x")]).await;
    assert_eq!(code(refused.status), pb::Code::IllegalTopic);
    let received = receive(&mut client, receive_request("orders", "billing")).await.messages;
    let extend = pb::ChangeInvisibleDurationRequest {
        group: resource("billing"),
        topic: resource("orders"),
        receipt_handle: handle(&received[0]),
        invisible_duration: duration(Duration::from_secs(60)),
        ..Default::default()
    };
    let extended = client.change_invisible_duration(request(extend)).await.expect("an answer").into_inner();
    assert_eq!(code(extended.status), pb::Code::Ok);
    ack(&mut client, ["orders", "billing"], &[&extended.receipt_handle]).await;

    let scraped = scrape(&proxy).await;
    let requests = |labels: &str| scraped.value(&format!("rocketmq_thin_proxy_requests_total{{{labels}}}"));
    assert_eq!(requests(r#"operation="send",protocol="grpc",code="ok""#), 1.0);
    assert_eq!(requests(r#"operation="send",protocol="grpc",code="illegal_topic""#), 1.0);
    assert_eq!(requests(r#"operation="send",protocol="remoting",code="ok""#), 1.0);
    assert_eq!(requests(r#"operation="acknowledge",protocol="grpc",code="ok""#), 1.0);
    let grpc_sends = r#"{operation="send",protocol="grpc"}"#;
    for (name, expected) in [
        ("messages_in_total", 2.0),
        ("message_bytes_in_total", 9.0),
        ("request_duration_seconds_count", 2.0),
        ("requests_in_flight", 0.0),
    ] {
        assert_eq!(scraped.value(&format!("rocketmq_thin_proxy_{name}{grpc_sends}")), expected, "{name}");
    }
    let out = r#"rocketmq_thin_proxy_messages_out_total{operation="receive",protocol="grpc"}"#;
    assert_eq!(scraped.value(out), received.len() as f64);
    for (name, operation) in [("deliveries_settled", "acknowledge"), ("leases_changed", "change_invisible")] {
        let name = format!("rocketmq_thin_proxy_{name}_total");
        let expected = format!(r#"{name}{{operation="{operation}",protocol="grpc"}}"#);
        assert_eq!((scraped.series(&name), scraped.value(&expected)), (vec![&*expected], 1.0));
    }
    assert_eq!(scraped.value(r#"rocketmq_thin_proxy_connections{port="main"}"#), 2.0);
    assert_eq!(scraped.value(r#"rocketmq_thin_proxy_cluster_up{cluster="default"}"#), 1.0);

    let of_topic = r#"{topic="orders"}"#;
    assert_eq!(scraped.value(&format!("rocketmq_thin_proxy_topic_messages{of_topic}")), 3.0);
    assert_eq!(scraped.value(&format!("rocketmq_thin_proxy_topic_messages_stored_total{of_topic}")), 3.0);
    let of_group = r#"{group="billing",topic="orders"}"#;
    assert_eq!(scraped.value(&format!("rocketmq_thin_proxy_group_lag_messages{of_group}")), 2.0);
    let leased = received.len() as f64 - 1.0;
    assert_eq!(scraped.value(&format!("rocketmq_thin_proxy_group_in_flight_messages{of_group}")), leased);
    assert!(scraped.value("rocketmq_thin_proxy_store_write_duration_seconds_count") >= 2.0);
    assert_eq!(scraped.value("rocketmq_thin_proxy_store_writable"), 1.0);
    assert!(scraped.value("process_resident_memory_bytes") > 0.0);
}

#[tokio::test]
async fn many_topics_share_a_series() {
    let proxy = measured(2).await;
    let mut client = proxy.client().await;
    for (topic, messages) in [("a", 1), ("b", 3), ("c", 2), ("d", 1)] {
        for number in 0..messages {
            send(&mut client, vec![message(topic, &number.to_string(), "x")]).await;
        }
    }
    let scraped = scrape(&proxy).await;
    let series = scraped.series("rocketmq_thin_proxy_topic_messages");
    assert_eq!(series.len(), 3, "{series:?}");
    for (topic, messages) in [("b", 3.0), ("c", 2.0), ("(other)", 2.0)] {
        assert_eq!(
            scraped.value(&format!("rocketmq_thin_proxy_topic_messages{{topic=\"{topic}\"}}")),
            messages
        );
    }
}

#[tokio::test]
async fn openmetrics_are_sent_if_the_request_accepts_them() {
    let proxy = measured(10).await;
    let address = proxy.metrics_address.expect("an address");
    let accept = "accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2";
    let request = format!("GET /metrics HTTP/1.1\r\nhost: proxy\r\n{accept}\r\n\r\n");
    let (head, body) = http(address, &request).await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    Scraped::parse(&body);
}

#[tokio::test]
async fn stalled_peers_do_not_block_others() {
    let proxy = measured(10).await;
    let address = proxy.metrics_address.expect("an address");
    let mut stopped = Vec::new();
    for number in 0..100 {
        let mut stream = TcpStream::connect(address).await.expect("a connection");
        let begun: &[u8] = match number % 3 {
            0 => b"",
            1 => b"GET /metr",
            // The peer does not read the answer.
            _ => b"GET /metrics HTTP/1.1\r\nhost: proxy\r\n\r\n",
        };
        // The proxy may have closed it already.
        let _ = stream.write_all(begun).await;
        stopped.push(stream);
    }
    let open = scrape(&proxy).await.value(r#"rocketmq_thin_proxy_connections{port="metrics"}"#);
    assert!(open <= 16.0 + 64.0, "{open}");
}

/// The names in a PromQL query that can only be metrics.
fn metrics_in(query: &str) -> impl Iterator<Item = &str> {
    let words = query.split(|next: char| !next.is_ascii_alphanumeric() && next != '_');
    words.filter(|word| word.starts_with("rocketmq_thin_proxy_") || word.starts_with("process_"))
}

#[tokio::test]
async fn the_dashboard_queries_metrics_that_exist() {
    let proxy = measured(10).await;
    let address = proxy.metrics_address.expect("an address");
    let (_, body) = http(address, "GET /metrics HTTP/1.1\r\nhost: proxy\r\n\r\n").await;
    let types = body.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let names: BTreeSet<String> = types
        .flat_map(|(name, kind)| match kind {
            "histogram" => ["_bucket", "_sum", "_count"].map(|suffix| format!("{name}{suffix}")).to_vec(),
            _ => vec![name.to_owned()],
        })
        .collect();
    let dashboard: Value = serde_json::from_str(include_str!("../../grafana-dashboard.json")).expect("JSON");
    let variables = dashboard["templating"]["list"].as_array().expect("variables").iter();
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries =
        targets.map(|target| &target["expr"]).chain(variables.map(|variable| &variable["definition"]));
    let mut asked = 0;
    for metric in queries.filter_map(Value::as_str).flat_map(metrics_in) {
        assert!(names.contains(metric), "{metric} is not among {names:#?}");
        asked += 1;
    }
    assert!(asked > 30, "{asked}");
}

#[tokio::test]
async fn the_port_serves_metrics_only() {
    let proxy = measured(10).await;
    let address = proxy.metrics_address.expect("an address");
    for (request, status) in [
        ("POST /metrics HTTP/1.1\r\nhost: proxy\r\ncontent-length: 0\r\n\r\n", "405"),
        ("GET / HTTP/1.1\r\nhost: proxy\r\n\r\n", "404"),
        ("BREW coffee\r\n\r\n", "400"),
        ("\0\0\0\0", "400"),
    ] {
        let (head, _) = http(address, request).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {head}");
    }
}
