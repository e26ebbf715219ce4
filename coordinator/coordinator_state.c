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
	return calloc(1, sizeof(struct coordinator));
}

void coordinator_free(struct coordinator *co)
{
	for (unsigned i = 0; i < VMS_MAX; i++)
		vm_free(co->vm[i]);
	for (unsigned i = 0; i < NODES_MAX; i++)
		json_decref(co->node[i].host);
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

static void message_add(struct coordinator *co, enum coordinator_action_type type, uint64_t peer,
			json_t *msg, const void *blob, size_t len)
{
	struct coordinator_action *action = action_add(co, type, peer);

	action->msg = msg;
	if (len) {
		action->blob = malloc(len);
		invariant(action->blob != NULL);
		memcpy(action->blob, blob, len);
		action->blob_len = len;
	}
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
	*peer = (struct peer){.id = event->peer, .role = event->role, .heard_ms = event->now_ms};
}

static void peer_forget(struct coordinator *co, struct peer *peer, const char *why)
{
	struct peer old = *peer;

	memset(peer, 0, sizeof(*peer));
	if (old.node)
		node_lost(co, old.node, why);
	if (old.vm && old.owner)
		vm_end(co, old.vm, EXIT_STOPPED, NULL, "stopped: its terminal went away");
}

void peer_refuse(struct coordinator *co, struct peer *peer, const char *why)
{
	struct coordinator_action *action = action_add(co, COORDINATOR_REFUSE, peer->id);

	snprintf(action->why, sizeof(action->why), "%s", why);
	peer_forget(co, peer, action->why);
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
	co->fresh_key = event->fresh_key;
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
			peer_forget(co, peer, event->why);
		break;
	case COORDINATOR_TICK:
		idle_peers_tick(co);
		nodes_tick(co);
		vms_tick(co);
		break;
	}
	co->out = NULL;
}
