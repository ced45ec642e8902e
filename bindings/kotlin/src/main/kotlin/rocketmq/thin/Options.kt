package rocketmq.thin

import java.time.Duration as JavaDuration
import kotlin.time.Duration
import kotlin.time.toJavaDuration

internal fun <N : Number> N.notNegative(argument: String): N = also {
    require(toLong() >= 0) { "$argument must not be negative: $this" }
}

internal fun Duration.notNegative(argument: String): Duration = also {
    require(!isNegative()) { "$argument must not be negative: $this" }
}

internal fun Duration?.toJava(argument: String): JavaDuration? = this?.notNegative(argument)?.toJavaDuration()
