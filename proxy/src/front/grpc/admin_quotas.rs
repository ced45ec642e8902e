//! Converts quotas between the wire and the layer that applies them.

use std::time::Duration;

use rocketmq_thin_proto::thin as pb;
use tonic::Status;

use super::convert;
use crate::layer::{OnExcess, Per, Quota, QuotaStatus};

pub(super) fn to_wire(quota: Quota) -> pb::Quota {
    use pb::quota::Per as Wire;
    let per = match quota.per {
        Per::Client => Wire::Client,
        Per::Address => Wire::Address,
        Per::User => Wire::User,
        Per::Group => Wire::Group,
        Per::Topic => Wire::Topic,
        Per::Entry => Wire::Entry,
        Per::Proxy => Wire::Proxy,
    };
    pb::Quota {
        name: quota.name,
        per: per.into(),
        client: quota.client,
        user: quota.user,
        group: quota.group,
        topic: quota.topic,
        entry: quota.entry,
        requests_per_second: quota.requests_per_second.map(Into::into),
        send_messages_per_second: quota.send_messages_per_second.map(Into::into),
        send_bytes_per_second: quota.send_bytes_per_second.map(Into::into),
        receive_messages_per_second: quota.receive_messages_per_second.map(Into::into),
        receive_bytes_per_second: quota.receive_bytes_per_second.map(Into::into),
        long_polls: quota.long_polls.map(Into::into),
        requests_in_flight: quota.requests_in_flight.map(Into::into),
        message_bytes: quota.message_bytes.map(Into::into),
        burst: Some(convert::duration(quota.burst)),
        delay: quota.on_excess == OnExcess::Delay,
        max_delay: Some(convert::duration(quota.max_delay)),
    }
}

pub(super) fn quota(quota: Option<pb::Quota>) -> Result<Quota, Status> {
    use pb::quota::Per as Wire;
    let quota = quota.unwrap_or_default();
    let per = match quota.per() {
        Wire::Unknown => {
            return Err(Status::invalid_argument(
                "per is missing; expected CLIENT, ADDRESS, USER, GROUP, TOPIC, ENTRY or PROXY",
            ));
        }
        Wire::Client => Per::Client,
        Wire::Address => Per::Address,
        Wire::User => Per::User,
        Wire::Group => Per::Group,
        Wire::Topic => Per::Topic,
        Wire::Entry => Per::Entry,
        Wire::Proxy => Per::Proxy,
    };
    let defaults = Quota::new(quota.name, per);
    Ok(Quota {
        client: quota.client,
        user: quota.user,
        group: quota.group,
        topic: quota.topic,
        entry: quota.entry,
        requests_per_second: limit(quota.requests_per_second)?,
        send_messages_per_second: limit(quota.send_messages_per_second)?,
        send_bytes_per_second: limit(quota.send_bytes_per_second)?,
        receive_messages_per_second: limit(quota.receive_messages_per_second)?,
        receive_bytes_per_second: limit(quota.receive_bytes_per_second)?,
        long_polls: limit(quota.long_polls)?,
        requests_in_flight: limit(quota.requests_in_flight)?,
        message_bytes: limit(quota.message_bytes)?,
        burst: duration(quota.burst.as_ref(), defaults.burst)?,
        on_excess: if quota.delay { OnExcess::Delay } else { OnExcess::Refuse },
        max_delay: duration(quota.max_delay.as_ref(), defaults.max_delay)?,
        ..defaults
    })
}

pub(super) fn list_to_wire(quotas: Vec<QuotaStatus>) -> pb::ListQuotasResponse {
    let status = |QuotaStatus { quota, refused, delayed }| pb::QuotaStatus {
        quota: Some(to_wire(quota)),
        refused,
        delayed,
    };
    pb::ListQuotasResponse { quotas: quotas.into_iter().map(status).collect() }
}

pub(super) fn list(answer: pb::ListQuotasResponse) -> Result<Vec<QuotaStatus>, Status> {
    let status = |status: pb::QuotaStatus| {
        let (refused, delayed) = (status.refused, status.delayed);
        Ok(QuotaStatus { quota: quota(status.quota)?, refused, delayed })
    };
    answer.quotas.into_iter().map(status).collect()
}

fn limit<T, N: TryFrom<T>>(limit: Option<T>) -> Result<Option<N>, Status> {
    let limit = limit.map(N::try_from).transpose();
    limit.map_err(|_| Status::invalid_argument("a limit must be above 0"))
}

fn duration(given: Option<&prost_types::Duration>, default: Duration) -> Result<Duration, Status> {
    let Some(given) = given else { return Ok(default) };
    Duration::try_from(*given).map_err(|_| Status::invalid_argument("a duration must not be negative"))
}
