/* SPDX-License-Identifier: Apache-2.0 */
/* The CMOS clock (MC146818): the host's time in UTC, 24-hour BCD, and 114 bytes of NVRAM. */
#ifndef VMM_CMOS_H
#define VMM_CMOS_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#define CMOS_BYTES 128u

struct cmos {
	/* constant */
	time_t (*now)(void *ctx);
	void *ctx;
	/* lock */
	pthread_mutex_t lock;
	uint8_t index;
	uint8_t ram[CMOS_BYTES]; /* alarm and NVRAM bytes */
};

/* now NULL: the host's CLOCK_REALTIME. 0 or negative errno. */
int cmos_init(struct cmos *c, time_t (*now)(void *ctx), void *ctx);
void cmos_destroy(struct cmos *c);
/* offset 0: index, 1: data. The clock cannot be set; alarm and NVRAM bytes keep what is written.
 * Any thread. */
uint8_t cmos_read(struct cmos *c, unsigned offset);
void cmos_write(struct cmos *c, unsigned offset, uint8_t value);

#endif
