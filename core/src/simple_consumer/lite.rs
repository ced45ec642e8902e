//! The operations of a lite simple consumer.

use std::sync::Arc;

use super::SimpleConsumer;
use crate::{
    error::{Error, ErrorKind, Result},
    lite::{LiteTopics, lite_functions},
};

lite_functions!(SimpleConsumer, "SimpleConsumerOptions::lite");

impl SimpleConsumer {
    fn lite(&self) -> Option<&Arc<LiteTopics>> {
        self.0.lite.as_ref()
    }

    pub(super) fn check_not_lite(&self, operation: &'static str) -> Result<()> {
        match self.lite() {
            None => Ok(()),
            Some(_) => {
                let message = "a lite consumer subscribes to lite topics only";
                Err(Error::new(ErrorKind::InvalidArgument, operation, message))
            }
        }
    }
}
