//! Lite topics, which both simple and push consumers can subscribe to.

use std::sync::Arc;

use napi::bindgen_prelude::{Env, Result, ToNapiValue, Unknown};
use napi_derive::napi;
use rocketmq_thin_bridge::{self as bridge, Queue};

use crate::consumer::SimpleConsumer;
use crate::handle::id;
use crate::outcome::answer;
use crate::push::PushConsumer;

/// The lite topics whose subscriptions a server has ended.
#[napi]
pub struct LiteRevocations {
    revocations: bridge::LiteRevocations,
    queue: Arc<Queue>,
}

#[napi]
impl LiteRevocations {
    #[napi]
    pub fn next(&self) -> Result<i64> {
        id(self.queue.submit(self.revocations.next()))
    }
}

macro_rules! lite_consumer {
    ($Consumer:ident) => {
        #[napi]
        impl $Consumer {
            #[napi]
            pub fn subscribe_lite(&self, lite_topic: String) -> Result<i64> {
                id(self.queue.submit(self.consumer.subscribe_lite(lite_topic)))
            }

            #[napi]
            pub fn unsubscribe_lite(&self, lite_topic: String) -> Result<i64> {
                id(self.queue.submit(self.consumer.unsubscribe_lite(lite_topic)))
            }

            #[napi]
            pub fn lite_topics<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
                answer(env, self.consumer.lite_topics(), |topics| topics.into_unknown(env))
            }

            #[napi]
            pub fn lite_revocations<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
                answer(env, self.consumer.lite_revocations(), |revocations| {
                    LiteRevocations { revocations, queue: Arc::clone(&self.queue) }.into_unknown(env)
                })
            }
        }
    };
}

lite_consumer!(SimpleConsumer);
lite_consumer!(PushConsumer);
