/* SPDX-License-Identifier: Apache-2.0 */
/* Slices and nodes that do not answer: who waits for them is told, and at the deadline a VM ends. */
#include <stdio.h>
#include <string.h>

#include "coordinator/coordinator_internal.h"

/* Watchers are told again after so long, and once that is past after as long as they have waited. */
#define WAIT_AGAIN_S 10

static unsigned node_silent_s(const struct coordinator *co, const struct node *node)
{
	uint64_t seconds = co->now_ms > node->heard_ms ? (co->now_ms - node->heard_ms) / 1000 : 0;

	return seconds < CONTROL_SILENT_MAX_S ? (unsigned)seconds : CONTROL_SILENT_MAX_S;
}

/* What a silent node said of its slices is old. */
static struct wait slice_wait(const struct coordinator *co, const struct slice *slice)
{
	struct wait wait = {0};

	if (!slice->node || slice->state != SLICE_STARTED)
		return wait;
	wait.seconds = node_silent_s(co, slice->node);
	wait.node = wait.seconds >= CONTROL_WAIT_S;
	if (!wait.node)
		wait.seconds = slice->silent_s;
	return wait;
}

struct wait vm_wait_find(const struct coordinator *co, const struct vm *vm)
{
	struct wait worst = {0};

	for (unsigned i = 0; i < vm->slices; i++) {
		struct wait wait = slice_wait(co, &vm->slice[i]);
		if (wait.seconds < CONTROL_WAIT_S || wait.seconds <= worst.seconds)
			continue;
		worst = wait;
		worst.slice = i;
	}
	return worst;
}

void vm_wait_whom(const struct vm *vm, const struct wait *wait, char *out, size_t size)
{
	const char *node = vm->slice[wait->slice].node_name;

	if (wait->node)
		snprintf(out, size, "node %s", node);
	else
		snprintf(out, size, "slice %u on node %s", wait->slice, node);
}

void vm_wait_json(const struct coordinator *co, const struct vm *vm, json_t *out)
{
	struct wait wait = {0};
	json_t *waits;

	if (vm->state == VM_RUNNING)
		wait = vm_wait_find(co, vm);
	if (!wait.seconds)
		return;
	waits = message_make("{s:i, s:s}", "seconds", (int)wait.seconds, "node",
			     vm->slice[wait.slice].node_name);
	if (!wait.node)
		json_object_set_new(waits, "slice", json_integer((json_int_t)wait.slice));
	json_object_set_new(out, "waits", waits);
}

/* Into the log, and to whoever runs or watches the VM. */
static void wait_tell(struct coordinator *co, const struct vm *vm, const char *sentence)
{
	action_log(co, "VM %s: %s", vm->name, sentence);
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (co->peer[i].id && co->peer[i].vm == vm)
			action_send(co, co->peer[i].id,
				    message_make("{s:s, s:s, s:s}", "type", "vm-waiting", "vm",
						 vm->name, "sentence", sentence),
				    NULL, 0);
}

static bool wait_same(const struct wait *a, const struct wait *b)
{
	return a->seconds && b->seconds && a->node == b->node && a->slice == b->slice;
}

/* Once when it begins, then less and less often, and once when it ends. */
static void wait_follow(struct coordinator *co, struct vm *vm, const struct wait *now)
{
	char whom[NAME_MAX_LEN + 32], sentence[NAME_MAX_LEN + 96];
	bool same = wait_same(&vm->wait, now);

	if (vm->wait.seconds && !now->seconds) {
		vm_wait_whom(vm, &vm->wait, whom, sizeof(whom));
		snprintf(sentence, sizeof(sentence), "%s answers again", whom);
		wait_tell(co, vm, sentence);
	}
	if (now->seconds && (!same || now->seconds >= vm->wait_next_s)) {
		vm_wait_whom(vm, now, whom, sizeof(whom));
		snprintf(sentence, sizeof(sentence), "waits %u s for %s", now->seconds, whom);
		wait_tell(co, vm, sentence);
		vm->wait_next_s = now->seconds +
				  (now->seconds < 2 * WAIT_AGAIN_S ? WAIT_AGAIN_S : now->seconds);
	}
	vm->wait = *now;
}

void silence_tick(struct coordinator *co, struct vm *vm)
{
	char whom[NAME_MAX_LEN + 32], reason[CONTROL_WHY_MAX];
	struct wait wait;

	/* Before it runs, and when it ends, each step has a deadline of its own. */
	if (vm->state != VM_RUNNING)
		return;
	wait = vm_wait_find(co, vm);
	wait_follow(co, vm, &wait);
	/* A node has its grace time. */
	if (!wait.seconds || wait.node || wait.seconds < co->deadline_s)
		return;
	vm_wait_whom(vm, &wait, whom, sizeof(whom));
	snprintf(reason, sizeof(reason), "lost %s (it did not answer for %u s)", whom,
		 wait.seconds);
	vm_end(co, vm, EXIT_NODE_LOST, vm->slice[wait.slice].node_name, reason);
}
