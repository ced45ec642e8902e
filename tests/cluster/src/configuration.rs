//! The configuration of Apache's servers. Their property files allow no trailing blanks after numbers.

use std::fs;
use std::path::Path;

use anyhow::Result;
use serde_json::json;

use crate::guard::{self, Guard};
use crate::ports;
use crate::server::Launch;

/// The cluster's name.
pub(crate) const CLUSTER: &str = "DefaultCluster";

/// The broker's fast port is its port minus two, its replication port is its port plus one.
const BESIDE_A_BROKER: [i32; 2] = [-2, 1];

/// The folders of a server's files and of Apache's jars.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) class_path: &'a str,
    pub(crate) guard: Option<&'a Guard>,
    /// Whether servers check signatures and rights.
    pub(crate) has_users: bool,
}

pub(crate) fn name_server(place: Place<'_>, number: usize) -> Result<(Launch, String)> {
    let folder = place.folder.join(format!("name-server-{number}"));
    fs::create_dir_all(&folder)?;
    let port = ports::free(&[])?;
    let path = |file: &str| folder.join(file).display().to_string();
    let properties = format!(
        "listenPort={port}\nkvConfigPath={}\nconfigStorePath={}\n",
        path("kv.json"),
        path("stored.properties")
    );
    fs::write(folder.join("name-server.conf"), properties)?;
    let launch = Launch {
        name: format!("name server {number}"),
        class_path: place.class_path.to_owned(),
        // The check for registered brokers uses plain TCP.
        system: place.guard.map(|guard| guard.tls("permissive")).unwrap_or_default(),
        memory: &["-Xms64m", "-Xmx256m"],
        main: "org.apache.rocketmq.namesrv.NamesrvStartup",
        arguments: vec!["-c".to_owned(), path("name-server.conf")],
        ready: "The Name Server boot success",
        folder,
    };
    Ok((launch, format!("127.0.0.1:{port}")))
}

pub(crate) fn broker(place: Place<'_>, (name_servers, number): (&str, usize)) -> Result<Launch> {
    let letter = char::from(b'a' + u8::try_from(number)?);
    let name = format!("broker-{letter}");
    let folder = place.folder.join(&name);
    fs::create_dir_all(&folder)?;
    let port = ports::free(&BESIDE_A_BROKER)?;
    let store = folder.join("store");
    let properties = vec![
        ("brokerClusterName", CLUSTER.to_owned()),
        ("brokerName", name.clone()),
        ("brokerId", "0".to_owned()),
        ("brokerRole", "ASYNC_MASTER".to_owned()),
        ("flushDiskType", "ASYNC_FLUSH".to_owned()),
        ("namesrvAddr", name_servers.to_owned()),
        ("brokerIP1", "127.0.0.1".to_owned()),
        ("listenPort", port.to_string()),
        ("haListenPort", (port + 1).to_string()),
        ("storePathRootDir", store.display().to_string()),
        ("storePathCommitLog", store.join("commitlog").display().to_string()),
        // Small files: a store of the default size does not fit on a test machine.
        ("mappedFileSizeCommitLog", "67108864".to_owned()),
        ("mappedFileSizeConsumeQueue", "60000".to_owned()),
        ("mappedFileSizeTimerLog", "1048576".to_owned()),
        ("maxHashSlotNum", "4000".to_owned()),
        ("maxIndexNum", "16000".to_owned()),
        ("enableCompaction", "false".to_owned()),
        ("deleteWhen", "04".to_owned()),
        ("fileReservedTime", "1".to_owned()),
        // A disk that is fuller than 85 % makes a broker delete messages that nobody has read.
        ("cleanFileForciblyEnable", "false".to_owned()),
        ("autoCreateTopicEnable", "false".to_owned()),
        ("autoCreateSubscriptionGroup", "true".to_owned()),
        ("appendAckAsync", "true".to_owned()),
        ("appendCkAsync", "true".to_owned()),
        // Features that are off by default.
        ("enablePropertyFilter", "true".to_owned()),
        ("recallMessageEnable", "true".to_owned()),
        ("enableLmq", "true".to_owned()),
        ("enableMultiDispatch", "true".to_owned()),
        ("enableMixedMessageType", "true".to_owned()),
        ("transactionCheckInterval", "3000".to_owned()),
        ("transactionTimeOut", "3000".to_owned()),
        // Write each transaction result at once. With the default batching, a 5.5.0 broker spins on one core after
        // its first decided transaction (`batchSendOpMessage` waits for a time in the past).
        ("transactionOpMsgMaxSize", "1".to_owned()),
        ("transactionOpBatchInterval", "86400000".to_owned()),
        // How long the broker answers GO_AWAY before it stops.
        ("enableShutdownGracefully", "true".to_owned()),
        ("shutdownWaitTimeSeconds", "2".to_owned()),
    ];
    let users = place.has_users.then(guard::users).into_iter().flatten();
    let properties: String =
        properties.into_iter().chain(users).map(|(key, value)| format!("{key}={value}\n")).collect();
    let file = folder.join("broker.conf");
    fs::write(&file, properties)?;
    Ok(Launch {
        class_path: place.class_path.to_owned(),
        system: place.guard.map(|guard| guard.tls("enforcing")).unwrap_or_default(),
        memory: &["-Xms256m", "-Xmx768m", "-XX:MaxDirectMemorySize=512m"],
        main: "org.apache.rocketmq.broker.BrokerStartup",
        arguments: ["-c", &file.display().to_string(), "-n", name_servers].map(str::to_owned).to_vec(),
        ready: "boot success",
        folder,
        name,
    })
}

