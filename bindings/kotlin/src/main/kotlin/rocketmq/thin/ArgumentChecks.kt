package rocketmq.thin

import java.time.Duration as JavaDuration
import kotlin.time.Duration
import kotlin.time.toJavaDuration

internal fun Int.notNegative(argument: String): Int = also {
    require(this >= 0) { "$argument must not be negative: $this" }
}

internal fun Long.notNegative(argument: String): Long = also {
    require(this >= 0) { "$argument must not be negative: $this" }
}

internal fun Duration.notNegative(argument: String): Duration = also {
    require(!isNegative()) { "$argument must not be negative: $this" }
}

internal fun Int?.toNative(argument: String): ULong? = this?.notNegative(argument)?.toULong()

internal fun Long?.toNative(argument: String): ULong? = this?.notNegative(argument)?.toULong()

internal fun Duration?.toJava(argument: String): JavaDuration? = this?.notNegative(argument)?.toJavaDuration()
