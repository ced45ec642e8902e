package rocketmq.thin

import java.time.Instant
import rocketmq.thin.internal.MetricReport
import rocketmq.thin.internal.MetricsReport
import rocketmq.thin.internal.PointReport
import rocketmq.thin.internal.ValueReport

/** What a client has counted since it was made. The names are those of Apache's clients. Times are in milliseconds. */
data class Metrics(
    /** When counting began. */
    val since: Instant,
    /** When this snapshot was taken. */
    val at: Instant,
    /** Each metric once. One that has counted nothing has no points. */
    val metrics: List<Metric>,
) {
    internal constructor(report: MetricsReport) : this(report.since, report.at, report.metrics.map(::Metric))

    /** The metric called [name], such as `rocketmq_send_cost_time`, or null if there is none. */
    operator fun get(name: String): Metric? = metrics.find { it.name == name }
}

/** A metric, with a point for each set of labels. */
data class Metric(
    /** Its name, such as `rocketmq_send_cost_time`. */
    val name: String,
    /** What it measures. */
    val description: String,
    /** `ms`, `By` for bytes, or a word in braces for a count of things, such as `{message}`. */
    val unit: String,
    /** Its values. */
    val points: List<MetricPoint>,
) {
    internal constructor(
        report: MetricReport
    ) : this(report.name, report.description, report.unit, report.points.map(::MetricPoint))
}

/** The value of a metric for one set of labels. */
data class MetricPoint(
    /** Names and values, such as `topic` and `orders`. */
    val labels: Map<String, String>,
    /** The value. */
    val value: MetricValue,
) {
    internal constructor(report: PointReport) : this(report.labels, valueOf(report.value))
}

/** A value, and what kind of value it is. */
sealed interface MetricValue {
    /** A count that only grows. */
    data class Counter(
        /** The count. */
        val count: Long
    ) : MetricValue

    /** A value as it is now. */
    data class Gauge(
        /** The value. */
        val value: Long
    ) : MetricValue

    /** How values are distributed. */
    data class Histogram(
        /** The highest value of each bucket but the last, ascending. */
        val bounds: List<Double>,
        /** How many values each bucket holds: one more than [bounds], the last for what is above all of them. */
        val counts: List<Long>,
        /** The sum of all values. */
        val sum: Double,
    ) : MetricValue {
        /** How many values it holds. */
        val count: Long get() = counts.sum()
    }
}

private fun valueOf(value: ValueReport): MetricValue =
    when (value) {
        is ValueReport.Counter -> MetricValue.Counter(value.count)
        is ValueReport.Gauge -> MetricValue.Gauge(value.value)
        is ValueReport.Histogram -> MetricValue.Histogram(value.bounds, value.counts, value.sum)
    }
