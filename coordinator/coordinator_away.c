/* SPDX-License-Identifier: Apache-2.0 */
/* Nodes whose connection was lost: away for the grace time, then lost with their VMs. */
#include <stdio.h>
#include <string.h>

#include "coordinator/coordinator_internal.h"

bool vm_forget_node(struct vm *vm, const struct node *node)
{
	bool had = false;

	for (unsigned i = 0; i < vm->slices; i++) {
		struct slice *slice = &vm->slice[i];
		if (!slice->node || (node ? slice->node != node : slice->node->peer != 0))
			continue;
		had |= slice->state != SLICE_GONE;
		slice_gone(slice);
		slice->node = NULL;
	}
	return had;
}

static bool node_is_idle(const struct coordinator *co, const struct node *node)
{
	for (unsigned i = 0; i < VMS_MAX; i++)
		for (unsigned s = 0; co->vm[i] && s < co->vm[i]->slices; s++)
			if (co->vm[i]->slice[s].node == node)
				return false;
	return true;
}

static void node_clear(struct node *node)
{
	json_decref(node->host);
	json_decref(node->strays);
	memset(node, 0, sizeof(*node));
}

void node_drop_if_idle(struct coordinator *co, struct node *node)
{
	if (node->used && !node->peer && node_is_idle(co, node))
		node_clear(node);
}

void node_lost(struct coordinator *co, struct node *node, const char *why)
{
	char reason[CONTROL_WHY_MAX], name[NAME_MAX_LEN + 1];

	memcpy(name, node->name, sizeof(name));
	snprintf(reason, sizeof(reason), "lost node %s (%.250s)", name,
		 node->leaving[0] ? node->leaving : why);
	action_log(co, "%s", reason);
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (co->vm[i] && vm_forget_node(co->vm[i], node))
			vm_end(co, co->vm[i], EXIT_NODE_LOST, name, reason);
	/* A VM whose slices there had ended before points at it still. */
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (co->vm[i])
			vm_forget_node(co->vm[i], node);
	node_clear(node);
	/* Those that had ended on this node may wait for nothing but it. */
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (co->vm[i])
			vm_finish_if_done(co, co->vm[i]);
}

/* A VM whose node is away. */
static void vm_node_away(struct coordinator *co, struct vm *vm, struct node *node)
{
	char reason[CONTROL_WHY_MAX];

	if (vm->state < VM_RUNNING) {
		/* Half a start is not taken up again. */
		snprintf(reason, sizeof(reason), "lost node %s (%.250s)", node->name,
			 node->away_why);
		if (vm_forget_node(vm, node))
			vm_end(co, vm, EXIT_NODE_LOST, node->name, reason);
	} else if (vm->state >= VM_ENDING && vm->blame_ms) {
		vm->blame_ms = co->now_ms + BLAME_AWAY_MS;
	} else if (vm->state >= VM_ENDING) {
		/* When it is back, its slices belong to no VM any more, and are killed. */
		vm_forget_node(vm, node);
		vm_finish_if_done(co, vm);
	}
}

static bool vm_lives_on(const struct vm *vm, const struct node *node)
{
	for (unsigned i = 0; i < vm->slices; i++)
		if (vm->slice[i].node == node && vm->slice[i].state != SLICE_GONE)
			return true;
	return false;
}

void node_away(struct coordinator *co, struct node *node, const char *why)
{
	if (node->leaving[0]) {
		node_lost(co, node, why);
		return;
	}
	action_log(co, "node %s is away (%.250s)", node->name, why);
	node->peer = 0;
	node->away_until_ms = node->heard_ms + co->grace_ms;
	snprintf(node->away_why, sizeof(node->away_why), "%s", why);
	json_decref(node->strays);
	node->strays = NULL;
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (co->vm[i] && vm_lives_on(co->vm[i], node))
			vm_node_away(co, co->vm[i], node);
	node_drop_if_idle(co, node);
}
