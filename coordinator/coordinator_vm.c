/* SPDX-License-Identifier: Apache-2.0 */
/* The life of a VM: placing, starting, connecting, booting, running, ending. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/coordinator_internal.h"

static const struct {
	const char *word, *late;
	unsigned deadline_ms;
} states[] = {
#define X(name, word, deadline_ms, late) {word, late, deadline_ms},
	VM_STATES(X)
#undef X
};

const char *vm_state_word(enum vm_state state)
{
	return states[state].word;
}

uint64_t slice_taken(const struct slice *slice)
{
	return slice->mem_bytes + slice->cache_room_bytes;
}

struct vm *vm_create(struct coordinator *co, const char *name, const struct placement *placement)
{
	struct vm *vm = NULL;

	for (unsigned i = 0; i < VMS_MAX && !vm; i++)
		if (!co->vm[i])
			vm = co->vm[i] = calloc(1, sizeof(*vm));
	if (!vm)
		return NULL;
	snprintf(vm->name, sizeof(vm->name), "%s", name);
	memcpy(vm->secret, co->fresh_secret, sizeof(vm->secret));
	vm->incarnation = co->fresh_incarnation;
	vm->owner = co->fresh_owner;
	vm->created_ms = co->now_ms;
	vm->slices = placement->slices;
	for (unsigned i = 0; i < vm->slices; i++) {
		struct node *node = placement->slice[i].node;
		struct slice *slice = &vm->slice[i];
		slice->node = node;
		slice->vcpus = placement->slice[i].vcpus;
		slice->mem_bytes = placement->slice[i].mem_bytes;
		slice->cache_limited = placement->slice[i].cache_limited;
		slice->cache_bytes = placement->slice[i].cache_bytes;
		slice->cache_room_bytes = placement->slice[i].cache_room_bytes;
		snprintf(slice->node_name, sizeof(slice->node_name), "%s", node->name);
		/* Beyond what the node offers there are CPUs by overcommit alone: placement_find. */
		slice->cpus_over =
			slice->vcpus > node->cpus_free ? slice->vcpus - node->cpus_free : 0;
		invariant((placement->overcommit || !slice->cpus_over) &&
			  node->mem_free >= slice_taken(slice));
		node->cpus_free -= slice->vcpus - slice->cpus_over;
		node->mem_free -= slice_taken(slice);
	}
	return vm;
}

void slice_gone(struct slice *slice)
{
	if (slice->state == SLICE_GONE)
		return;
	slice->state = SLICE_GONE;
	/* What a node that is away has free is counted when it is back. */
	if (slice->node && slice->node->peer) {
		slice->node->cpus_free += slice->vcpus - slice->cpus_over;
		slice->node->mem_free += slice_taken(slice);
	}
}

void vm_free(struct vm *vm)
{
	if (!vm)
		return;
	for (unsigned i = 0; i < vm->slices; i++) {
		json_decref(vm->slice[i].rtt_ns);
		json_decref(vm->slice[i].links);
		json_decref(vm->slice[i].stats);
	}
	pair_wipe(vm->secret, sizeof(vm->secret));
	free(vm);
}

void vm_deadline_renew(struct coordinator *co, struct vm *vm)
{
	unsigned ms = states[vm->state].deadline_ms;

	vm->deadline_ms = ms ? co->now_ms + ms : 0;
}

void vm_state_set(struct coordinator *co, struct vm *vm, enum vm_state state)
{
	if (vm->state < VM_ENDING && state == VM_ENDING)
		action_log(co, "VM %s is ending: %s", vm->name, vm->reason);
	vm->state = state;
	vm_deadline_renew(co, vm);
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (co->peer[i].id && co->peer[i].vm == vm)
			action_send(co, co->peer[i].id,
				    message_make("{s:s, s:s, s:s}", "type", "vm-state", "vm",
						 vm->name, "state", states[state].word),
				    NULL, 0);
}

