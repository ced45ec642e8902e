//! Lite topics: who may subscribe to how many of them.

use super::{Processor, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::service::{LiteAction, LiteChange, LiteStart, ServiceErrorKind};

/// How far a client may be above its quota, as with Apache's proxy: a subscription that goes and one that comes
/// may overlap.
const QUOTA_MARGIN: usize = 300;

/// A change of the caller's lite topics.
#[derive(Clone, Debug)]
pub struct LiteCommand {
    /// The topic that the lite topics stand below.
    pub topic: String,
    /// The group.
    pub group: String,
    /// What to do; None: a number this proxy doesn't know.
    pub action: Option<LiteAction>,
    /// The lite topics.
    pub lite_topics: Vec<String>,
    /// Where to begin in what is added. `Some(None)`: the client's option says nothing.
    pub start: Option<Option<LiteStart>>,
}

impl Processor {
    /// Changes the lite topics that the caller receives from. Needs no settings: the group's configuration says all.
    ///
    /// # Errors
    /// In this order: `IllegalTopic` (also: the group is bound to another), `IllegalGroup` (also: there is none),
    /// `BadRequest` (an unknown action, an empty option), `IllegalLiteTopic`, `LiteSubscriptionQuota`, then the
    /// backend's failures.
    pub async fn sync_lite(&self, context: &Context, command: LiteCommand) -> Result<(), Error> {
        validate::topic(&command.topic)?;
        validate::group(&command.group)?;
        let refuse = |kind, message: String| Err(Error::new(kind, message));
        let Some(action) = command.action else {
            return refuse(ErrorKind::BadRequest, "the action is unknown".to_owned());
        };
        let start = match (action, command.start) {
            (LiteAction::Add, Some(None)) => {
                return refuse(ErrorKind::BadRequest, "the offset option is empty".to_owned());
            }
            (LiteAction::Add, start) => start.flatten(),
            _ => None,
        };
        if action == LiteAction::Add {
            command.lite_topics.iter().try_for_each(|name| validate::lite_topic_name(name, &self.limits))?;
        }
        let (topic, group) = (&command.topic, &command.group);
        let services = self.services(context, topic);
        let config = match services.metadata.group(group).await {
            Err(error) if error.kind == ServiceErrorKind::GroupNotFound => {
                return refuse(ErrorKind::IllegalGroup, format!("group not found: {group}"));
            }
            config => config?,
        };
        if config.lite_bind_topic.as_ref() != Some(topic) {
            let bound = config.lite_bind_topic.as_deref().unwrap_or("null");
            return refuse(
                ErrorKind::IllegalTopic,
                format!("lite group {group} is expected to bind topic {bound}, but actual is {topic}"),
            );
        }
        // A negative quota is none.
        let quota = usize::try_from(config.lite_quota).unwrap_or(usize::MAX).saturating_add(QUOTA_MARGIN);
        if command.lite_topics.len() > quota {
            let message = format!("lite subscription quota exceeded: {}", config.lite_quota);
            return refuse(ErrorKind::LiteSubscriptionQuota, message);
        }
        let change = LiteChange {
            client_id: context.client_id.clone(),
            topic: command.topic.clone(),
            group: command.group,
            action,
            lite_topics: command.lite_topics,
            start,
            deadline: context.deadline_within(self.limits.call),
        };
        let synced = services.lite.sync(change).await;
        synced.map_err(|error| Error::on_topic(error, &command.topic))
    }
}
