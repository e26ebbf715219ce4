/* SPDX-License-Identifier: Apache-2.0 */
/* How the guest ends: ACPI sleep and reset registers, older resets, pvpanic, and panic messages. */
#ifndef VMM_POWER_H
#define VMM_POWER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* One console line: longer ones are looked at up to here. */
#define POWER_LINE_MAX 200u

struct power {
	/* constant; called without the lock, on the thread that made the access */
	void (*end)(void *ctx, enum exit_code reason, const char *sentence);
	void (*gave_up)(void *ctx); /* may be NULL */
	void *ctx;
	/* any thread; written under the lock */
	_Atomic uint64_t panic_ns; /* when the panic message came; 0: none counts */
	_Atomic bool panic_final;  /* and the kernel said that it has given up */
	/* lock */
	pthread_mutex_t lock;
	char line[POWER_LINE_MAX + 1]; /* of the console, so far */
	size_t line_len;
	char panic[POWER_LINE_MAX + 1]; /* the panic message seen last */
	unsigned panic_age;		/* lines since; panic is void when it is old */
};

/*
 * end: the guest has ended. gave_up: power_panic's answer has become final; called from
 * power_console_byte, perhaps under the console's lock, and must only wake others. 0 or -errno.
 */
int power_init(struct power *p, void (*end)(void *ctx, enum exit_code reason, const char *sentence),
	       void (*gave_up)(void *ctx), void *ctx);
void power_destroy(struct power *p);

/* The registers, by absolute port; any thread. */
uint8_t power_read(struct power *p, uint16_t port);
void power_write(struct power *p, uint16_t port, uint8_t value);

/*
 * Every byte of console output, in order: watches for the kernel's "Kernel panic - not syncing",
 * since a guest with panic=N just resets a moment later. The message counts for some hundred
 * lines, in case it was only a log that somebody displayed, and not beyond the start of a kernel
 * or an orderly reset: what comes after kdump's or kexec's kernel is that one's affair. Any thread.
 */
void power_console_byte(struct power *p, uint8_t byte);
/*
 * If a panic message was seen a short while ago: true, and the message into text (size bytes).
 * Called when the machine resets, stops or triple-faults: the panic is then the reason.
 */
bool power_panicked(struct power *p, char *text, size_t size);
/*
 * When (clock_now_ns) the panic message that counts came, or 0. *final: the kernel has also printed
 * "---[ end Kernel panic": it neither starts another kernel nor resets, and its CPU waits for ever.
 * Anybody can print both, so they end nothing by themselves. Any thread, no lock.
 */
uint64_t power_panic(const struct power *p, bool *final);

#endif