/// The ports of Apache's proxy, as `HOST:PORT`.
#[derive(Debug)]
pub(crate) struct ProxyAddresses {
    pub(crate) grpc: String,
    pub(crate) remoting: String,
}

/// Apache's proxy with a broker in its process.
pub(crate) fn local_proxy(place: Place<'_>, name_servers: &str) -> Result<(Launch, ProxyAddresses)> {
    let broker = broker(place, (name_servers, 0))?;
    let file = broker.folder.join("broker.conf").display().to_string();
    let (mut launch, addresses) = proxy(place, name_servers, "local")?;
    launch.memory = broker.memory;
    launch.arguments.extend(["-bc".to_owned(), file]);
    Ok((launch, addresses))
}

pub(crate) fn apache_proxy(place: Place<'_>, name_servers: &str) -> Result<(Launch, ProxyAddresses)> {
    proxy(place, name_servers, "cluster")
}

fn proxy(place: Place<'_>, name_servers: &str, mode: &str) -> Result<(Launch, ProxyAddresses)> {
    let folder = place.folder.join("apache-proxy");
    fs::create_dir_all(&folder)?;
    let (grpc, remoting) = (ports::free(&[])?, ports::free(&[])?);
    // Short cache times, so that tests need not wait.
    let mut configuration = json!({
        "rocketMQClusterName": CLUSTER,
        "namesrvAddr": name_servers,
        "proxyMode": mode,
        "localServeAddr": "127.0.0.1",
        "grpcServerPort": grpc,
        "remotingListenPort": remoting,
        "topicRouteServiceCacheRefreshSeconds": 1,
        "topicConfigCacheRefreshSeconds": 1,
        "subscriptionGroupConfigCacheRefreshSeconds": 1,
        "transactionHeartbeatPeriodSecond": 3,
    });
    if let (true, Some(settings)) = (place.has_users, configuration.as_object_mut()) {
        settings.extend(guard::users_of_proxy());
    }
    let file = folder.join("rmq-proxy.json");
    fs::write(&file, configuration.to_string())?;
    let file = file.display().to_string();
    let launch = Launch {
        name: "Apache's proxy".to_owned(),
        class_path: place.class_path.to_owned(),
        system: Vec::new(),
        memory: &["-Xms128m", "-Xmx512m"],
        main: "org.apache.rocketmq.proxy.ProxyStartup",
        arguments: ["-n", name_servers, "-pm", mode, "-pc", &file].map(str::to_owned).to_vec(),
        ready: "rocketmq-proxy startup successfully",
        folder,
    };
    let [grpc, remoting] = [grpc, remoting].map(|port| format!("127.0.0.1:{port}"));
    Ok((launch, ProxyAddresses { grpc, remoting }))
}
