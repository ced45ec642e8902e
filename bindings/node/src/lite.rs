//! Lite topics. Both simple and push consumers can subscribe to them.

use std::sync::Arc;

use napi::bindgen_prelude::{Env, Result, ToNapiValue, Unknown};
use napi_derive::napi;
use rocketmq_thin_bridge::{self as bridge, Queue};

use crate::consumer::SimpleConsumer;
use crate::input::OffsetOption;
use crate::outcome::{operation_id, tagged_result};
use crate::push::PushConsumer;

/// A stream of the lite topics whose subscriptions the server ends.
#[napi]
pub struct LiteRevocations {
    revocations: bridge::LiteRevocations,
    queue: Arc<Queue>,
}

#[napi]
impl LiteRevocations {
    #[napi]
    pub fn next(&self) -> Result<i64> {
        operation_id(self.queue.submit(self.revocations.next()))
    }
}

macro_rules! lite_consumer {
    ($Consumer:ident) => {
        #[napi]
        impl $Consumer {
            #[napi]
            pub fn subscribe_lite(&self, lite_topic: String, start: Option<OffsetOption>) -> Result<i64> {
                let start = start.map(TryInto::try_into).transpose()?;
                operation_id(self.queue.submit(self.consumer.subscribe_lite(lite_topic, start)))
            }

            #[napi]
            pub fn unsubscribe_lite(&self, lite_topic: String) -> Result<i64> {
                operation_id(self.queue.submit(self.consumer.unsubscribe_lite(lite_topic)))
            }

            #[napi]
            pub fn lite_topics<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
                tagged_result(env, self.consumer.lite_topics(), |topics| topics.into_unknown(env))
            }

            #[napi]
            pub fn lite_revocations<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
                tagged_result(env, self.consumer.lite_revocations(), |revocations| {
                    LiteRevocations { revocations, queue: Arc::clone(&self.queue) }.into_unknown(env)
                })
            }
        }
    };
}

lite_consumer!(SimpleConsumer);
lite_consumer!(PushConsumer);
