/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CMOS clock. It never updates visibly (UIP clear): each read computes from the host's time. So do its flags: what
 * became due since they were last looked at is set then. Only an interrupt that is enabled, and whose flag the guest
 * has taken, needs somebody who wakes; an alarm that is forgotten costs nothing.
 */
#include "vmm/devices/cmos.h"

#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/lock.h"
#include "vmm/boot/layout.h"
#include "vmm/devices/cmos_alarm.h"

enum cmos_register {
	CMOS_SECONDS = 0,
	CMOS_ALARM_SECONDS = 1,
	CMOS_MINUTES = 2,
	CMOS_ALARM_MINUTES = 3,
	CMOS_HOURS = 4,
	CMOS_ALARM_HOURS = 5,
	CMOS_WEEKDAY = 6, /* 1 is Sunday */
	CMOS_DAY = 7,
	CMOS_MONTH = 8,
	CMOS_YEAR = 9,
	CMOS_STATUS_A = 10,
	CMOS_STATUS_B = 11,
	CMOS_STATUS_C = 12,
	CMOS_STATUS_D = 13
};

#define STATUS_A   0x20u /* 32768 Hz time base, no update in progress */
#define RATE_MASK  0x0fu
#define RATE_BEGIN 0x06u /* 1024 Hz */
#define STATUS_B   0x02u /* 24 hours, BCD */
#define STATUS_C   0x80u /* one of the others, and it is enabled */
#define STATUS_D   0x80u /* RAM and time are valid */
#define KINDS	   (CMOS_PERIODIC | CMOS_ALARM | CMOS_UPDATE)
#define NS	   UINT64_C(1000000000)

static uint64_t host_now(void *ctx)
{
	struct timespec now;

	(void)ctx;
	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec < 0 ? 0 : (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}

int cmos_init(struct cmos *c, const struct cmos_config *config)
{
	memset(c, 0, sizeof(*c));
	c->config = *config;
	if (!c->config.now_ns)
		c->config.now_ns = host_now;
	c->rate = RATE_BEGIN;
	c->seen_ns = c->config.now_ns(c->config.ctx);
	return lock_init(&c->lock);
}

/* ---- interrupts: lock held ---- */

static struct cmos_alarm alarm_of(const struct cmos *c)
{
	return (struct cmos_alarm){.hours = c->ram[CMOS_ALARM_HOURS],
				   .minutes = c->ram[CMOS_ALARM_MINUTES],
				   .seconds = c->ram[CMOS_ALARM_SECONDS]};
}

/* Sets the flags of what has become due, by the registers as they were until now. */
static void flags_take(struct cmos *c)
{
	static const uint8_t kinds[] = {CMOS_PERIODIC, CMOS_ALARM, CMOS_UPDATE};
	uint64_t now = c->config.now_ns(c->config.ctx);
	struct cmos_alarm alarm = alarm_of(c);

	for (size_t i = 0; i < sizeof(kinds); i++)
		if (!(c->flags & kinds[i]) &&
		    cmos_due(kinds[i], &alarm, c->rate, c->seen_ns) <= now)
			c->flags |= kinds[i];
	c->seen_ns = now;
}

/* The line as the flags have it, and somebody who wakes for what is not due yet. */
static void line_update(struct cmos *c)
{
	bool active = c->flags & c->enabled;
	struct cmos_alarm alarm = alarm_of(c);
	uint64_t due = CMOS_NEVER, delay = CMOS_NEVER;

	if (active != c->line_active && c->config.line)
		c->config.line(c->config.ctx, active);
	c->line_active = active;
	/* One more would be no edge. */
	if (!active)
		due = cmos_due(c->enabled, &alarm, c->rate, c->seen_ns);
	if (due != CMOS_NEVER)
		delay = due - c->seen_ns < CMOS_SLEEP_NS ? due - c->seen_ns : CMOS_SLEEP_NS;
	if (c->config.wake_after)
		c->config.wake_after(c->config.ctx, delay);
}

void cmos_wake(struct cmos *c)
{
	pthread_mutex_lock(&c->lock);
	flags_take(c);
	line_update(c);
	pthread_mutex_unlock(&c->lock);
}

static uint8_t flags_read(struct cmos *c)
{
	uint8_t flags;

	flags_take(c);
	flags = (uint8_t)(c->flags | (c->flags & c->enabled ? STATUS_C : 0));
	c->flags = 0;
	line_update(c);
	return flags;
}

/* A register that says what is due, or an interrupt. */
static bool is_control(uint8_t index)
{
	return index == CMOS_STATUS_A || index == CMOS_STATUS_B || index == CMOS_ALARM_SECONDS ||
	       index == CMOS_ALARM_MINUTES || index == CMOS_ALARM_HOURS;
}

static void control_write(struct cmos *c, uint8_t index, uint8_t value)
{
	flags_take(c);
	if (index == CMOS_STATUS_A)
		c->rate = value & RATE_MASK;
	else if (index == CMOS_STATUS_B)
		c->enabled = value & KINDS;
	else
		c->ram[index] = value;
	line_update(c);
}

/* ---- registers ---- */

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

static uint8_t clock_read(struct cmos *c, uint8_t index)
{
	time_t now = (time_t)(c->config.now_ns(c->config.ctx) / NS);
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
		return (uint8_t)(STATUS_A | c->rate);
	case CMOS_STATUS_B:
		return (uint8_t)(STATUS_B | c->enabled);
	case CMOS_STATUS_D:
		return STATUS_D;
	default:
		return flags_read(c); /* status C */
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
	else if (is_control(c->index))
		control_write(c, c->index, value);
	else if (!is_clock(c->index))
		c->ram[c->index] = value;
	pthread_mutex_unlock(&c->lock);
}
