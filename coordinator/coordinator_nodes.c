/* SPDX-License-Identifier: Apache-2.0 */
/* Membership: nodes register, say that they live, and are lost. */
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

static struct node *node_free_slot(struct coordinator *co)
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

static void node_register(struct coordinator *co, struct peer *peer, const json_t *msg)
{
	struct node *slot = node_free_slot(co);
	struct node node = {.used = true, .peer = peer->id, .heard_ms = co->now_ms};
	char why[CONTROL_WHY_MAX];

	if (register_parse(msg, &node, why) < 0) {
		peer_refuse(co, peer, why);
		return;
	}
	if (node_find(co, node.name))
		snprintf(why, sizeof(why), "a node named %s is registered already", node.name);
	else if (!slot)
		snprintf(why, sizeof(why), "the coordinator has its %d nodes already", NODES_MAX);
	else
		why[0] = 0;
	if (why[0]) {
		json_decref(node.host);
		peer_refuse(co, peer, why);
		return;
	}
	*slot = node;
	peer->node = slot;
	action_log(co, "node %s registered: %u CPUs, %llu MiB, data address %s", node.name,
		   node.cpus, (unsigned long long)(node.mem_bytes >> 20), node.data_address);
	action_send(co, peer->id, message_make("{s:s}", "type", "registered"), NULL, 0);
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

	if (!peer->node && !control_is(event->msg, "register")) {
		peer_refuse(co, peer, "a node must register first");
		return;
	}
	if (peer->node && control_is(event->msg, "register")) {
		peer_refuse(co, peer, "a node can register only once");
		return;
	}
	if (!peer->node) {
		node_register(co, peer, event->msg);
		return;
	}
	peer->node->heard_ms = co->now_ms;
	if (control_is(event->msg, "heartbeat"))
		action_send(co, peer->id, message_make("{s:s}", "type", "heartbeat"), NULL, 0);
	else if (control_is(event->msg, "leaving"))
		node_leaving(peer->node, event->msg);
	else if (node_slice_message(co, peer->node, event, why) < 0)
		peer_refuse(co, peer, why);
}

static bool vm_forget_node(struct vm *vm, const struct node *node)
{
	bool had = false;

	for (unsigned i = 0; i < vm->slices; i++) {
		if (vm->slice[i].node != node)
			continue;
		had |= vm->slice[i].state != SLICE_GONE;
		slice_gone(&vm->slice[i]);
		vm->slice[i].node = NULL;
	}
	return had;
}

void node_lost(struct coordinator *co, struct node *node, const char *why)
{
	struct node old = *node;
	char reason[CONTROL_WHY_MAX];

	snprintf(reason, sizeof(reason), "lost node %s (%.200s)", old.name,
		 old.leaving[0] ? old.leaving : why);
	action_log(co, "%s", reason);
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (co->vm[i] && vm_forget_node(co->vm[i], node))
			vm_end(co, co->vm[i], EXIT_NODE_LOST, old.name, reason);
	/* Those that had ended on this node may wait for nothing but it. */
	json_decref(node->host);
	memset(node, 0, sizeof(*node));
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (co->vm[i])
			vm_finish_if_done(co, co->vm[i]);
}

void nodes_tick(struct coordinator *co)
{
	char why[CONTROL_WHY_MAX];

	for (unsigned i = 0; i < PEERS_MAX; i++) {
		struct peer *peer = &co->peer[i];
		if (!peer->id || !peer->node || co->now_ms < peer->node->heard_ms + NODE_SILENCE_MS)
			continue;
		snprintf(why, sizeof(why), "no sign of life for %d s", NODE_SILENCE_MS / 1000);
		peer_refuse(co, peer, why);
	}
}
