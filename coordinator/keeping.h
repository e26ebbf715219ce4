/* SPDX-License-Identifier: Apache-2.0 */
/* What the coordinator's shell does on disk for the state machine, and reads from there at its start. One thread. */
#ifndef COORDINATOR_KEEPING_H
#define COORDINATOR_KEEPING_H

#include <stdbool.h>

#include "coordinator/again.h"
#include "coordinator/coordinator_state.h"

struct keeping {
	const char *dir;       /* null: nothing outlives this process */
	struct agains *agains; /* who is told of files that cannot be kept; null without dir */
};

/*
 * Does an action that is about records, files and logs, but for COORDINATOR_AGAIN and COORDINATOR_LOG_READ; false: it is
 * about something else. What fails is logged, and told to agains where a detached VM could not be started again.
 */
bool keeping_do(struct keeping *keeping, const struct coordinator_action *action);
/* The answer to COORDINATOR_LOG_READ: fills in the action's message, and returns the piece, which the caller frees; its
 * length in *len. */
uint8_t *keeping_log_read(const struct keeping *keeping, const struct coordinator_action *action,
			  size_t *len);
/* Takes the directory, and gives the state machine what a former coordinator left there. 0, or -errno as
 * state_dir_open; the reason is logged. */
int keeping_load(struct keeping *keeping, struct coordinator *co, unsigned grace_s);

#endif
