/* SPDX-License-Identifier: Apache-2.0 */
/* The debug-exit port: how a small guest program, which knows no ACPI power-off, says its result.
 */
#ifndef VMM_DEBUG_EXIT_H
#define VMM_DEBUG_EXIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/*
 * One write-only port, LAYOUT_DEBUG_EXIT_PORT, in no ACPI table. A write ends the VM: 0 with
 * EXIT_OK, anything else with EXIT_GUEST_FAILED. Where it is not wanted (an ordinary kernel) it is
 * as if nothing were there.
 */
struct debug_exit {
	/* constant; end is called without locks, on the thread that made the access */
	bool active;
	void (*end)(void *ctx, enum exit_code reason, const char *sentence);
	void *ctx;
};

void debug_exit_init(struct debug_exit *d, bool active,
		     void (*end)(void *ctx, enum exit_code reason, const char *sentence),
		     void *ctx);

/* An access of size bytes (1, 2, 4) that begins at the port; any thread. */
uint64_t debug_exit_read(const struct debug_exit *d, unsigned size);
void debug_exit_write(struct debug_exit *d, unsigned size, uint64_t value);

#endif
