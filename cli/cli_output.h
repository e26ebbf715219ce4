/* SPDX-License-Identifier: Apache-2.0 */
/* Standard output for the guest's console: taken at once, written by a thread of its own. */
#ifndef CLI_CLI_OUTPUT_H
#define CLI_CLI_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What waits for a reader that is slow or paused: some ten thousand lines. */
#define OUTPUT_BYTES_MAX (1u << 20)

struct output;

/* Starts the thread that writes to fd. Null without memory or thread. */
struct output *output_new(int fd);
/*
 * Takes bytes for the writer; any one thread, never waits. What does not fit is dropped, and a mark
 * (control_console_mark) follows once half of the room is free again, or at the end. 0, or -EPIPE
 * when fd cannot be written any more.
 */
int output_write(struct output *output, const void *data, size_t len);
/* The same for bytes that were dropped before they came here. */
void output_lost(struct output *output, uint64_t bytes);
/*
 * Waits until all is written, at most limit_ms (0: for as long as it takes), and frees it. After the
 * limit the thread may still sit in write(2): then it keeps its memory until the process ends.
 */
void output_close(struct output *output, unsigned limit_ms);

#endif
