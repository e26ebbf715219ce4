/* SPDX-License-Identifier: Apache-2.0 */
/* The log line writer; the tag and threshold are the process's, set once before threads start. */
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log_sink.h"

static char log_tag[64] = "pangea";
static enum log_level log_threshold = LOG_INFO;

static const char *const level_names[] = {"error", "warn", "info", "debug"};

void log_init(const char *tag, enum log_level threshold)
{
	snprintf(log_tag, sizeof(log_tag), "%s", tag);
	log_threshold = threshold;
	log_sink_open();
}

void log_tag_set(const char *tag)
{
	snprintf(log_tag, sizeof(log_tag), "%s", tag);
}

int log_level_parse(const char *name)
{
	for (int i = LOG_ERROR; i <= LOG_DEBUG; i++)
		if (strcmp(name, level_names[i]) == 0)
			return i;
	return -EINVAL;
}

/* As syslog numbers them; systemd takes such a prefix from standard error. */
static const char *const journal_prefixes[] = {"<3>", "<4>", "<6>", "<7>"};

/* What stands before the message; returns its length. */
static size_t head_write(enum log_level level, char *line, size_t room)
{
	struct timespec now;
	struct tm tm;
	size_t used;

	if (log_sink_journal())
		return (size_t)snprintf(line, room, "%s%s: ", journal_prefixes[level], log_tag);
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	used = strftime(line, room, "%Y-%m-%dT%H:%M:%S", &tm);
	return used + (size_t)snprintf(line + used, room - used,
				       ".%03ldZ %s %s: ", now.tv_nsec / 1000000, log_tag,
				       level_names[level]);
}

static void line_write(enum log_level level, const char *fmt, va_list ap)
{
	char line[1024];
	size_t room = sizeof(line) - 1, used = head_write(level, line, room);
	int n = vsnprintf(line + used, room - used, fmt, ap);
	if (n > 0)
		used = used + (size_t)n < room ? used + (size_t)n : room - 1;
	line[used++] = '\n';
	log_sink_write(line, used);
}

void log_line(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	if (level > log_threshold)
		return;
	va_start(ap, fmt);
	line_write(level, fmt, ap);
	va_end(ap);
}

void invariant_failed(const char *cond, const char *file, int line)
{
	log_line(LOG_ERROR, "broken invariant: %s (%s:%d)", cond, file, line);
	abort();
}
