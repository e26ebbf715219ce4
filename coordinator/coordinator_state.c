/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator's one entry: events in, actions out; who the peers are. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/coordinator_internal.h"

struct coordinator *coordinator_new(void)
{
	struct coordinator *co = calloc(1, sizeof(*co));

	if (co) {
		co->grace_ms = CONTROL_GRACE_MS;
		co->deadline_s = CONTROL_DEADLINE_S;
	}
	return co;
}

void coordinator_set_lease(struct coordinator *co, uint64_t incarnation, uint64_t grace_ms)
{
	co->incarnation = incarnation;
	co->grace_ms = grace_ms;
}

void coordinator_set_deadline(struct coordinator *co, unsigned deadline_s)
{
	co->deadline_s = deadline_s;
}

void coordinator_set_keeping(struct coordinator *co, bool keeps)
{
	co->keeps = keeps;
}

void coordinator_free(struct coordinator *co)
{
	for (unsigned i = 0; i < VMS_MAX; i++)
		vm_free(co->vm[i]);
	for (unsigned i = 0; i < NODES_MAX; i++) {
		json_decref(co->node[i].host);
		json_decref(co->node[i].strays);
	}
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		console_leave(&co->peer[i]);
		json_decref(co->peer[i].waits);
	}
	for (unsigned i = 0; i < ENDED_MAX; i++)
		json_decref(co->ended[i].msg);
	kept_free(co);
	past_free(co);
	free(co);
}

void coordinator_actions_free(struct coordinator_actions *actions)
{
	for (size_t i = 0; i < actions->count; i++) {
		json_decref(actions->list[i].msg);
		free(actions->list[i].blob);
	}
	free(actions->list);
	memset(actions, 0, sizeof(*actions));
}

static struct coordinator_action *action_add(struct coordinator *co,
					     enum coordinator_action_type type, uint64_t peer)
{
	struct coordinator_actions *out = co->out;

	if (out->count == out->room) {
		out->room = out->room ? 2 * out->room : 16;
		out->list = realloc(out->list, out->room * sizeof(out->list[0]));
		invariant(out->list != NULL);
	}
	struct coordinator_action *action = &out->list[out->count++];
	memset(action, 0, sizeof(*action));
	action->type = type;
	action->peer = peer;
	return action;
}

static void action_blob(struct coordinator_action *action, const void *blob, size_t len)
{
	if (!len)
		return;
	action->blob = malloc(len);
	invariant(action->blob != NULL);
	memcpy(action->blob, blob, len);
	action->blob_len = len;
}

static void message_add(struct coordinator *co, enum coordinator_action_type type, uint64_t peer,
			json_t *msg, const void *blob, size_t len)
{
	struct coordinator_action *action;

	if (!peer) { /* a node that is away: what it must know it is told when it is back */
		json_decref(msg);
		return;
	}
	action = action_add(co, type, peer);
	action->msg = msg;
	action_blob(action, blob, len);
}

void action_send(struct coordinator *co, uint64_t peer, json_t *msg, const void *blob, size_t len)
{
	message_add(co, COORDINATOR_SEND, peer, msg, blob, len);
}

void action_console(struct coordinator *co, uint64_t peer, json_t *msg, const void *blob,
		    size_t len)
{
	message_add(co, COORDINATOR_CONSOLE, peer, msg, blob, len);
}

void action_log(struct coordinator *co, const char *fmt, ...)
{
	struct coordinator_action *action = action_add(co, COORDINATOR_LOG, 0);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(action->why, sizeof(action->why), fmt, ap);
	va_end(ap);
	control_text_clean(action->why);
}

void action_record(struct coordinator *co, enum coordinator_record kind, const char *vm,
		   json_t *record)
{
	struct coordinator_action *action =
		action_add(co, record ? COORDINATOR_KEEP : COORDINATOR_DROP, 0);

	action->record = kind;
	action->msg = record;
	snprintf(action->why, sizeof(action->why), "%s", vm);
}

void action_files(struct coordinator *co, enum coordinator_action_type type, const char *vm,
		  json_t *msg, const void *blob, size_t len)
{
	struct coordinator_action *action = action_add(co, type, 0);

	snprintf(action->why, sizeof(action->why), "%s", vm);
	action->msg = msg;
	action_blob(action, blob, len);
}

void action_log_read(struct coordinator *co, uint64_t peer, const char *vm, json_t *msg)
{
	struct coordinator_action *action = action_add(co, COORDINATOR_LOG_READ, peer);

	snprintf(action->why, sizeof(action->why), "%s", vm);
	action->msg = msg;
}

json_t *message_make(const char *fmt, ...)
{
	va_list ap;
	json_t *msg;

	va_start(ap, fmt);
	msg = json_vpack_ex(NULL, 0, fmt, ap);
	va_end(ap);
	invariant(msg != NULL);
	return msg;
}

struct vm *vm_find(struct coordinator *co, const char *name)
{
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (co->vm[i] && strcmp(co->vm[i]->name, name) == 0)
			return co->vm[i];
	return NULL;
}

