package rocketmq.thin

import java.lang.reflect.Method
import java.lang.reflect.Proxy
import kotlin.coroutines.AbstractCoroutineContextElement
import kotlin.coroutines.CoroutineContext
import kotlinx.coroutines.ThreadContextElement

/**
 * The application's OpenTelemetry API, called by reflection, because it is not a dependency of ours. It passes the W3C
 * trace context on. It does not touch the API's global instance, which the application may not have set yet.
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
        setter = implemented(loader, setting) { _, arguments ->
            @Suppress("UNCHECKED_CAST") (arguments[0] as MutableMap<String, String>)[arguments[1] as String] =
                arguments[2] as String
        }
        getter = implemented(loader, getting) { method, arguments ->
            val carrier = arguments[0] as Map<*, *>
            when (method) {
                "keys" -> carrier.keys
                "get" -> carrier[arguments[1]]
                else -> listOfNotNull(carrier[arguments[1]]).iterator()
            }
        }
    }

    private fun implemented(loader: ClassLoader, type: Class<*>, call: (String, Array<Any?>) -> Any?): Any =
        Proxy.newProxyInstance(loader, arrayOf(type)) { _, method, arguments -> call(method.name, arguments) }

    /** The headers of the trace that is active on this thread. */
    fun inject(): Map<String, String> {
        val headers = mutableMapOf<String, String>()
        inject.invoke(propagator, current.invoke(null), headers, setter)
        return headers
    }

    /** The coroutine context in which the trace of these [headers] is active. */
    fun extract(headers: Map<String, String>): CoroutineContext =
        Active(extract.invoke(propagator, current.invoke(null), headers, getter))

    /** Makes [trace] the active one on each thread that the coroutine runs on. */
    private inner class Active(private val trace: Any) :
        AbstractCoroutineContextElement(Key), ThreadContextElement<AutoCloseable> {
        override fun updateThreadContext(context: CoroutineContext) = makeCurrent.invoke(trace) as AutoCloseable

        override fun restoreThreadContext(context: CoroutineContext, oldState: AutoCloseable) = oldState.close()
    }

    private object Key : CoroutineContext.Key<Active>

    companion object {
        /** The W3C header of a trace's id. */
        const val PARENT = "traceparent"

        /** The API, or null if the application has none. */
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
