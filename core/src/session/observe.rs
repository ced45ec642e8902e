//! What metrics and interceptors learn about sends, receives and settlements.

use std::time::SystemTime;

use super::Session;
use crate::{
    error::{Error, Result},
    interceptor::{Interceptors, ReceiveInfo, SettleInfo, Settlement},
    message::{Delivery, LeasedMessage, Message, Receipt},
    metrics::{ConsumeSeries, Recorder},
};

impl Session {
    /// Where everything is counted.
    pub(crate) fn metrics(&self) -> &Recorder {
        self.pool().metrics()
    }

    pub(crate) fn interceptors(&self) -> Interceptors<'_> {
        Interceptors(&self.options().interceptors)
    }

    /// Lets interceptors see and change a message that is going to be sent. Returns a copy if there are any, for
    /// [`refused`](Self::refused).
    pub(crate) fn sending(&self, message: &mut Message) -> Option<Message> {
        let interceptors = self.interceptors();
        interceptors.before_send(message);
        (!interceptors.is_empty()).then(|| message.clone())
    }

    /// Notes that a message was not even queued.
    pub(crate) fn refused(&self, message: Option<&Message>, error: &Error) {
        match message {
            Some(message) => self.sent(message, Err(error)),
            None => self.metrics().failed("send", error.kind()),
        }
    }

    /// Notes the result of a send.
    pub(crate) fn sent(&self, message: &Message, result: Result<&Receipt, &Error>) {
        if let Err(error) = result {
            self.metrics().failed("send", error.kind());
        }
        self.interceptors().after_send(message, result);
    }

    /// Notes the result of one request for messages.
    pub(crate) fn received(
        &self,
        receive: &ReceiveInfo<'_>,
        delivered_at: Option<SystemTime>,
        result: Result<&[Delivery], &Error>,
    ) {
        if let Ok(deliveries) = result
            && !deliveries.is_empty()
        {
            // Without a latency if the clocks disagree so much that it would be negative.
            let latency = delivered_at.and_then(|time| SystemTime::now().duration_since(time).ok());
            self.metrics().consumes(receive.group, receive.topic).received(deliveries.len(), latency);
        }
        self.interceptors().after_receive(receive, result);
    }

    /// Runs the settlement of one delivery.
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
        self.settled(&series, &info, result.as_ref().copied());
        result
    }

    /// Notes the result of a settlement, which counts in `series`.
    pub(crate) fn settled(
        &self,
        series: &ConsumeSeries,
        settle: &SettleInfo<'_>,
        result: Result<(), &Error>,
    ) {
        series.settled(settle.settlement, result.is_ok());
        if let Err(error) = result {
            self.metrics().failed(error.operation(), error.kind());
        }
        self.interceptors().after_settle(settle, result);
    }
}
