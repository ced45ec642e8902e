//! Subscriptions of clients to lite topics.

use super::command::Command;
use super::environment::Environment;
use super::{group, validate};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::layer::{Names, OperationKind};
use crate::service::{LiteAction, LiteChange, LiteStart};

/// The number of lite topics by which a client may exceed its quota, as with Apache's proxy. Subscriptions that replace
/// each other may overlap.
const QUOTA_MARGIN: usize = 300;

/// Changes the lite topics from which the client receives. The client need not have sent settings.
///
/// # Errors
/// In this order: `IllegalTopic`, `IllegalGroup`, `BadRequest` (an unknown action or an empty option), `IllegalLiteTopic`,
/// `IllegalGroup` if the group does not exist, `IllegalTopic` if it is bound to another topic, `LiteSubscriptionQuota`,
/// then the backend's failures.
#[derive(Clone, Debug)]
pub struct SyncLiteCommand {
    /// The topic that the lite topics belong to.
    pub topic: String,
    /// The group.
    pub group: String,
    /// What to do with the lite topics; `None` for an action that this proxy doesn't know.
    pub action: Option<LiteAction>,
    /// The lite topics.
    pub lite_topics: Vec<String>,
    /// Where the group starts in added lite topics. `Some(None)` if the client sent an empty option.
    pub start: Option<Option<LiteStart>>,
}

impl Command for SyncLiteCommand {
    type Answer = ();
    const KIND: OperationKind = OperationKind::SyncLite;

    fn topics(&self) -> &dyn Names {
        &self.topic
    }

    fn groups(&self) -> &dyn Names {
        &self.group
    }

    async fn handle(self, environment: &Environment, context: &Context) -> Result<(), Error> {
        validate::topic(&self.topic)?;
        validate::group(&self.group)?;
        let refuse = |kind, message: String| Err(Error::new(kind, message));
        let Some(action) = self.action else {
            return refuse(ErrorKind::BadRequest, "the action is unknown".to_owned());
        };
        let start = match (action, self.start) {
            (LiteAction::Add, Some(None)) => {
                return refuse(ErrorKind::BadRequest, "the offset option is empty".to_owned());
            }
            (LiteAction::Add, start) => start.flatten(),
            _ => None,
        };
        let limits = &environment.limits;
        if action == LiteAction::Add {
            self.lite_topics.iter().try_for_each(|name| validate::lite_topic_name(name, limits))?;
        }
        let services = environment.services(context, &self.topic);
        let config = group::load(services, &self.group).await?;
        if config.lite_bind_topic.as_ref() != Some(&self.topic) {
            return Err(group::bound_to_other_topic(&config, &self.topic));
        }
        // A negative quota means no limit.
        let quota = usize::try_from(config.lite_quota).unwrap_or(usize::MAX).saturating_add(QUOTA_MARGIN);
        if self.lite_topics.len() > quota {
            let message = format!("lite subscription quota exceeded: {}", config.lite_quota);
            return refuse(ErrorKind::LiteSubscriptionQuota, message);
        }
        let change = LiteChange {
            client_id: context.client_id.clone(),
            topic: self.topic.clone(),
            group: self.group,
            action,
            lite_topics: self.lite_topics,
            quota,
            start,
            deadline: context.deadline_within(limits.call),
        };
        let synced = services.lite.sync(change).await;
        synced.map_err(|error| Error::on_topic(error, &self.topic))
    }
}
