//! Subscriptions to topics. Both simple and push consumers can change them while they run.

use napi::bindgen_prelude::{Either, Env, Result, ToNapiValue, Unknown};
use napi_derive::napi;

use crate::consumer::SimpleConsumer;
use crate::input::{Subscription, subscription};
use crate::outcome::{operation_id, tagged_result};
use crate::push::PushConsumer;

macro_rules! subscribing_consumer {
    ($Consumer:ident) => {
        #[napi]
        impl $Consumer {
            #[napi]
            pub fn subscribe(&self, given: Either<String, Subscription>) -> Result<i64> {
                operation_id(self.queue.submit(self.consumer.subscribe(subscription(given)?)))
            }

            #[napi]
            pub fn unsubscribe(&self, topic: String) -> Result<i64> {
                operation_id(self.queue.submit(self.consumer.unsubscribe(topic)))
            }

            #[napi]
            pub fn subscriptions<'env>(&self, env: &'env Env) -> Result<Vec<Unknown<'env>>> {
                tagged_result(env, self.consumer.subscriptions(), |subscriptions| {
                    let known: Vec<_> = subscriptions.into_iter().filter_map(Subscription::new).collect();
                    known.into_unknown(env)
                })
            }
        }
    };
}

subscribing_consumer!(SimpleConsumer);
subscribing_consumer!(PushConsumer);
