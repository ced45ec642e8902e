package rocketmq.thin

import java.time.Instant
import rocketmq.thin.internal.MetricReport
import rocketmq.thin.internal.MetricsReport
import rocketmq.thin.internal.PointReport
import rocketmq.thin.internal.ValueReport

/** The metrics of a client since it was created. The names are those of Apache's clients. Times are in milliseconds. */
data class Metrics(
    /** When counting began. */
    val since: Instant,
    /** When the values were read. */
    val at: Instant,
    /** All metrics. A metric without values has no points. */
    val metrics: List<Metric>,
) {
    internal constructor(report: MetricsReport) : this(report.since, report.at, report.metrics.map(::Metric))

    /** Returns the metric [name], such as `rocketmq_send_cost_time`, or null if there is none. */
    operator fun get(name: String): Metric? = metrics.find { it.name == name }
}

/** A metric, with a point for each set of labels. */
data class Metric(
    /** The name, such as `rocketmq_send_cost_time`. */
    val name: String,
    /** The description. */
    val description: String,
    /** The unit: `ms`, `By` for bytes, or what is counted in braces, such as `{message}`. */
    val unit: String,
    /** The values, one for each set of labels. */
    val points: List<MetricPoint>,
) {
    internal constructor(
        report: MetricReport
    ) : this(report.name, report.description, report.unit, report.points.map(::MetricPoint))
}

/** The value of a metric for one set of labels. */
data class MetricPoint(
    /** The names and values of the labels, such as `topic` and `orders`. */
    val labels: Map<String, String>,
    /** The value. */
    val value: MetricValue,
) {
    internal constructor(report: PointReport) : this(report.labels, valueOf(report.value))
}

/** The value of a point, by the kind of its metric. */
sealed interface MetricValue {
    /** A count that only grows. */
    data class Counter(
        /** The count. */
        val count: Long
    ) : MetricValue

    /** A current value. */
    data class Gauge(
        /** The value. */
        val value: Long
    ) : MetricValue

    /** A distribution of values. */
    data class Histogram(
        /** The upper bounds of the buckets, ascending. The last bucket has no bound. */
        val bounds: List<Double>,
        /** Values per bucket. It has one entry more than [bounds]; the last is for values above all bounds. */
        val counts: List<Long>,
        /** The sum of all values. */
        val sum: Double,
    ) : MetricValue {
        /** The number of values. */
        val count: Long get() = counts.sum()
    }
}

private fun valueOf(value: ValueReport): MetricValue =
    when (value) {
        is ValueReport.Counter -> MetricValue.Counter(value.count)
        is ValueReport.Gauge -> MetricValue.Gauge(value.value)
        is ValueReport.Histogram -> MetricValue.Histogram(value.bounds, value.counts, value.sum)
    }