json_t *vm_slices_json(const struct vm *vm, bool with_stats)
{
	json_t *list = json_array();

	for (unsigned i = 0; i < vm->slices; i++) {
		const struct slice *slice = &vm->slice[i];
		json_t *one =
			message_make("{s:s, s:i, s:I}", "node", slice->node_name, "vcpus",
				     (int)slice->vcpus, "mem_bytes", (json_int_t)slice->mem_bytes);
		if (slice->cpus_over)
			json_object_set_new(one, "cpus_over",
					    json_integer((json_int_t)slice->cpus_over));
		if (slice->cache_limited)
			json_object_set_new(one, "cache_bytes",
					    json_integer((json_int_t)slice->cache_bytes));
		if (slice->cache_room_bytes)
			json_object_set_new(one, "cache_room_bytes",
					    json_integer((json_int_t)slice->cache_room_bytes));
		/* All slices lead accesses to where devices are. */
		if (vm_devices_count(vm, i))
			json_object_set_new(one, "devices",
					    json_integer((json_int_t)vm_devices_count(vm, i)));
		if (slice->cpu) {
			json_object_set_new(one, "cpu", json_string(slice->cpu));
			json_object_set_new(one, "cpu_why", json_string(slice->cpu_why));
		}
		if (with_stats && slice->rtt_ns)
			json_object_set(one, "rtt_ns", slice->rtt_ns);
		if (with_stats && slice->links)
			json_object_set(one, "links", slice->links);
		if (with_stats && slice->stats)
			json_object_set(one, "stats", slice->stats);
		invariant(json_array_append_new(list, one) == 0);
	}
	return list;
}

void vm_start(struct coordinator *co, struct vm *vm)
{
	vm->tsc_hz = vm_tsc_choose(vm);
	if (!vm->vendor)
		vm->vendor = vm_vendor_choose(vm);
	vm->features = vm_features_choose(vm);
	vm_state_set(co, vm, VM_STARTING);
	vm_record_keep(co, vm);
	kept_stored(co, vm);
	for (unsigned i = 0; i < vm->slices; i++) {
		json_t *msg =
			message_make("{s:s, s:o, s:i, s:o, s:s, s:s, s:i}", "type", "slice-start",
				     "link_keys", vm_keys_json(vm, i), "epoch", VM_EPOCH, "slices",
				     vm_slices_json(vm, false), "append", vm->append, "cpu", "soft",
				     "connect_timeout_ms", SLICE_CONNECT_TIMEOUT_MS);
		json_object_set_new(msg, "record", vm_record(co, vm));
		json_object_set_new(msg, "cpu", json_string(vm->cpu));
		json_object_set_new(msg, "force", json_boolean(vm->force));
		json_object_set_new(msg, "micro", json_boolean(vm->micro));
		json_object_set_new(msg, "vendor", json_string(vm->vendor));
		json_object_set_new(msg, "features", json_integer((json_int_t)vm->features));
		json_object_set_new(msg, "transport", json_string(vm->transport));
		json_object_set_new(msg, "encryption", json_string(vm->encryption));
		if (vm->slice[i].cache_limited)
			json_object_set_new(msg, "cache_bytes",
					    json_integer((json_int_t)vm->slice[i].cache_bytes));
		json_object_set_new(msg, "deadline_ms",
				    json_integer((json_int_t)co->deadline_s * 1000));
		if (vm->tsc_hz)
			json_object_set_new(msg, "tsc_hz", json_integer((json_int_t)vm->tsc_hz));
		/* Its own; the paths of others' are not its business. */
		if (vm_devices_count(vm, i))
			json_object_set_new(msg, "devices", vm_devices_of(vm, i));
		if (vm->images.count)
			json_object_set_new(msg, "images", control_images_json(&vm->images));
		vm->slice[i].state = SLICE_STARTING;
		slice_send(co, vm, i, msg, NULL, 0);
	}
	/* Nothing is left to make of it: slices make their connections once. */
	pair_wipe(vm->secret, sizeof(vm->secret));
}

