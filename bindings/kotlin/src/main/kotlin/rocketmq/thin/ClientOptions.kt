package rocketmq.thin

import java.time.Duration as JavaDuration
import java.time.Instant
import java.util.concurrent.CompletionStage
import java.util.function.Supplier
import kotlin.time.Duration
import kotlin.time.toKotlinDuration
import kotlinx.coroutines.future.await
import rocketmq.thin.internal.AccessKey
import rocketmq.thin.internal.ClientCertificate
import rocketmq.thin.internal.ConnectOptions
import rocketmq.thin.internal.Encryption
import rocketmq.thin.internal.Roots
import rocketmq.thin.internal.StartupMode

/** How a [Client] connects to its servers. Null selects the default of an option. */
class ClientOptions internal constructor(private val endpoints: String) {
    /** The namespace of all topics and groups. Default: none. */
    var namespace: String? = null

    /** The credentials that requests are signed with. Default: none. */
    var credentials: Credentials? = null

    /** The encryption of connections. Default: [Tls.OFF], except for `https://` endpoints. */
    var tls: Tls? = null

    /** Whether connecting waits for the servers. Default: [Startup.Eager]. */
    var startup: Startup? = null

    /** The timeout of one attempt. A receive may take this long plus its `awaitDuration`. Default: 3 s. */
    var requestTimeout: Duration? = null

    /** The timeout of one call, including all retries. Default: 10 s. */
    var operationTimeout: Duration? = null

    /** The timeout for connecting, and for creating a producer or consumer. Default: 10 s. */
    var startupTimeout: Duration? = null

    /**
     * The maximum number of attempts of one call. With 1, a request that a server may have received is not retried.
     * Attempts for which no connection could be opened do not count. Default: 16.
     */
    var maxAttempts: Int? = null

    /**
     * The maximum delay before the first retry. Delays are random; the maximum doubles with each attempt. Default: 20 ms.
     */
    var initialRetryDelay: Duration? = null

    /** The maximum delay before any retry. Default: 1 s. */
    var maxRetryDelay: Duration? = null

    /**
     * The logger of all clients of this process, for example `System.getLogger("rocketmq.thin")`. It gets failures of
     * handlers and checkers, status changes, and internal events such as lost connections. At most 1,024 records wait
     * to be logged; further records are dropped, and their number is logged. Default: nothing is logged.
     */
    var logger: System.Logger? = null

    internal var provider: (suspend () -> Credentials)? = null
        private set

    internal val interceptors = mutableListOf<Interceptor>()

    /**
     * Sets a function that provides the credentials. It is called before connecting, before the credentials expire, and
     * after a server has refused them. If it throws, or takes longer than 30 s, the calls that wait for credentials
     * fail with [RocketMQException.Unauthenticated]. Connecting waits no longer than [startupTimeout].
     */
    fun credentialsProvider(provider: suspend () -> Credentials) = apply { this.provider = provider }

    /** [credentialsProvider] for Java. */
    fun credentialsProviderAsync(provider: Supplier<out CompletionStage<Credentials>>) =
        credentialsProvider { provider.get().await() }

    /** Adds an interceptor. Interceptors are called in order before an operation, and in reverse order after it. */
    fun interceptor(interceptor: Interceptor) = apply { interceptors += interceptor }

    /** [namespace] for Java. */
    fun namespace(name: String) = apply { namespace = name }

    /** [credentials] for Java. */
    fun credentials(given: Credentials) = apply { credentials = given }

    /** [tls] for Java. */
    fun tls(given: Tls) = apply { tls = given }

    /** [startup] for Java. */
    fun startup(mode: Startup) = apply { startup = mode }

    /** [maxAttempts] for Java. */
    fun maxAttempts(limit: Int) = apply { maxAttempts = limit }

    /** [logger] for Java. */
    fun logger(given: System.Logger) = apply { logger = given }

    /** [requestTimeout] for Java. */
    fun requestTimeout(limit: JavaDuration) = apply { requestTimeout = limit.toKotlinDuration() }

    /** [operationTimeout] for Java. */
    fun operationTimeout(limit: JavaDuration) = apply { operationTimeout = limit.toKotlinDuration() }

    /** [startupTimeout] for Java. */
    fun startupTimeout(limit: JavaDuration) = apply { startupTimeout = limit.toKotlinDuration() }

    /** [initialRetryDelay] for Java. */
    fun initialRetryDelay(limit: JavaDuration) = apply { initialRetryDelay = limit.toKotlinDuration() }

    /** [maxRetryDelay] for Java. */
    fun maxRetryDelay(limit: JavaDuration) = apply { maxRetryDelay = limit.toKotlinDuration() }

    internal fun toNative() =
        ConnectOptions(
            endpoints,
            namespace,
            credentials?.toNative(),
            tls?.encryption,
            startup?.native,
            requestTimeout.toJava("requestTimeout"),
            operationTimeout.toJava("operationTimeout"),
            startupTimeout.toJava("startupTimeout"),
            maxAttempts?.notNegative("maxAttempts")?.toUInt(),
            initialRetryDelay.toJava("initialRetryDelay"),
            maxRetryDelay.toJava("maxRetryDelay"),
        )
}

/** Whether connecting, and creating a producer or consumer, waits for the servers. */
enum class Startup(internal val native: StartupMode) {
    /** Connecting fails at once if no server listens. */
    Eager(StartupMode.EAGER),

    /** Connecting waits for a server, up to [ClientOptions.startupTimeout]. */
    Wait(StartupMode.WAIT),

    /** Connecting returns at once. Only the calls that need a server wait for it. */
    Lazy(StartupMode.LAZY),
}

/** An access key and its secret, as issued by the server's administrator. */
class Credentials
@JvmOverloads
constructor(
    /** The name that the server knows. */
    val accessKey: String,
    internal val secretKey: String,
    internal val sessionToken: String? = null,
    /**
     * When the credentials expire. The client calls its [ClientOptions.credentialsProvider], if any, before.
     * Default: never.
     */
    val expiresAt: Instant? = null,
) {
    /** The access key, without the secrets. */
    override fun toString() = "Credentials($accessKey)"

    internal fun toNative() = AccessKey(accessKey, secretKey, sessionToken, expiresAt)
}

/**
 * The encryption of connections: `Tls.ca(authority).clientCertificate(certificate, key)`. Certificates and keys are in
 * PEM format. If one is invalid, connecting fails with [RocketMQException.InvalidOptions].
 */
class Tls private constructor(internal val encryption: Encryption) {
    private constructor(roots: Roots) : this(Encryption(roots, null, null, false))

    /**
     * Authenticates the client with a [certificate], which is followed by the certificates of intermediate authorities,
     * if any. [key] is its unencrypted private key.
     */
    fun clientCertificate(certificate: ByteArray, key: ByteArray): Tls =
        Tls(encryption.copy(clientCertificate = ClientCertificate(certificate, key)))

    /** Sets the [name] that the server's certificate must have. Default: the host of the endpoint. */
    fun serverName(name: String): Tls = Tls(encryption.copy(serverName = name))

    /** Accepts any certificate. This gives no protection against a man in the middle. For tests only. */
    fun dangerouslySkipVerification(): Tls = Tls(encryption.copy(skipVerification = true))

    companion object {
        /** Plaintext. */
        @JvmField val OFF = Tls(Roots.Off)

        /** TLS with the certificate authorities of the operating system. */
        @JvmField val SYSTEM_ROOTS = Tls(Roots.System)

        /** TLS that trusts only the authorities in [pem], which contains one or more certificates. */
        @JvmStatic fun ca(pem: ByteArray) = Tls(Roots.Ca(pem))
    }
}
