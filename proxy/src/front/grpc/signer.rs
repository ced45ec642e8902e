//! Signs the calls of the administration client, as RocketMQ's clients do.

use std::time::SystemTime;

use hmac::{Hmac, KeyInit, Mac};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use sha1::Sha1;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use super::metadata::DATE_TIME;

/// Signs calls on behalf of a user, if there is one.
#[derive(Clone)]
pub(super) struct Signer(Option<(String, String)>);

impl Signer {
    /// Creates a signer for a user name and a secret. With `None`, calls are not signed.
    pub(super) fn new(user: Option<(String, String)>) -> Self {
        Self(user)
    }
}

impl Interceptor for Signer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let Some((user, secret)) = &self.0 else { return Ok(request) };
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let invalid =
            |_| Status::invalid_argument("the access key contains characters that a header can't have");
        let mac = Hmac::<Sha1>::new_from_slice(secret.as_bytes());
        let mac = mac.map_err(|_| Status::invalid_argument("the secret key is invalid"))?;
        let signature = hex::encode(mac.chain_update(&time).finalize().into_bytes());
        let authorization =
            format!("MQv2-HMAC-SHA1 Credential={user}, SignedHeaders=x-mq-date-time, Signature={signature}");
        let headers = request.metadata_mut().as_mut();
        headers.insert(AUTHORIZATION, HeaderValue::try_from(authorization).map_err(invalid)?);
        headers.insert(DATE_TIME, HeaderValue::try_from(time).map_err(invalid)?);
        Ok(request)
    }
}
