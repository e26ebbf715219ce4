/* SPDX-License-Identifier: Apache-2.0 */
/* Where log lines go: standard error, without ever waiting for who reads it. */
#ifndef BASE_LOG_SINK_H
#define BASE_LOG_SINK_H

#include <stdbool.h>
#include <stddef.h>

/* Finds out what standard error is. Before threads start; may be called again. */
void log_sink_open(void);
/* Whether it is the journal of systemd, which has times of its own and takes a priority before each line. */
bool log_sink_journal(void);
/*
 * Writes a line that ends in a newline, at most PIPE_BUF bytes. Any thread; does not block on a
 * pipe, terminal or socket that nobody reads: the line is lost then, and the next one that goes out
 * is preceded by one that tells how many were. A file takes lines as fast as the host's disk does.
 */
void log_sink_write(const char *line, size_t len);

#endif
