/* SPDX-License-Identifier: Apache-2.0 */
/* When the CMOS clock's interrupts are due: a function of times and registers. */
#ifndef VMM_CMOS_ALARM_H
#define VMM_CMOS_ALARM_H

#include <stdint.h>

/* Bits of register C, and of register B for those that are enabled. */
#define CMOS_PERIODIC 0x40u
#define CMOS_ALARM    0x20u
#define CMOS_UPDATE   0x10u

/* Never. */
#define CMOS_NEVER UINT64_MAX

/* The alarm's registers, in BCD; from 0xc0 on one stands for any value. What is no number never comes. */
struct cmos_alarm {
	uint8_t hours, minutes, seconds;
};

/* The first time after `after_ns` (nanoseconds since 1970) at which one of the kinds (bits) is due. rate: register A's
 * lowest four bits. Pure. */
uint64_t cmos_due(uint8_t kind, const struct cmos_alarm *alarm, uint8_t rate, uint64_t after_ns);

#endif
