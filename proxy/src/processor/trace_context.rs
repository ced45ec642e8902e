//! Finds the W3C trace contexts of messages.

use super::draft::Draft;
use crate::service::Message;

/// The property in which OpenTelemetry's instrumentations of clients send the context.
const TRACE_PARENT: &str = "traceparent";

/// Calls `visit` with the contexts of messages that are sent.
pub(super) fn of_drafts(drafts: &[Draft], visit: &mut dyn FnMut(&str)) {
    drafts.iter().filter_map(|draft| find(&draft.properties, draft.trace_context.as_deref())).for_each(visit);
}

/// Calls `visit` with the contexts of messages that are delivered.
pub(super) fn of_messages<'a>(messages: impl Iterator<Item = &'a Message>, visit: &mut dyn FnMut(&str)) {
    messages
        .filter_map(|message| find(&message.properties, message.trace_context.as_deref()))
        .for_each(visit);
}

/// The context in the properties, or else in the protocol's own field.
fn find<'a>(properties: &'a [(String, String)], field: Option<&'a str>) -> Option<&'a str> {
    let property = properties.iter().find(|(name, _)| name == TRACE_PARENT).map(|(_, value)| value.as_str());
    property.or(field)
}
