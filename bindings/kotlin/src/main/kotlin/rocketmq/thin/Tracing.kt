package rocketmq.thin

import java.lang.reflect.Method
import java.lang.reflect.Proxy
import kotlin.coroutines.AbstractCoroutineContextElement
import kotlin.coroutines.CoroutineContext
import kotlinx.coroutines.ThreadContextElement

/**
 * Passes the W3C trace context between messages and the application's OpenTelemetry API. The API is called by
 * reflection, because it is not a dependency of this library. The API's global instance is not used, because the
 * application may not have set it yet.
 */
internal class Tracing private constructor(loader: ClassLoader) {
    private val context: Class<*> = loader.loadClass("io.opentelemetry.context.Context")
    private val propagator: Any
    private val inject: Method
    private val extract: Method
    private val current = context.getMethod("current")
    private val makeCurrent = context.getMethod("makeCurrent")
    private val setter: Any
    private val getter: Any

    init {
        fun propagation(name: String) = loader.loadClass("io.opentelemetry.context.propagation.$name")
        val w3c = loader.loadClass("io.opentelemetry.api.trace.propagation.W3CTraceContextPropagator")
        propagator = w3c.getMethod("getInstance").invoke(null)
        val (propagation, setting) = propagation("TextMapPropagator") to propagation("TextMapSetter")
        val getting = propagation("TextMapGetter")
        inject = propagation.getMethod("inject", context, Any::class.java, setting)
        extract = propagation.getMethod("extract", context, Any::class.java, getting)
        setter = implement(loader, setting) { _, arguments ->
            @Suppress("UNCHECKED_CAST") (arguments[0] as MutableMap<String, String>)[arguments[1] as String] =
                arguments[2] as String
        }
        getter = implement(loader, getting) { method, arguments ->
            val carrier = arguments[0] as Map<*, *>
            when (method) {
                "keys" -> carrier.keys
                "get" -> carrier[arguments[1]]
                else -> listOfNotNull(carrier[arguments[1]]).iterator()
            }
        }
    }

    private fun implement(loader: ClassLoader, type: Class<*>, call: (String, Array<Any?>) -> Any?): Any =
        Proxy.newProxyInstance(loader, arrayOf(type)) { _, method, arguments -> call(method.name, arguments) }

    /** Returns the headers for the trace that is active on this thread. */
    fun inject(): Map<String, String> {
        val headers = mutableMapOf<String, String>()
        inject.invoke(propagator, current.invoke(null), headers, setter)
        return headers
    }

    /** Returns the coroutine context in which the trace of these [headers] is active. */
    fun extract(headers: Map<String, String>): CoroutineContext =
        ActiveTrace(extract.invoke(propagator, current.invoke(null), headers, getter))

    /** Makes [trace] active on each thread that the coroutine runs on. */
    private inner class ActiveTrace(private val trace: Any) :
        AbstractCoroutineContextElement(Key), ThreadContextElement<AutoCloseable> {
        override fun updateThreadContext(context: CoroutineContext) = makeCurrent.invoke(trace) as AutoCloseable

        override fun restoreThreadContext(context: CoroutineContext, oldState: AutoCloseable) = oldState.close()
    }

    private object Key : CoroutineContext.Key<ActiveTrace>

    companion object {
        /** The name of the W3C header that identifies the trace and the parent span. */
        const val PARENT = "traceparent"

        /** The instance for the application's API, or null if the application does not have the API. */
        val present: Tracing? by lazy {
            try {
                Tracing(Tracing::class.java.classLoader)
            } catch (e: ReflectiveOperationException) {
                null
            } catch (e: LinkageError) {
                null
            }
        }
    }
}
