/* SPDX-License-Identifier: Apache-2.0 */
/* What `pangea run` and `pangea console` share: one VM's console on our terminal, over a connection
 * that is made again when it is lost. One thread, the loop's. */
#ifndef CLI_CONSOLE_H
#define CLI_CONSOLE_H

#include <stdio.h>

#include "cli/cli.h"

struct console {
	struct client client;
	struct terminal *terminal;
	char vm[NAME_MAX_LEN + 1];
	char incarnation[20]; /* with owner what shows whose it is, if we must come back */
	char owner[20];	      /* empty: we only watch */
	bool known;	      /* the coordinator has told us of the VM */
	bool watches;	      /* nothing is typed */
	bool hidden;	      /* nothing of it is shown or typed */
	uint64_t bytes;	      /* of its output seen so far */
	FILE *log;	      /* of all output; or null */
	const char *log_path;
};

/* Connects, and runs until client_finish; returns the exit code. */
int console_run(struct console *console, const struct client_ops *client_ops,
		const struct terminal_ops *terminal_ops, void *user,
		const struct cli_target *target);
/* Ends with this code and sentence, unless it is at its end already. */
void console_end(struct console *console, int code, const char *sentence);
/* The answer that tells of the VM: what is needed to come back. 0 or -EINVAL and why. */
int console_known(struct console *console, const json_t *msg, char *why);
/* The connection is there again: asks to go on. The answer is "attached". */
void console_ask_again(struct console *console);
/* Output from where we stand on; what is known of it already is left out. 0, or -EPIPE when nobody
 * reads ours. */
int console_output(struct console *console, const json_t *msg, const uint8_t *data, size_t len);
/* "attached", "console-credit", "vm-waiting" and "vm-warning": true if it was one of these. */
bool console_msg(struct console *console, const json_t *msg);
/* vm-ended: ends with its code, or with an error; text is the sentence, which the caller says. */
void console_ended(struct console *console, const json_t *msg, char text[2 * CONTROL_WHY_MAX]);
/* The connection was lost, and shall be made again. */
void console_retry(struct console *console, const char *why);
/* Of struct terminal_ops: sends what was typed. */
void console_input(struct console *console, const uint8_t *data, size_t len);

/* ---- cli_past.c ---- */
/* Takes out of the past of a console what would make a terminal answer; returns the new length. */
size_t console_past_quiet(uint8_t *data, size_t len);

#endif