/* "host:port" of every slice's data connections. */
static json_t *addresses_make(const struct vm *vm)
{
	json_t *list = json_array();
	char text[80];

	for (unsigned i = 0; i < vm->slices; i++) {
		const char *host = vm->slice[i].node ? vm->slice[i].node->data_address : "";
		snprintf(text, sizeof(text), strchr(host, ':') ? "[%s]:%u" : "%s:%u", host,
			 vm->slice[i].port);
		invariant(json_array_append_new(list, json_string(text)) == 0);
	}
	return list;
}

/* Every slice has said what runs its CPUs. */
static void engines_tell(struct coordinator *co, const struct vm *vm)
{
	for (unsigned i = 0; i < PEERS_MAX; i++)
		if (co->peer[i].id && co->peer[i].vm == vm)
			action_send(co, co->peer[i].id,
				    message_make("{s:s, s:s, s:o}", "type", "vm-engines", "vm",
						 vm->name, "slices", vm_slices_json(vm, false)),
				    NULL, 0);
}

static void slices_connect(struct coordinator *co, struct vm *vm)
{
	json_t *addresses = addresses_make(vm);

	engines_tell(co, vm);
	vm_state_set(co, vm, VM_CONNECTING);
	for (unsigned i = 0; i < vm->slices; i++)
		slice_send(
			co, vm, i,
			message_make("{s:s, s:O}", "type", "slice-connect", "addresses", addresses),
			NULL, 0);
	json_decref(addresses);
}

/* Pairs of slices whose messages go over RDMA. */
static unsigned rdma_pairs(const struct vm *vm)
{
	unsigned ends = 0;

	for (unsigned i = 0; i < vm->slices; i++) {
		const json_t *word;
		size_t j;

		json_array_foreach(vm->slice[i].links, j, word) ends +=
			strcmp(json_string_value(word), "rdma") == 0;
	}
	return ends / 2;
}

/* Every slice has its links: who started the VM is told of those that nothing encrypts. */
static void links_tell(struct coordinator *co, const struct vm *vm)
{
	unsigned pairs = rdma_pairs(vm);

	for (unsigned i = 0; pairs && i < PEERS_MAX; i++)
		if (co->peer[i].id && co->peer[i].vm == vm)
			action_send(co, co->peer[i].id,
				    message_make("{s:s, s:s, s:i}", "type", "vm-links", "vm",
						 vm->name, "rdma_pairs", (int)pairs),
				    NULL, 0);
	if (pairs)
		action_log(co, "VM %s: %u links go over RDMA, which is not encrypted", vm->name,
			   pairs);
}

static void slices_run(struct coordinator *co, struct vm *vm)
{
	json_t *distances = distances_make(vm), *latencies = latencies_make(vm);

	links_tell(co, vm);
	vm_state_set(co, vm, VM_BOOTING);
	for (unsigned i = 0; i < vm->slices; i++)
		slice_send(co, vm, i,
			   message_make("{s:s, s:O, s:O}", "type", "slice-run", "distances",
					distances, "latencies_ns", latencies),
			   NULL, 0);
	json_decref(distances);
	json_decref(latencies);
}

static bool slices_all(const struct vm *vm, enum slice_state state)
{
	for (unsigned i = 0; i < vm->slices; i++)
		if (vm->slice[i].state != state)
			return false;
	return true;
}

void vm_advance(struct coordinator *co, struct vm *vm)
{
	switch (vm->state) {
	case VM_STARTING:
		if (slices_all(vm, SLICE_LISTENING))
			slices_connect(co, vm);
		break;
	case VM_CONNECTING:
		if (slices_all(vm, SLICE_CONNECTED))
			slices_run(co, vm);
		break;
	case VM_BOOTING:
		if (!slices_all(vm, SLICE_STARTED))
			break;
		vm_state_set(co, vm, VM_RUNNING);
		vm->ran_ms = co->now_ms;
		vm->started_s = co->unix_s;
		kept_running(co, vm);
		console_inputs_allow(co, vm);
		action_log(co, "VM %s runs", vm->name);
		break;
	case VM_PLACING:
	case VM_RUNNING:
	case VM_ENDING:
	case VM_KILLING:
		break;
	}
}

