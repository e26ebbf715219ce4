/* SPDX-License-Identifier: Apache-2.0 */
/* The CMOS clock. It never updates visibly (UIP clear): each read computes from the host's time. */
#include "vmm/devices/cmos.h"

#include <stdbool.h>
#include <string.h>

#include "base/lock.h"
#include "vmm/boot/layout.h"

enum cmos_register {
	CMOS_SECONDS = 0,
	CMOS_MINUTES = 2,
	CMOS_HOURS = 4,
	CMOS_WEEKDAY = 6, /* 1 is Sunday */
	CMOS_DAY = 7,
	CMOS_MONTH = 8,
	CMOS_YEAR = 9,
	CMOS_STATUS_A = 10,
	CMOS_STATUS_B = 11,
	CMOS_STATUS_C = 12,
	CMOS_STATUS_D = 13
};

#define STATUS_A 0x26u /* 32768 Hz time base, 1024 Hz rate, no update in progress */
#define STATUS_B 0x02u /* 24 hours, BCD, no interrupts */
#define STATUS_D 0x80u /* RAM and time are valid */

static time_t host_now(void *ctx)
{
	(void)ctx;
	return time(NULL);
}

int cmos_init(struct cmos *c, time_t (*now)(void *ctx), void *ctx)
{
	memset(c, 0, sizeof(*c));
	c->now = now ? now : host_now;
	c->ctx = ctx;
	return lock_init(&c->lock);
}

void cmos_destroy(struct cmos *c)
{
	pthread_mutex_destroy(&c->lock);
}

static uint8_t bcd(int value)
{
	return (uint8_t)(value / 10 % 10 << 4 | value % 10);
}

static bool is_clock(uint8_t index)
{
	switch (index) {
	case CMOS_SECONDS:
	case CMOS_MINUTES:
	case CMOS_HOURS:
	case CMOS_WEEKDAY:
	case CMOS_DAY:
	case CMOS_MONTH:
	case CMOS_YEAR:
	case CMOS_STATUS_A:
	case CMOS_STATUS_B:
	case CMOS_STATUS_C:
	case CMOS_STATUS_D:
	case LAYOUT_CMOS_CENTURY:
		return true;
	default:
		return false;
	}
}

static uint8_t clock_read(const struct cmos *c, uint8_t index)
{
	time_t now = c->now(c->ctx);
	struct tm tm;

	if (!gmtime_r(&now, &tm))
		return 0;
	switch (index) {
	case CMOS_SECONDS:
		return bcd(tm.tm_sec > 59 ? 59 : tm.tm_sec);
	case CMOS_MINUTES:
		return bcd(tm.tm_min);
	case CMOS_HOURS:
		return bcd(tm.tm_hour);
	case CMOS_WEEKDAY:
		return bcd(tm.tm_wday + 1);
	case CMOS_DAY:
		return bcd(tm.tm_mday);
	case CMOS_MONTH:
		return bcd(tm.tm_mon + 1);
	case CMOS_YEAR:
		return bcd(tm.tm_year % 100);
	case LAYOUT_CMOS_CENTURY:
		return bcd((tm.tm_year + 1900) / 100);
	case CMOS_STATUS_A:
		return STATUS_A;
	case CMOS_STATUS_B:
		return STATUS_B;
	case CMOS_STATUS_D:
		return STATUS_D;
	default:
		return 0; /* status C: no interrupt */
	}
}

uint8_t cmos_read(struct cmos *c, unsigned offset)
{
	uint8_t value;

	pthread_mutex_lock(&c->lock);
	if (offset == 0)
		value = 0xff; /* write-only */
	else if (is_clock(c->index))
		value = clock_read(c, c->index);
	else
		value = c->ram[c->index];
	pthread_mutex_unlock(&c->lock);
	return value;
}

void cmos_write(struct cmos *c, unsigned offset, uint8_t value)
{
	pthread_mutex_lock(&c->lock);
	if (offset == 0)
		c->index = value & (CMOS_BYTES - 1); /* bit 7 gates NMIs that nobody sends */
	else if (!is_clock(c->index))
		c->ram[c->index] = value;
	pthread_mutex_unlock(&c->lock);
}
