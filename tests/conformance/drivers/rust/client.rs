//! Connecting, and what a client tells about itself.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use rocketmq_thin::{Client, ClientOptions, Credentials, Health, Tls};
use serde_json::{Map, Value, json};

use crate::{
    convert::{self, Keys, Options},
    observe::Reporting,
    operation::{Handles, taken},
};

impl Handles {
    pub(crate) async fn connect(&self, request: &mut Value) -> Result<Value, Value> {
        let mut given: Options = taken(request, "options")?;
        let interceptor = given.interceptor.take();
        let mut options = ClientOptions::from(given);
        if let Some(kind) = interceptor {
            let (events, throws) = (self.events.clone(), kind == "throw");
            options = options.interceptor(Arc::new(Reporting { events, throws }));
        }
        let client = Client::connect(options).await.map_err(|error| convert::error(&error))?;
        Ok(self.keep('c', client, |made| &mut made.clients))
    }

    pub(crate) fn health(&self, request: &Value) -> Result<Value, Value> {
        Ok(shown(&self.client_of(request)?.health()))
    }

    pub(crate) fn watch(&self, request: &Value) -> Result<Value, Value> {
        let mut changes = self.client_of(request)?.status_changes();
        let (handle, events) = (request["client"].clone(), self.events.clone());
        tokio::spawn(async move {
            while let Some(health) = changes.next().await {
                let mut event = shown(&health);
                event["event"] = json!("status");
                event["handle"] = handle.clone();
                let _ = events.send(event);
            }
        });
        Ok(json!({}))
    }
}

fn shown(health: &Health) -> Value {
    json!({"status": format!("{:?}", health.status), "error": health.error.as_ref().map(ToString::to_string)})
}

type Provided = Result<Credentials, Box<dyn std::error::Error + Send + Sync>>;

/// The n-th call gets the n-th element, and the last one repeats.
pub(crate) fn provider(
    list: Vec<Value>,
) -> impl Fn() -> std::future::Ready<Provided> + Send + Sync + 'static {
    let (list, next) = (Arc::new(list), AtomicUsize::new(0));
    move || {
        let at = next.fetch_add(1, Ordering::Relaxed).min(list.len().saturating_sub(1));
        let provided = list.get(at).cloned().unwrap_or_default();
        std::future::ready(match serde_json::from_value::<Keys>(provided) {
            Ok(keys) => Ok(keys.into()),
            Err(_) => Err("as the script says".into()),
        })
    }
}

/// The TLS options of a request.
pub(crate) fn tls(given: &Map<String, Value>) -> Tls {
    let text = |name: &str| given.get(name).and_then(Value::as_str);
    let mut tls = text("ca").map_or_else(Tls::system_roots, Tls::ca);
    if let (Some(cert), Some(key)) = (text("cert"), text("key")) {
        tls = tls.client_certificate(cert, key);
    }
    if let Some(name) = text("server_name") {
        tls = tls.server_name(name);
    }
    match given.get("skip_verification") {
        Some(Value::Bool(true)) => tls.dangerously_skip_verification(),
        _ => tls,
    }
}
