/* SPDX-License-Identifier: Apache-2.0 */
/* Power-off, reset and panic: the registers behind them, and the watch on the console. */
#include "vmm/devices/power.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/lock.h"
#include "vmm/boot/layout.h"

/* SLEEP_CONTROL (ACPI 6.4, 4.8.3.7). */
#define SLEEP_ENABLE  0x20u
#define SLEEP_TYPE(v) ((v) >> 2 & 7)

#define CF9_RESET_CPU 0x04u

#define PVPANIC_PANICKED     0x01u
#define PVPANIC_CRASH_LOADED 0x02u

/* A panic prints its registers and a call trace, some 60 lines; a few CPUs may do so at once. */
#define PANIC_AGE_MAX 300u

static const char panic_mark[] = "Kernel panic - not syncing";
static const char panic_end_mark[] = "---[ end Kernel panic";
/* What only a kernel that lives prints: the panic was another one's, or none. */
static const char *const alive_marks[] = {"Linux version ", "kexec_core: Starting new kernel",
					  "reboot: Restarting system"};

int power_init(struct power *p, void (*end)(void *ctx, enum exit_code reason, const char *sentence),
	       void (*gave_up)(void *ctx), void *ctx)
{
	memset(p, 0, sizeof(*p));
	p->end = end;
	p->gave_up = gave_up;
	p->ctx = ctx;
	return lock_init(&p->lock);
}

void power_destroy(struct power *p)
{
	pthread_mutex_destroy(&p->lock);
}

/* ---- registers ---- */

uint8_t power_read(struct power *p, uint16_t port)
{
	(void)p;
	switch (port) {
	case LAYOUT_SLEEP_CONTROL_PORT:
	case LAYOUT_SLEEP_STATUS_PORT:
	case LAYOUT_RESET_PORT:
	case LAYOUT_RESET_CF9_PORT:
		return 0;
	case LAYOUT_PVPANIC_PORT:
		return PVPANIC_PANICKED | PVPANIC_CRASH_LOADED;
	default:
		return 0xff; /* the keyboard controller is not there */
	}
}

static void power_reset(struct power *p)
{
	char text[POWER_LINE_MAX + 1];

	if (power_panicked(p, text, sizeof(text)))
		p->end(p->ctx, EXIT_PANIC, text);
	else
		p->end(p->ctx, EXIT_RESET, exit_text(EXIT_RESET));
}

void power_write(struct power *p, uint16_t port, uint8_t value)
{
	switch (port) {
	case LAYOUT_SLEEP_CONTROL_PORT:
		if ((value & SLEEP_ENABLE) && SLEEP_TYPE(value) == LAYOUT_SLEEP_TYPE_S5)
			p->end(p->ctx, EXIT_OK, exit_text(EXIT_OK));
		return;
	case LAYOUT_RESET_PORT:
		if (value == LAYOUT_RESET_VALUE)
			power_reset(p);
		return;
	case LAYOUT_RESET_CF9_PORT:
		if (value & CF9_RESET_CPU)
			power_reset(p);
		return;
	case LAYOUT_RESET_KBD_PORT:
		if (value == LAYOUT_RESET_KBD_VALUE)
			power_reset(p);
		return;
	case LAYOUT_PVPANIC_PORT:
		if (value & PVPANIC_PANICKED) {
			char text[POWER_LINE_MAX + 1];

			if (!power_panicked(p, text, sizeof(text)))
				snprintf(text, sizeof(text), "%s", exit_text(EXIT_PANIC));
			p->end(p->ctx, EXIT_PANIC, text);
		}
		return;
	default:
		return;
	}
}

/* ---- the watch on the console ---- */

static bool line_of_the_living(const char *line)
{
	for (size_t i = 0; i < sizeof(alive_marks) / sizeof(alive_marks[0]); i++)
		if (strstr(line, alive_marks[i]))
			return true;
	return false;
}

static void panic_void(struct power *p)
{
	p->panic[0] = '\0';
	atomic_store(&p->panic_ns, 0);
	atomic_store(&p->panic_final, false);
}

/* True: by this line the kernel has given up. */
static bool line_ended(struct power *p)
{
	const char *mark;

	p->line[p->line_len] = '\0';
	p->line_len = 0;
	if (p->panic[0] && (++p->panic_age > PANIC_AGE_MAX || line_of_the_living(p->line)))
		panic_void(p);
	mark = strstr(p->line, panic_mark);
	if (!mark)
		return false;
	/* The "---[ end Kernel panic" line only repeats the first one. */
	if (p->panic[0] && strstr(p->line, panic_end_mark))
		return !atomic_exchange(&p->panic_final, true);
	snprintf(p->panic, sizeof(p->panic), "%s", mark);
	p->panic_age = 0;
	atomic_store(&p->panic_final, false);
	atomic_store(&p->panic_ns, clock_now_ns());
	return false;
}

void power_console_byte(struct power *p, uint8_t byte)
{
	bool final = false;

	pthread_mutex_lock(&p->lock);
	if (byte == '\n')
		final = line_ended(p);
	else if (byte != '\r' && byte != '\0' && p->line_len < POWER_LINE_MAX)
		p->line[p->line_len++] = (char)byte;
	pthread_mutex_unlock(&p->lock);
	if (final && p->gave_up)
		p->gave_up(p->ctx);
}

uint64_t power_panic(const struct power *p, bool *final)
{
	uint64_t ns = atomic_load(&p->panic_ns);

	*final = ns && atomic_load(&p->panic_final);
	return ns;
}

bool power_panicked(struct power *p, char *text, size_t size)
{
	bool panicked;

	pthread_mutex_lock(&p->lock);
	panicked = p->panic[0] != '\0';
	if (panicked)
		snprintf(text, size, "%s", p->panic);
	pthread_mutex_unlock(&p->lock);
	return panicked;
}
