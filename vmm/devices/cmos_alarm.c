/* SPDX-License-Identifier: Apache-2.0 */
/* The times of periodic, update and alarm interrupts (Motorola's MC146818 data sheet). */
#include "vmm/devices/cmos_alarm.h"

#include <stdbool.h>

#define SECOND_NS   UINT64_C(1000000000)
#define DAY_SECONDS 86400u
#define DAY_MINUTES 1440u
#define ANY	    0xc0u

static bool matches(uint8_t wanted, unsigned value)
{
	return wanted >= ANY || wanted == (value / 10 << 4 | value % 10);
}

/* The first second of a minute that matches, from `from` on; 60: none. */
static unsigned second_find(uint8_t wanted, unsigned from)
{
	while (from < 60 && !matches(wanted, from))
		from++;
	return from;
}

static uint64_t alarm_due(const struct cmos_alarm *a, uint64_t after_ns)
{
	uint64_t first = after_ns / SECOND_NS + 1, day = first / DAY_SECONDS;
	unsigned minute = (unsigned)(first % DAY_SECONDS / 60), from = (unsigned)(first % 60);

	/* A day and the rest of this minute. */
	for (unsigned i = 0; i <= DAY_MINUTES; i++, from = 0) {
		unsigned second = second_find(a->seconds, from);

		if (second < 60 && matches(a->minutes, minute % 60) &&
		    matches(a->hours, minute / 60))
			return ((day * DAY_MINUTES + minute) * 60 + second) * SECOND_NS;
		if (++minute == DAY_MINUTES) {
			minute = 0;
			day++;
		}
	}
	return CMOS_NEVER;
}

/* Table 5: rate 3 is 8,192 Hz, and each further one half of that; 1 and 2 are as 8 and 9. */
static uint64_t periodic_due(uint8_t rate, uint64_t after_ns)
{
	uint64_t hz = rate > 2 ? UINT64_C(32768) >> (rate - 1) : UINT64_C(256) >> (rate - 1);
	uint64_t second = after_ns / SECOND_NS, part = after_ns % SECOND_NS;

	/* Rounded up, so that it is not before its time. */
	return second * SECOND_NS + ((part * hz / SECOND_NS + 1) * SECOND_NS + hz - 1) / hz;
}

uint64_t cmos_due(uint8_t kind, const struct cmos_alarm *alarm, uint8_t rate, uint64_t after_ns)
{
	uint64_t due = CMOS_NEVER, other;

	if (kind & CMOS_UPDATE)
		due = (after_ns / SECOND_NS + 1) * SECOND_NS;
	if (kind & CMOS_ALARM) {
		other = alarm_due(alarm, after_ns);
		due = other < due ? other : due;
	}
	if ((kind & CMOS_PERIODIC) && rate) {
		other = periodic_due(rate, after_ns);
		due = other < due ? other : due;
	}
	return due;
}
