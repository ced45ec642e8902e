//! Registries of the objects that the JVM refers to.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;
use rocketmq_thin_bridge::{Client, Delivery, Producer, PushConsumer, SimpleConsumer};

/// The clients of the JVM.
pub(crate) static CLIENTS: Registry<Client> = Registry::new();
/// The producers of the JVM.
pub(crate) static PRODUCERS: Registry<Producer> = Registry::new();
/// The simple consumers of the JVM.
pub(crate) static CONSUMERS: Registry<SimpleConsumer> = Registry::new();
/// The push consumers of the JVM.
pub(crate) static PUSH_CONSUMERS: Registry<PushConsumer> = Registry::new();
/// The deliveries of the JVM.
pub(crate) static DELIVERIES: Registry<Delivery> = Registry::new();

/// Objects that the JVM refers to by a key. Keys are numbers that are never reused, so a stale key is
/// harmless, unlike a stale pointer.
pub(crate) struct Registry<T> {
    last_key: AtomicI64,
    entries: LazyLock<RwLock<HashMap<i64, T>>>,
}

impl<T: Clone> Registry<T> {
    pub(crate) const fn new() -> Self {
        Self { last_key: AtomicI64::new(0), entries: LazyLock::new(RwLock::default) }
    }

    pub(crate) fn insert(&self, value: T) -> i64 {
        let key = self.last_key.fetch_add(1, Ordering::Relaxed) + 1;
        self.entries.write().insert(key, value);
        key
    }

    pub(crate) fn get(&self, key: i64) -> Option<T> {
        self.entries.read().get(&key).cloned()
    }

    pub(crate) fn take(&self, key: i64) -> Option<T> {
        self.entries.write().remove(&key)
    }

    pub(crate) fn remove(&self, key: i64) {
        // The value is dropped after the lock, because dropping the last clone of a producer takes time.
        drop(self.take(key));
    }
}

/// Keeps entries in a registry until the JVM collects this object. The deliveries of a receive share one
/// guard, because each object with a cleaner is expensive for the JVM.
#[derive(uniffi::Object)]
pub(crate) struct RegistryGuard {
    keys: Vec<i64>,
    remove: fn(i64),
}

impl RegistryGuard {
    pub(crate) fn new(keys: Vec<i64>, remove: fn(i64)) -> Arc<Self> {
        Arc::new(Self { keys, remove })
    }
}

impl Drop for RegistryGuard {
    fn drop(&mut self) {
        self.keys.iter().copied().for_each(self.remove);
    }
}
