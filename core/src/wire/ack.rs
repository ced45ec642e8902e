//! Builds AckMessage requests, and reads their results.

use rocketmq_thin_proto::v2;

use crate::{
    error::{Error, ErrorKind},
    message::LeasedMessage,
    rpc::{CallContext, Outcome},
};

/// Builds a request that acks deliveries of one topic, each with its receipt handle.
pub(crate) fn build_ack<'a>(
    group: v2::Resource,
    topic: v2::Resource,
    deliveries: impl Iterator<Item = (&'a LeasedMessage, String)>,
) -> v2::AckMessageRequest {
    let entries = deliveries
        .map(|(message, receipt_handle)| v2::AckMessageEntry {
            message_id: message.message_id.clone(),
            receipt_handle,
            lite_topic: message.lite_topic.clone(),
        })
        .collect();
    v2::AckMessageRequest { group: Some(group), topic: Some(topic), entries }
}

/// Returns the result of each handle of the request, in order.
///
/// Entries are matched by handle, because some servers reorder them.
pub(crate) fn process_ack(
    call: &CallContext,
    response: v2::AckMessageResponse,
    handles: &[String],
) -> Result<Vec<Result<(), Error>>, Error> {
    let top = call.check(response.status.as_ref());
    let entries = response.entries;
    if entries.is_empty() {
        return match top? {
            Outcome::Done => Ok(handles.iter().map(|_| Ok(())).collect()),
            Outcome::PerEntry => {
                Err(call.error(ErrorKind::Protocol, "the results of the entries are missing"))
            }
        };
    }
    let result = |(at, handle): (usize, &String)| {
        let entry = entries
            .get(at)
            .filter(|entry| entry.receipt_handle == *handle)
            .or_else(|| entries.iter().find(|entry| entry.receipt_handle == *handle))
            .or_else(|| entries.get(at).filter(|_| entries.len() == handles.len()));
        match entry.map(|entry| entry.status.as_ref()) {
            Some(Some(status)) => call.check(Some(status)).map(drop),
            no_status => match &top {
                // The server answered for other entries only, so it says nothing about this one.
                Ok(Outcome::Done) if no_status.is_some() => Ok(()),
                Ok(_) => Err(call.error(ErrorKind::Protocol, "the result of this entry is missing")),
                Err(error) => Err(error.clone()),
            },
        }
    };
    Ok(handles.iter().enumerate().map(result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(top: v2::Code, entries: &[(&str, v2::Code)], handles: &[&str]) -> Vec<Option<i32>> {
        let status = |code: v2::Code| Some(v2::Status { code: code.into(), message: String::new() });
        let response = v2::AckMessageResponse {
            status: status(top),
            entries: entries
                .iter()
                .map(|(handle, code)| v2::AckMessageResultEntry {
                    message_id: String::new(),
                    receipt_handle: (*handle).into(),
                    status: status(*code),
                })
                .collect(),
        };
        let call = CallContext { operation: "ack", endpoint: "h:1".into(), request_id: "r".into() };
        let handles: Vec<String> = handles.iter().map(|handle| (*handle).to_owned()).collect();
        match process_ack(&call, response, &handles) {
            Ok(results) => results
                .into_iter()
                .map(|result| result.err().map(|error| error.code().unwrap_or(0)))
                .collect(),
            Err(error) => handles.iter().map(|_| Some(error.code().unwrap_or(0))).collect(),
        }
    }

    #[test]
    fn results_are_matched_by_handle() {
        use v2::Code::{InvalidReceiptHandle, MultipleResults, Ok};
        for (top, entries, handles, expected) in [
            (Ok, vec![("a", Ok), ("b", Ok)], vec!["a", "b"], vec![None, None]),
            (
                MultipleResults,
                vec![("b", InvalidReceiptHandle), ("a", Ok)],
                vec!["a", "b"],
                vec![None, Some(40013)],
            ),
            // If the server returns other handles, entries are matched by position.
            (
                MultipleResults,
                vec![("x", InvalidReceiptHandle), ("y", Ok)],
                vec!["a", "b"],
                vec![Some(40013), None],
            ),
            (InvalidReceiptHandle, vec![], vec!["a", "b"], vec![Some(40013), Some(40013)]),
            (Ok, vec![], vec!["a"], vec![None]),
            (MultipleResults, vec![], vec!["a"], vec![Some(0)]),
            (MultipleResults, vec![("a", Ok)], vec!["a", "b"], vec![None, Some(0)]),
            (Ok, vec![("a", Ok)], vec!["a", "b"], vec![None, Some(0)]),
        ] {
            assert_eq!(codes(top, &entries, &handles), expected, "{top:?} {entries:?}");
        }
    }
}
