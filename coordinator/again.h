/* SPDX-License-Identifier: Apache-2.0 */
/* Starts detached VMs again: own peers of the state machine, which do what a client would, with files of the state
 * directory. One thread. */
#ifndef COORDINATOR_AGAIN_H
#define COORDINATOR_AGAIN_H

#include "coordinator/coordinator_state.h"

struct agains;
/* Takes one event to the state machine. */
typedef void again_event_fn(void *arg, struct coordinator_event *event);

/* dir must outlive it. Null without memory. */
struct agains *agains_new(const char *dir, again_event_fn *event, void *arg);
void agains_free(struct agains *agains);
/* The VM is to be started with this run message, by a peer of this number. Begins in agains_go_on. */
void agains_start(struct agains *agains, const char *vm, const json_t *run, uint64_t peer);
/* A VM's files cannot be kept: the state machine is told in agains_go_on. */
void agains_unkept(struct agains *agains, const char *vm, const char *why);
/* What the state machine says to a peer; false: it is none of these. */
bool agains_take(struct agains *agains, uint64_t peer, const json_t *msg);
/* The state machine has forgotten the peer; false: it is none of these. */
bool agains_refused(struct agains *agains, uint64_t peer);
/* Goes on with all, as far as they can; not from within an event. */
void agains_go_on(struct agains *agains);

#endif
