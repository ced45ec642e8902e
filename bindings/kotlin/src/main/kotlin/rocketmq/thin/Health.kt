package rocketmq.thin

import rocketmq.thin.internal.EndpointReport
import rocketmq.thin.internal.HealthReport

/**
 * Whether a client can reach its servers, according to its latest calls and heartbeats. A client without producers and
 * consumers sends no heartbeats, and does not notice that a server is unreachable.
 */
data class Health(
    /** The status of all [endpoints] together. */
    val status: Status,
    /** The failure, if the status is [Status.Degraded] or [Status.Lost]. */
    val error: RocketMQException?,
    /** The number of open connections. */
    val connections: Int,
    /** The addresses in use, sorted by name. */
    val endpoints: List<EndpointHealth>,
) {
    internal constructor(
        report: HealthReport
    ) : this(
        statusOf(report.status),
        report.error?.toException(),
        report.connections,
        report.endpoints.map(::EndpointHealth),
    )
}

/** Whether one address can be reached. */
data class EndpointHealth(
    /** The address, as `host:port`. */
    val endpoint: String,
    /** The status: [Status.Connected], [Status.Degraded] or [Status.Lost]. */
    val status: Status,
    /** The failure, unless the status is [Status.Connected]. */
    val error: RocketMQException?,
    /** The number of open connections to it. */
    val connections: Int,
) {
    internal constructor(
        report: EndpointReport
    ) : this(report.endpoint, statusOf(report.status), report.error?.toException(), report.connections)
}

/** Whether servers can be reached. */
enum class Status {
    /** No server has responded yet, and no attempt has failed. */
    Connecting,

    /** All servers in use respond. */
    Connected,

    /** There is a connection, but at least one server does not respond, refuses the client, or cannot be reached. */
    Degraded,

    /** No server can be reached. The client keeps trying. */
    Lost,

    /** The client is closed. */
    Closed,
}

private fun statusOf(name: String) = Status.entries.first { it.name.equals(name, ignoreCase = true) }
