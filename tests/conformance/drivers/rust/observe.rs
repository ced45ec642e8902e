//! Metrics, and an interceptor that reports its calls.

use std::collections::BTreeMap;

use rocketmq_thin::{
    Delivery, Error, Interceptor, Message, Metric, MetricValue, Receipt, ReceiveInfo, Result as Outcome,
    SettleInfo,
};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::operation::Handles;

impl Handles {
    pub(crate) fn metrics(&self, request: &Value) -> Result<Value, Value> {
        let metrics = self.client_of(request)?.metrics();
        let counted = metrics.metrics.iter().filter(|metric| !metric.points.is_empty());
        let totals: BTreeMap<_, _> = counted.map(|metric| (metric.name, total(metric))).collect();
        Ok(json!({"metrics": totals}))
    }
}

/// The total over all label values.
fn total(metric: &Metric) -> Value {
    let sum = |value: &MetricValue| match value {
        MetricValue::Histogram(histogram) => Some(histogram.sum),
        _ => None,
    };
    let sums: Option<Vec<f64>> = metric.points.iter().map(|point| sum(&point.value)).collect();
    match sums {
        Some(sums) => json!({"count": metric.total(), "sum": sums.iter().sum::<f64>()}),
        None => json!(metric.total()),
    }
}

/// Reports every call, then panics if `throws` is set.
pub(crate) struct Reporting {
    pub(crate) events: mpsc::UnboundedSender<Value>,
    pub(crate) throws: bool,
}

impl Reporting {
    fn report(&self, hook: &str, topic: &str, ok: Option<bool>) {
        let _ = self.events.send(json!({"event": "intercepted", "hook": hook, "topic": topic, "ok": ok}));
        if self.throws {
            std::panic::resume_unwind(Box::new("as the script says"));
        }
    }
}

impl Interceptor for Reporting {
    fn before_send(&self, message: &mut Message) {
        message.properties.push(("intercepted".to_owned(), "yes".to_owned()));
        self.report("before_send", &message.topic, None);
    }

    fn after_send(&self, message: &Message, result: Outcome<&Receipt, &Error>) {
        self.report("after_send", &message.topic, Some(result.is_ok()));
    }

    fn before_receive(&self, receive: &ReceiveInfo<'_>) {
        self.report("before_receive", receive.topic, None);
    }

    fn after_receive(&self, receive: &ReceiveInfo<'_>, result: Outcome<&[Delivery], &Error>) {
        self.report("after_receive", receive.topic, Some(result.is_ok()));
    }

    fn before_settle(&self, settle: &SettleInfo<'_>) {
        self.report("before_settle", settle.topic, None);
    }

    fn after_settle(&self, settle: &SettleInfo<'_>, result: Outcome<(), &Error>) {
        self.report("after_settle", settle.topic, Some(result.is_ok()));
    }
}
