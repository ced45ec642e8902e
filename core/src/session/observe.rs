//! Reports sends, receives and settlements to metrics and interceptors.

use std::time::SystemTime;

use super::Session;
use crate::{
    error::{Error, Result},
    interceptor::{Interceptors, ReceiveInfo, SettleInfo, Settlement},
    message::{Delivery, LeasedMessage, Message, Receipt},
    metrics::{ConsumeSeries, Recorder},
};

impl Session {
    /// The metrics of the client.
    pub(crate) fn metrics(&self) -> &Recorder {
        self.pool().metrics()
    }

    pub(crate) fn interceptors(&self) -> Interceptors<'_> {
        Interceptors(&self.options().interceptors)
    }

    /// Calls interceptors before a send; they may change the message. Returns a copy if there are any, for
    /// [`record_refused_send`](Self::record_refused_send).
    pub(crate) fn intercept_send(&self, message: &mut Message) -> Option<Message> {
        let interceptors = self.interceptors();
        interceptors.before_send(message);
        (!interceptors.is_empty()).then(|| message.clone())
    }

    /// Records that a message could not be queued.
    pub(crate) fn record_refused_send(&self, message: Option<&Message>, error: &Error) {
        match message {
            Some(message) => self.record_send(message, Err(error)),
            None => self.metrics().count_failure("send", error.kind()),
        }
    }

    /// Records the result of a send.
    pub(crate) fn record_send(&self, message: &Message, result: Result<&Receipt, &Error>) {
        if let Err(error) = result {
            self.metrics().count_failure("send", error.kind());
        }
        self.interceptors().after_send(message, result);
    }

    /// Records the result of one request for messages.
    pub(crate) fn record_receive(
        &self,
        receive: &ReceiveInfo<'_>,
        delivered_at: Option<SystemTime>,
        result: Result<&[Delivery], &Error>,
    ) {
        if let Ok(deliveries) = result
            && !deliveries.is_empty()
        {
            // `None` if the latency would be negative, because the clocks disagree.
            let latency = delivered_at.and_then(|time| SystemTime::now().duration_since(time).ok());
            self.metrics().consumes(receive.group, receive.topic).count_received(deliveries.len(), latency);
        }
        self.interceptors().after_receive(receive, result);
    }

    /// Runs `work`, which settles one delivery, and records its result.
    pub(crate) async fn settle(
        &self,
        message: &LeasedMessage,
        settlement: Settlement,
        work: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let info = SettleInfo::new(message, settlement);
        self.interceptors().before_settle(&info);
        let result = work.await;
        let series = self.metrics().consumes(info.group, info.topic);
        self.record_settlement(&series, &info, result.as_ref().copied());
        result
    }

    /// Records the result of a settlement, and counts it in `series`.
    pub(crate) fn record_settlement(
        &self,
        series: &ConsumeSeries,
        settle: &SettleInfo<'_>,
        result: Result<(), &Error>,
    ) {
        series.count_settled(settle.settlement, result.is_ok());
        if let Err(error) = result {
            self.metrics().count_failure(error.operation(), error.kind());
        }
        self.interceptors().after_settle(settle, result);
    }
}