static void reason_set(struct vm *vm, int code, const char *lost, const char *reason)
{
	vm->code = code;
	snprintf(vm->reason, sizeof(vm->reason), "%s", reason);
	control_text_clean(vm->reason);
	snprintf(vm->lost, sizeof(vm->lost), "%s", lost ? lost : "");
}

static void slices_stop(struct coordinator *co, struct vm *vm)
{
	vm_state_set(co, vm, VM_ENDING);
	for (unsigned i = 0; i < vm->slices; i++) {
		struct slice *slice = &vm->slice[i];
		if (slice->state == SLICE_PLACED)
			slice_gone(slice);
		else if (slice->state < SLICE_EXITED)
			slice_send(co, vm, i, message_make("{s:s}", "type", "slice-stop"), NULL, 0);
	}
}

void vm_end(struct coordinator *co, struct vm *vm, int code, const char *lost, const char *reason)
{
	if (vm->state < VM_ENDING) {
		reason_set(vm, code, lost, reason);
		slices_stop(co, vm);
		vm_forget_node(vm, NULL);
	} else if (vm->blame_ms && code != EXIT_STOPPED) {
		/* Now it is known why a slice lost its peer. */
		reason_set(vm, code, lost, reason);
		vm->blame_ms = 0;
		vm_forget_node(vm, NULL);
	}
	vm_finish_if_done(co, vm);
}

/* A node of the VM that is away with a slice; null: none. */
static struct node *node_away_of(const struct vm *vm)
{
	for (unsigned i = 0; i < vm->slices; i++)
		if (vm->slice[i].node && !vm->slice[i].node->peer &&
		    vm->slice[i].state != SLICE_GONE)
			return vm->slice[i].node;
	return NULL;
}

void vm_end_hearsay(struct coordinator *co, struct vm *vm, const char *reason)
{
	if (vm->state >= VM_ENDING)
		return;
	reason_set(vm, EXIT_NODE_LOST, NULL, reason);
	vm->blame_ms = co->now_ms + (node_away_of(vm) ? BLAME_AWAY_MS : BLAME_WAIT_MS);
	slices_stop(co, vm);
}

/* A slice that lost its peer lost one that does not answer. */
static void blame_silent(const struct coordinator *co, struct vm *vm)
{
	struct wait wait = vm_wait_find(co, vm);
	char reason[CONTROL_WHY_MAX], whom[NAME_MAX_LEN + 32];

	if (!wait.seconds)
		return;
	vm_wait_whom(vm, &wait, whom, sizeof(whom));
	snprintf(reason, sizeof(reason), "lost %s (it did not answer for %u s)", whom,
		 wait.seconds);
	reason_set(vm, EXIT_NODE_LOST, vm->slice[wait.slice].node_name, reason);
	vm->blame_ms = 0;
}

/* No better reason came; but if a node is away, it is the culprit. */
static void blame_end(const struct coordinator *co, struct vm *vm)
{
	struct node *node = node_away_of(vm);
	char reason[CONTROL_WHY_MAX];

	if (!node) {
		blame_silent(co, vm);
		return;
	}
	snprintf(reason, sizeof(reason), "lost node %s (%.250s)", node->name, node->away_why);
	reason_set(vm, EXIT_NODE_LOST, node->name, reason);
	vm->blame_ms = 0;
	vm_forget_node(vm, NULL);
}

/* It stays in the list, unless nobody wants that. */
static void ended_list(struct coordinator *co, struct vm *vm)
{
	if (vm->unlisted)
		action_files(co, COORDINATOR_LOG_REMOVE, vm->name, NULL, NULL, 0);
	else
		past_add(co, vm->name, vm_inspect_json(co, vm, false));
}

