/* SPDX-License-Identifier: Apache-2.0 */
/* The CMOS clock (MC146818): the host's time in UTC, 24-hour BCD, its interrupts, and 114 bytes of NVRAM. */
#ifndef VMM_CMOS_H
#define VMM_CMOS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define CMOS_BYTES 128u
/* The longest that config.wake_after is asked for at once: a step of the host's time is noticed by then. */
#define CMOS_SLEEP_NS UINT64_C(60000000000)

struct cmos_config {
	void *ctx;
	/* Nanoseconds since 1970; any thread. NULL: the host's CLOCK_REALTIME. */
	uint64_t (*now_ns)(void *ctx);
	/* The interrupt line's level; lock held, must not block or call back. May be NULL. */
	void (*line)(void *ctx, bool active);
	/* Call cmos_wake so much later, and not at the time asked for before; UINT64_MAX: not at all. Lock held, must
	 * not block or call back. May be NULL. */
	void (*wake_after)(void *ctx, uint64_t delay_ns);
};

struct cmos {
	struct cmos_config config; /* constant */
	/* lock */
	pthread_mutex_t lock;
	uint8_t index;
	uint8_t enabled;  /* register B's bits of interrupts */
	uint8_t rate;	  /* register A's */
	uint8_t flags;	  /* register C, without the bit for all of them */
	uint64_t seen_ns; /* flags hold what was due until then */
	bool line_active;
	uint8_t ram[CMOS_BYTES]; /* alarm and NVRAM bytes */
};

/* 0 or negative errno. */
int cmos_init(struct cmos *c, const struct cmos_config *config);
void cmos_destroy(struct cmos *c);
/*
 * offset 0: index, 1: data. The clock cannot be set; alarm and NVRAM bytes keep what is written, and so do the bits for
 * interrupts and their rate. Any thread.
 */
uint8_t cmos_read(struct cmos *c, unsigned offset);
void cmos_write(struct cmos *c, unsigned offset, uint8_t value);
/* What config.wake_after asked for. Any thread. */
void cmos_wake(struct cmos *c);

#endif
