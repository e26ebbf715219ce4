/* SPDX-License-Identifier: Apache-2.0 */
/* Membership: nodes register, again and again, and say that they live. */
#include <stdio.h>
#include <string.h>

#include "coordinator/coordinator_internal.h"

struct node *node_find(struct coordinator *co, const char *name)
{
	for (unsigned i = 0; i < NODES_MAX; i++)
		if (co->node[i].used && strcmp(co->node[i].name, name) == 0)
			return &co->node[i];
	return NULL;
}

struct node *node_free_slot(struct coordinator *co)
{
	for (unsigned i = 0; i < NODES_MAX; i++)
		if (!co->node[i].used)
			return &co->node[i];
	return NULL;
}

static int data_address_check(const char *address, char *why)
{
	struct sockaddr_storage addr;
	char text[80];

	snprintf(text, sizeof(text), strchr(address, ':') ? "[%.60s]:0" : "%.60s:0", address);
	if (strlen(address) < 60 && control_address_parse(text, &addr) == 0)
		return 0;
	snprintf(why, CONTROL_WHY_MAX, "\"%.60s\" is no numeric data address", address);
	return -EINVAL;
}

static int register_parse(const json_t *msg, struct node *node, char *why)
{
	const char *name, *address;
	int err;

	if ((err = control_get_name(msg, "name", &name, why)) ||
	    (err = control_get_id(msg, "incarnation", &node->incarnation, why)) ||
	    (err = control_get_uint(msg, "cpus", 0, VCPUS_MAX, &node->cpus, why)) ||
	    (err = control_get_u64(msg, "mem_bytes", 0, GUEST_MEM_MAX, &node->mem_bytes, why)) ||
	    (err = control_get_string(msg, "data_address", &address, why)) ||
	    (err = data_address_check(address, why)))
		return err;
	snprintf(node->name, sizeof(node->name), "%s", name);
	snprintf(node->data_address, sizeof(node->data_address), "%s", address);
	if (json_object_get(msg, "host") && (err = control_host_check(msg, &node->host, why)))
		return err;
	node->cpus_free = node->cpus;
	node->mem_free = node->mem_bytes;
	return 0;
}

static struct peer *peer_of_node(struct coordinator *co, const struct node *node)
{
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (co->peer[i].id && co->peer[i].node == node)
			return &co->peer[i];
	return NULL;
}

/* The name is free, or belongs to this very daemon: takes it. */
static void node_enter(struct coordinator *co, struct peer *peer, struct node *node,
		       const json_t *msg)
{
	struct node *slot = node_find(co, node->name);
	char why[CONTROL_WHY_MAX];

	if (slot && slot->incarnation && slot->incarnation != node->incarnation) {
		node_lost(co, slot, "its daemon was started anew");
		slot = NULL;
	} else if (slot) {
		json_decref(slot->host);
		json_decref(slot->strays);
	}
	if (!slot)
		slot = node_free_slot(co);
	if (!slot) {
		json_decref(node->host);
		snprintf(why, sizeof(why), "the coordinator has its %d nodes already", NODES_MAX);
		peer_refuse(co, peer, why);
		return;
	}
	*slot = *node;
	peer->node = slot;
	action_log(co, "node %s registered: %u CPUs, %llu MiB, data address %s", node->name,
		   node->cpus, (unsigned long long)(node->mem_bytes >> 20), node->data_address);
	action_send(co, peer->id,
		    message_make("{s:s, s:o, s:I}", "type", "registered", "incarnation",
				 control_id_json(co->incarnation), "grace_ms",
				 (json_int_t)co->grace_ms),
		    NULL, 0);
	if (inventory_take(co, slot, msg, why) < 0)
		peer_refuse(co, peer, why);
}

/* The connection of this daemon that it has given up itself. */
static void connection_replace(struct coordinator *co, struct node *node)
{
	struct peer *peer = peer_of_node(co, node);

	if (peer)
		peer_give_up(co, peer, "this daemon came back on another connection");
}