static void ended_tell(struct coordinator *co, struct vm *vm, bool again)
{
	json_t *msg = message_make("{s:s, s:s, s:i, s:s, s:s, s:o}", "type", "vm-ended", "vm",
				   vm->name, "code", vm->code, "reason", vm->reason, "lost",
				   vm->lost, "slices", vm_slices_json(vm, true));

	if (vm->again && vm->code == EXIT_RESET)
		json_object_set_new(msg, "again", json_true());
	if (again)
		json_object_set_new(msg, "restarts", json_true());
	for (unsigned i = 0; i < PEERS_MAX; i++) {
		struct peer *peer = &co->peer[i];
		if (!peer->id || peer->vm != vm)
			continue;
		action_send(co, peer->id, json_incref(msg), NULL, 0);
		peer->vm = NULL;
		peer->owner = false;
		console_leave(peer);
	}
	ended_note(co, vm, msg);
}

void vm_finish_if_done(struct coordinator *co, struct vm *vm)
{
	bool again;

	if (vm->state < VM_ENDING || !slices_all(vm, SLICE_GONE))
		return;
	if (vm->blame_ms > co->now_ms)
		return;
	vm_files_forget(co, vm);
	action_log(co, "VM %s ended with code %d: %s", vm->name, vm->code, vm->reason);
	again = kept_ended(co, vm);
	if (!again) {
		ended_list(co, vm);
		kept_forget(co, vm->name);
	}
	action_record(co, COORDINATOR_RECORD_VM, vm->name, NULL);
	ended_tell(co, vm, again);
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (co->vm[i] == vm)
			co->vm[i] = NULL;
	vm_free(vm);
	for (unsigned i = 0; i < NODES_MAX; i++)
		node_drop_if_idle(co, &co->node[i]);
}

/* Somebody did not do his part in time: names the first such slice. */
static void vm_late(struct coordinator *co, struct vm *vm)
{
	static const enum slice_state wanted[] = {
		[VM_STARTING] = SLICE_LISTENING,
		[VM_CONNECTING] = SLICE_CONNECTED,
		[VM_BOOTING] = SLICE_STARTED,
	};
	char reason[CONTROL_WHY_MAX];
	unsigned i = 0, seconds = states[vm->state].deadline_ms / 1000;

	if (vm->state == VM_PLACING) {
		snprintf(reason, sizeof(reason), "%s at node %s within %u s",
			 states[vm->state].late, vm->slice[0].node_name, seconds);
		vm_end(co, vm, EXIT_ERROR, NULL, reason);
		return;
	}
	while (i + 1 < vm->slices && vm->slice[i].state == wanted[vm->state])
		i++;
	snprintf(reason, sizeof(reason), "slice %u on node %s %s within %u s", i,
		 vm->slice[i].node_name, states[vm->state].late, seconds);
	vm_end(co, vm, EXIT_NODE_LOST, vm->slice[i].node_name, reason);
}

static void slices_kill(struct coordinator *co, struct vm *vm)
{
	vm_state_set(co, vm, VM_KILLING);
	for (unsigned i = 0; i < vm->slices; i++)
		if (vm->slice[i].state != SLICE_GONE)
			slice_send(co, vm, i, message_make("{s:s}", "type", "slice-kill"), NULL, 0);
}

/* A daemon that cannot even kill its slice is cut off; node_lost finishes the VM. */
static void daemons_cut_off(struct coordinator *co, const char *name)
{
	char why[CONTROL_WHY_MAX];

	for (unsigned i = 0; i < PEERS_MAX; i++) {
		struct peer *peer = &co->peer[i];
		struct vm *vm = vm_find(co, name);
		bool guilty = false;
		for (unsigned s = 0; vm && peer->id && peer->node && s < vm->slices; s++)
			guilty |=
				vm->slice[s].node == peer->node && vm->slice[s].state != SLICE_GONE;
		if (!guilty)
			continue;
		snprintf(why, sizeof(why), "its daemon did not end VM %s", name);
		peer_refuse(co, peer, why);
	}
}