int vm_of_message(struct coordinator *co, const json_t *msg, struct vm **vm, char *why)
{
	uint64_t incarnation;
	const char *name;
	int err;

	if ((err = control_get_name(msg, "vm", &name, why)) ||
	    (err = control_get_id(msg, "incarnation", &incarnation, why)))
		return err;
	*vm = vm_find(co, name);
	if (*vm && (*vm)->incarnation != incarnation)
		*vm = NULL; /* a former VM of that name */
	return 0;
}

static struct peer *peer_find(struct coordinator *co, uint64_t id)
{
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (co->peer[i].id == id)
			return &co->peer[i];
	return NULL;
}

static void peer_opened(struct coordinator *co, const struct coordinator_event *event)
{
	struct peer *peer = peer_find(co, 0);

	if (!peer || (event->role != CONTROL_ROLE_NODE && event->role != CONTROL_ROLE_CLI)) {
		struct coordinator_action *action = action_add(co, COORDINATOR_REFUSE, event->peer);
		snprintf(action->why, sizeof(action->why), "%s",
			 peer ? "the coordinator talks to nodes and to the command line only"
			      : "the coordinator has too many connections");
		return;
	}
	*peer = (struct peer){.id = event->peer,
			      .role = event->role,
			      .heard_ms = event->now_ms,
			      .own = event->own};
}

static struct peer peer_forget(struct peer *peer)
{
	struct peer old = *peer;

	json_decref(old.waits);
	old.waits = NULL;
	console_leave(&old);
	memset(peer, 0, sizeof(*peer));
	return old;
}

/* Its connection has gone, by itself. */
static void peer_closed(struct coordinator *co, struct peer *peer, const char *why, bool ended,
			bool lost)
{
	struct peer old = peer_forget(peer);

	if (old.node && lost)
		node_lost(co, old.node, why);
	else if (old.node)
		node_away(co, old.node, why);
	if (old.vm && old.owner)
		owner_away(co, old.vm, ended);
}

void peer_refuse(struct coordinator *co, struct peer *peer, const char *why)
{
	struct coordinator_action *action = action_add(co, COORDINATOR_REFUSE, peer->id);

	struct peer old = peer_forget(peer);
	char reason[CONTROL_WHY_MAX];

	/* The list of actions moves when it grows. */
	snprintf(action->why, sizeof(action->why), "%s", why);
	snprintf(reason, sizeof(reason), "%s", why);
	if (old.node)
		node_lost(co, old.node, reason);
	if (old.vm && old.owner && owner_bound(old.vm))
		vm_end(co, old.vm, EXIT_STOPPED, NULL, "stopped: its terminal went away");
}

void peer_give_up(struct coordinator *co, struct peer *peer, const char *why)
{
	struct coordinator_action *action = action_add(co, COORDINATOR_REFUSE, peer->id);
	char reason[CONTROL_WHY_MAX];

	snprintf(action->why, sizeof(action->why), "%s", why);
	snprintf(reason, sizeof(reason), "%s", why);
	peer_closed(co, peer, reason, false, false);
}

static void peer_message(struct coordinator *co, struct peer *peer,
			 const struct coordinator_event *event)
{
	peer->heard_ms = co->now_ms;
	if (peer->role == CONTROL_ROLE_NODE)
		node_message(co, peer, event);
	else
		client_message(co, peer, event);
}

/* Connections are few: who holds one and says nothing makes room. A terminal that was stopped may
 * be silent for as long as it likes: it has its VM. */
static void idle_peers_tick(struct coordinator *co)
{
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		struct peer *peer = &co->peer[i];
		if (peer->id && !peer->node && !peer->vm &&
		    co->now_ms >= peer->heard_ms + IDLE_PEER_MS)
			peer_refuse(co, peer, "it wants nothing");
	}
}

void coordinator_step(struct coordinator *co, const struct coordinator_event *event,
		      struct coordinator_actions *out)
{
	struct peer *peer = event->peer ? peer_find(co, event->peer) : NULL;

	co->now_ms = event->now_ms;
	co->unix_s = event->unix_s;
	if (!co->first_ms)
		co->first_ms = co->now_ms;
	co->fresh_secret = event->fresh_secret;
	co->fresh_incarnation = event->fresh_incarnation;
	co->fresh_owner = event->fresh_owner;
	co->out = out;
	switch (event->type) {
	case COORDINATOR_OPENED:
		peer_opened(co, event);
		break;
	case COORDINATOR_MESSAGE:
		/* A peer that was refused may still have had messages under way. */
		if (peer)
			peer_message(co, peer, event);
		break;
	case COORDINATOR_CLOSED:
		if (peer)
			peer_closed(co, peer, event->why, event->ended, event->lost);
		break;
	case COORDINATOR_TICK:
		idle_peers_tick(co);
		nodes_tick(co);
		vms_tick(co);
		kept_tick(co);
		break;
	case COORDINATOR_UNKEPT:
		kept_unkept(co, event->vm, event->why);
		break;
	}
	co->out = NULL;
}
