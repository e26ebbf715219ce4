/* SPDX-License-Identifier: Apache-2.0 */
/* The debug-exit port: a write is the guest program's result, and the end of the VM. */
#include "vmm/devices/debug_exit.h"

#include <stdio.h>

#include "vmm/machine/bus.h"

void debug_exit_init(struct debug_exit *d, bool active,
		     void (*end)(void *ctx, enum exit_code reason, const char *sentence), void *ctx)
{
	d->active = active;
	d->end = end;
	d->ctx = ctx;
}

uint64_t debug_exit_read(const struct debug_exit *d, unsigned size)
{
	(void)d;
	return bus_ones(size);
}

void debug_exit_write(struct debug_exit *d, unsigned size, uint64_t value)
{
	char sentence[64];

	value &= bus_ones(size);
	if (!d->active)
		return;
	if (value == 0) {
		d->end(d->ctx, EXIT_OK, "the guest program passed");
		return;
	}
	snprintf(sentence, sizeof(sentence), "the guest program failed with code %llu",
		 (unsigned long long)value);
	d->end(d->ctx, EXIT_GUEST_FAILED, sentence);
}