static void node_register(struct coordinator *co, struct peer *peer, json_t *msg)
{
	struct node node = {.used = true, .peer = peer->id, .heard_ms = co->now_ms}, *first;
	char why[CONTROL_WHY_MAX];

	if (register_parse(msg, &node, why) < 0) {
		json_decref(node.host);
		peer_refuse(co, peer, why);
		return;
	}
	first = node_find(co, node.name);
	if (first && first->peer && first->incarnation != node.incarnation) {
		/* Does the first one live? nodes_tick decides. */
		json_decref(node.host);
		peer->waits = json_incref(msg);
		peer->waits_from_ms = co->now_ms;
		return;
	}
	if (first && first->peer)
		connection_replace(co, first);
	node_enter(co, peer, &node, msg);
}

/* A daemon whose name another one had when it came. */
static void rival_tick(struct coordinator *co, struct peer *peer)
{
	const char *name = json_string_value(json_object_get(peer->waits, "name"));
	struct node *first = node_find(co, name);
	char why[CONTROL_WHY_MAX];
	json_t *msg;

	if (first && first->peer && first->heard_ms > peer->waits_from_ms) {
		snprintf(why, sizeof(why), "a node named %s is registered already", first->name);
		peer_refuse(co, peer, why);
		return;
	}
	if (first && first->peer) {
		if (co->now_ms < peer->waits_from_ms + RIVAL_WAIT_MS)
			return;
		peer_give_up(co, peer_of_node(co, first), "another daemon has taken its name");
	}
	msg = peer->waits;
	peer->waits = NULL;
	node_register(co, peer, msg);
	json_decref(msg);
}

static void node_leaving(struct node *node, const json_t *msg)
{
	const char *reason;
	char why[CONTROL_WHY_MAX];

	if (control_get_string(msg, "reason", &reason, why) == 0)
		snprintf(node->leaving, sizeof(node->leaving), "%.100s", reason);
}

void node_message(struct coordinator *co, struct peer *peer, const struct coordinator_event *event)
{
	char why[CONTROL_WHY_MAX];

	if (peer->waits)
		return; /* it is told when it is known which one of two lives */
	if (!peer->node && !control_is(event->msg, "register")) {
		peer_refuse(co, peer, "a node must register first");
		return;
	}
	if (peer->node && control_is(event->msg, "register")) {
		peer_refuse(co, peer, "a node can register only once");
		return;
	}
	if (!peer->node) {
		node_register(co, peer, (json_t *)event->msg);
		return;
	}
	peer->node->heard_ms = co->now_ms;
	if (control_is(event->msg, "heartbeat"))
		action_send(co, peer->id, message_make("{s:s}", "type", "heartbeat"), NULL, 0);
	else if (control_is(event->msg, "leaving"))
		node_leaving(peer->node, event->msg);
	else if (node_slice_message(co, peer->node, event, false, why) < 0)
		peer_refuse(co, peer, why);
}

/* Silent nodes are away; those that were away for too long are lost. */
static void node_tick(struct coordinator *co, struct node *node)
{
	char why[CONTROL_WHY_MAX];

	node_drop_if_idle(co, node);
	if (!node->used)
		return;
	if (node->peer && co->now_ms >= node->heard_ms + NODE_SILENCE_MS) {
		snprintf(why, sizeof(why), "no sign of life for %d s", NODE_SILENCE_MS / 1000);
		peer_give_up(co, peer_of_node(co, node), why);
	} else if (!node->peer && co->now_ms >= node->away_until_ms) {
		snprintf(why, sizeof(why), "%.300s; it did not come back within %llu s",
			 node->away_why, (unsigned long long)co->grace_ms / 1000);
		node_lost(co, node, why);
	}
}

void nodes_tick(struct coordinator *co)
{
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (co->peer[i].id && co->peer[i].waits)
			rival_tick(co, &co->peer[i]);
	for (unsigned i = 0; i < NODES_MAX; i++)
		if (co->node[i].used)
			node_tick(co, &co->node[i]);
}