static void vm_tick(struct coordinator *co, struct vm *vm)
{
	char name[NAME_MAX_LEN + 1];

	if (vm->blame_ms && co->now_ms >= vm->blame_ms)
		blame_end(co, vm);
	if (vm->deadline_ms && co->now_ms >= vm->deadline_ms && !slices_all(vm, SLICE_GONE)) {
		if (vm->state < VM_ENDING) {
			vm_late(co, vm);
		} else if (vm->state == VM_ENDING) {
			slices_kill(co, vm);
		} else {
			/* The VM is freed on the way: its name must live on. */
			memcpy(name, vm->name, sizeof(name));
			daemons_cut_off(co, name);
		}
		return;
	}
	vm_finish_if_done(co, vm);
}

void vms_tick(struct coordinator *co)
{
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (co->vm[i])
			vm_tick(co, co->vm[i]);
	/* The first may have ended and gone. */
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (co->vm[i])
			owner_tick(co, co->vm[i]);
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (co->vm[i])
			silence_tick(co, co->vm[i]);
}

static void ring_add(struct vm *vm, const uint8_t *data, size_t len)
{
	if (len > CONSOLE_RING_BYTES) {
		data += len - CONSOLE_RING_BYTES;
		len = CONSOLE_RING_BYTES;
	}
	size_t first = CONSOLE_RING_BYTES - vm->ring_at;
	first = first < len ? first : len;
	memcpy(vm->ring + vm->ring_at, data, first);
	memcpy(vm->ring, data + first, len - first);
	vm->ring_at = (vm->ring_at + len) % CONSOLE_RING_BYTES;
	vm->ring_used += len;
	if (vm->ring_used > CONSOLE_RING_BYTES)
		vm->ring_used = CONSOLE_RING_BYTES;
}

uint8_t *vm_console_past(const struct vm *vm, size_t most, size_t *len)
{
	uint8_t *past = malloc(CONSOLE_RING_BYTES);
	size_t start, first;

	invariant(past != NULL);
	*len = most < vm->ring_used ? most : vm->ring_used;
	start = (vm->ring_at + CONSOLE_RING_BYTES - *len) % CONSOLE_RING_BYTES;
	first = CONSOLE_RING_BYTES - start < *len ? CONSOLE_RING_BYTES - start : *len;
	memcpy(past, vm->ring + start, first);
	memcpy(past + first, vm->ring, *len - first);
	return past;
}

void vm_console(struct coordinator *co, struct vm *vm, uint64_t offset, const uint8_t *data,
		size_t len)
{
	uint64_t lost = offset > vm->console_bytes ? offset - vm->console_bytes : 0;
	/* After a link was made again some may come twice. */
	uint64_t known = offset < vm->console_bytes ? vm->console_bytes - offset : 0;
	char mark[CONTROL_MARK_MAX];

	known = known < len ? known : len;
	len -= (size_t)known;
	if (lost) {
		ring_add(vm, (uint8_t *)mark, control_console_mark(lost, mark));
		vm->ring_exact = 0;
	}
	if (len)
		ring_add(vm, data + known, len);
	vm->console_bytes += lost + len;
	vm->ring_exact += len;
	if (vm->ring_exact > vm->ring_used)
		vm->ring_exact = vm->ring_used;
	if (len || lost)
		action_files(co, COORDINATOR_LOG_ADD, vm->name,
			     message_make("{s:o, s:I}", "incarnation",
					  control_id_json(vm->incarnation), "offset",
					  (json_int_t)(vm->console_bytes - len)),
			     data + known, len);
	for (unsigned i = 0; i < PEERS_MAX && (len || lost); i++)
		if (co->peer[i].id && co->peer[i].vm == vm && co->peer[i].console)
			action_console(co, co->peer[i].id,
				       message_make("{s:s, s:s, s:I, s:I}", "type",
						    "console-output", "vm", vm->name, "lost",
						    (json_int_t)lost, "offset",
						    (json_int_t)(vm->console_bytes - len)),
				       data + known, len);
}
