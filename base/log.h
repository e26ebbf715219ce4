/* SPDX-License-Identifier: Apache-2.0 */
/* Logging to standard error: one line a call, with date (UTC), tag and level; to the journal, with priorities. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdarg.h>

enum log_level {
	LOG_ERROR,
	LOG_WARN,
	LOG_INFO,
	LOG_DEBUG
};

/* Sets the process's tag ("pangead node0") and threshold, and looks what stderr is; before threads
 * start. */
void log_init(const char *tag, enum log_level threshold);
/* Another tag; stderr stays as log_init found it. Before threads start. */
void log_tag_set(const char *tag);
/* Parses "error", "warn", "info" or "debug"; returns the level, or -EINVAL. */
int log_level_parse(const char *name);
/* Writes one line with a single write(2); any thread. Never fails and never waits for a reader: a
 * full stderr loses the line, and the next one is preceded by the number of those lost. */
void log_line(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)

/*
 * An invariant of our own, checked in release builds too: says what broke and aborts. Never for
 * anything that comes from the wire, the guest, a file or a flag.
 */
#define invariant(cond)                                                                            \
	do {                                                                                       \
		if (__builtin_expect(!(cond), 0))                                                  \
			invariant_failed(#cond, __FILE__, __LINE__);                               \
	} while (0)

_Noreturn void invariant_failed(const char *cond, const char *file, int line);

#endif
