/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Detached VMs: what each was run with is kept, so that it is started again without a client.
 *
 * The table says what is to be; the files (kernel, initrd) are the shell's. A VM that reboots, or crashes, or is
 * reset, ends as any other. Its entry becomes pending, and at its time the shell is asked to start the VM again as
 * a client would (COORDINATOR_AGAIN, by an own peer). The entry is pending until the new VM runs: what goes wrong
 * before that counts as a short life.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/coordinator_internal.h"

struct kept *kept_find(struct coordinator *co, const char *name)
{
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (co->kept[i].name[0] && strcmp(co->kept[i].name, name) == 0)
			return &co->kept[i];
	return NULL;
}

static void kept_clear(struct kept *kept)
{
	json_decref(kept->run);
	json_decref(kept->last);
	memset(kept, 0, sizeof(*kept));
}

void kept_free(struct coordinator *co)
{
	for (unsigned i = 0; i < VMS_MAX; i++)
		kept_clear(&co->kept[i]);
}

/* ---- records ---- */

static json_t *kept_record(const struct kept *kept)
{
	return message_make("{s:s, s:O, s:b, s:i, s:i, s:i, s:s, s:O*}", "vm", kept->name, "run",
			    kept->run, "pending", (int)kept->pending, "restarts",
			    (int)kept->restarts, "short_lives", (int)kept->short_lives, "code",
			    kept->code, "reason", kept->reason, "last", kept->last);
}

static void kept_keep(struct coordinator *co, const struct kept *kept)
{
	action_record(co, COORDINATOR_RECORD_KEPT, kept->name, kept_record(kept));
}

/* Nothing will start it again. */
static void kept_drop(struct coordinator *co, struct kept *kept)
{
	action_record(co, COORDINATOR_RECORD_KEPT, kept->name, NULL);
	action_files(co, COORDINATOR_UNSTORE, kept->name, NULL, NULL, 0);
	kept_clear(kept);
}

static int policy_take(const json_t *run, const char *key, bool *again, char *why)
{
	const char *word = "end";
	int err = json_object_get(run, key) ? control_get_string(run, key, &word, why) : 0;

	*again = strcmp(word, "restart") == 0;
	if (err || *again || strcmp(word, "end") == 0)
		return err;
	snprintf(why, CONTROL_WHY_MAX, "%s is restart or end, not \"%.20s\"", key, word);
	return -EINVAL;
}

/* What follows from the run message. */
static int kept_fill(struct kept *kept, const json_t *run, char *why)
{
	uint64_t kernel, initrd;
	int err;

	if ((err = control_get_u64(run, "kernel_bytes", 1, INT64_MAX / 2, &kernel, why)) ||
	    (err = control_get_u64(run, "initrd_bytes", 0, INT64_MAX / 2, &initrd, why)) ||
	    (err = policy_take(run, "on_reboot", &kept->on_reboot, why)) ||
	    (err = policy_take(run, "on_crash", &kept->on_crash, why)) ||
	    (json_object_get(run, "rm") &&
	     (err = control_get_bool(run, "rm", &kept->unlisted, why))))
		return err;
	kept->bytes = kernel + initrd;
	return 0;
}

static struct kept *kept_slot(struct coordinator *co)
{
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (!co->kept[i].name[0])
			return &co->kept[i];
	return NULL;
}

static int kept_parse(struct kept *kept, const json_t *record, char *why)
{
	json_t *run = json_object_get(record, "run"), *last = json_object_get(record, "last");
	const char *name, *reason;
	unsigned code;
	int err;

	if ((err = control_get_name(record, "vm", &name, why)) ||
	    (err = control_get_bool(record, "pending", &kept->pending, why)) ||
	    (err = control_get_uint(record, "restarts", 0, INT32_MAX, &kept->restarts, why)) ||
	    (err = control_get_uint(record, "short_lives", 0, LIVES_SHORT_MAX, &kept->short_lives,
				    why)) ||
	    (err = control_get_uint(record, "code", 0, 255, &code, why)) ||
	    (err = control_get_string(record, "reason", &reason, why)) ||
	    (err = kept_fill(kept, run, why)))
		return err;
	kept->code = (int)code;
	snprintf(kept->name, sizeof(kept->name), "%s", name);
	snprintf(kept->reason, sizeof(kept->reason), "%s", reason);
	control_text_clean(kept->reason);
	kept->run = json_incref(run);
	kept->last = json_is_object(last) ? json_incref(last) : NULL;
	kept->stored = true;
	return 0;
}

int coordinator_restore_kept(struct coordinator *co, const json_t *record, uint64_t now_ms,
			     char *why)
{
	struct kept kept = {0}, *slot = kept_slot(co);
	int err = kept_parse(&kept, record, why);

	if (!err && (!slot || kept_find(co, kept.name))) {
		snprintf(why, CONTROL_WHY_MAX,
			 "detached VM %s is known already, or is one too many", kept.name);
		err = -PANGEA_ECONTROL;
	}
	/* Its start, or its end, was under way: nothing was promised, or nothing is left to do. */
	if (!err && !kept.pending && !vm_find(co, kept.name)) {
		snprintf(why, CONTROL_WHY_MAX, "detached VM %s ran nowhere", kept.name);
		err = -PANGEA_ECONTROL;
	}
	if (err) {
		kept_clear(&kept);
		return err;
	}
	/* First its node comes back. */
	kept.due_ms = now_ms + DAEMONS_RETURN_MS;
	*slot = kept;
	return 0;
}

/* ---- the first start ---- */

int kept_room(const struct coordinator *co, const json_t *run, uint64_t bytes, char *why)
{
	struct kept probe = {0};
	uint64_t all = bytes;
	unsigned count = 0;

	for (unsigned i = 0; i < VMS_MAX; i++) {
		count += co->kept[i].name[0] != 0;
		all += co->kept[i].bytes;
	}
	if (!co->keeps)
		snprintf(why, CONTROL_WHY_MAX,
			 "the coordinator has no place for a detached VM's kernel: it needs "
			 "--state-dir");
	else if (count == VMS_MAX)
		snprintf(why, CONTROL_WHY_MAX, "the coordinator has its %d detached VMs already",
			 VMS_MAX);
	else if (bytes > KEPT_BYTES_MAX || all > KEPT_BYTES_MAX)
		snprintf(why, CONTROL_WHY_MAX,
			 "the kernels and initrds of all detached VMs have 4 GiB at most: %llu MiB "
			 "would be too many",
			 (unsigned long long)(all >> 20));
	else if (json_dumpb(run, NULL, 0, JSON_COMPACT) > KEPT_RUN_MAX)
		snprintf(why, CONTROL_WHY_MAX, "what a detached VM is run with is too long");
	else
		return kept_fill(&probe, run, why);
	return -PANGEA_ENOFIT;
}

void kept_add(struct coordinator *co, const struct vm *vm, const json_t *run, uint64_t bytes)
{
	struct kept *kept = kept_slot(co);
	char why[CONTROL_WHY_MAX];

	invariant(kept != NULL); /* kept_room */
	kept->run = json_deep_copy(run);
	invariant(kept->run != NULL && kept_fill(kept, run, why) == 0 && kept->bytes == bytes);
	json_object_set_new(kept->run, "name", json_string(vm->name));
	json_object_set_new(kept->run, "console", json_false());
	snprintf(kept->name, sizeof(kept->name), "%s", vm->name);
	action_files(co, COORDINATOR_UNSTORE, kept->name, NULL, NULL, 0);
}

void kept_store(struct coordinator *co, const struct vm *vm, const char *file, uint64_t offset,
		const void *blob, size_t len)
{
	const struct kept *kept = kept_find(co, vm->name);

	if (!kept || kept->stored || !len)
		return;
	/* No more than was announced is ever kept. */
	if (offset > kept->bytes || len > kept->bytes - offset)
		return;
	action_files(co, COORDINATOR_STORE, vm->name,
		     message_make("{s:s, s:I}", "file",
				  strcmp(file, "kernel") == 0 ? "kernel" : "initrd", "offset",
				  (json_int_t)offset),
		     blob, len);
}

void kept_store_seed(struct coordinator *co, const struct vm *vm, const uint8_t *seed)
{
	action_files(co, COORDINATOR_STORE, vm->name,
		     message_make("{s:s, s:i}", "file", "seed", "offset", 0), seed,
		     CONTROL_SEED_BYTES);
}

void kept_stored(struct coordinator *co, const struct vm *vm)
{
	struct kept *kept = kept_find(co, vm->name);

	if (!kept || kept->stored)
		return;
	kept->stored = true;
	action_files(co, COORDINATOR_STORED, vm->name, NULL, NULL, 0);
	kept_keep(co, kept);
}

void kept_running(struct coordinator *co, const struct vm *vm)
{
	struct kept *kept = kept_find(co, vm->name);

	if (!kept || !kept->pending)
		return;
	kept->pending = false;
	kept->restarts++;
	json_decref(kept->last);
	kept->last = NULL;
	kept_keep(co, kept);
}

/* ---- ends ---- */

/* What the VM did, that it is started again for; null: nothing. */
static const char *cause_find(const struct kept *kept, const struct vm *vm)
{
	/* A start that failed; but who stops it means it. */
	if (kept->pending)
		return vm->code == EXIT_STOPPED ? NULL : vm->reason;
	if (vm->again && vm->code == EXIT_RESET)
		return "it was reset";
	if (kept->on_reboot && vm->code == EXIT_RESET)
		return "the guest rebooted";
	if (kept->on_crash && (vm->code == EXIT_PANIC || vm->code == EXIT_TRIPLE_FAULT))
		return "the guest crashed";
	return NULL;
}

/* Counts a life; false: there were too many short ones. */
static bool life_count(struct coordinator *co, struct kept *kept, bool lived)
{
	unsigned pause_s = 0;

	kept->short_lives = lived ? 0 : kept->short_lives + 1;
	if (kept->short_lives > LIVES_SHORT_MAX)
		return false;
	if (kept->short_lives > 1)
		pause_s = 1u << (kept->short_lives - 2);
	if (pause_s > AGAIN_PAUSE_S_MAX)
		pause_s = AGAIN_PAUSE_S_MAX;
	kept->due_ms = co->now_ms + (uint64_t)pause_s * 1000;
	return true;
}

static void reason_keep(struct kept *kept, int code, const char *reason)
{
	kept->code = code;
	snprintf(kept->reason, sizeof(kept->reason), "%s", reason);
}

#define TOO_OFTEN "it is not started again: %d times in a row it lived for less than %d s"

bool kept_ended(struct coordinator *co, struct vm *vm)
{
	struct kept *kept = kept_find(co, vm->name);
	const char *cause = kept && kept->stored ? cause_find(kept, vm) : NULL;
	bool lived = vm->ran_ms && co->now_ms - vm->ran_ms >= LIFE_SHORT_MS;
	size_t used = strlen(vm->reason);

	if (!kept)
		return false;
	if (cause && life_count(co, kept, lived)) {
		kept->pending = true;
		reason_keep(kept, vm->code, vm->reason);
		json_decref(kept->last);
		kept->last = vm_json(co, vm, false);
		kept_keep(co, kept);
		action_log(co, "VM %s is started again: %s", vm->name, cause);
		return true;
	}
	if (cause)
		snprintf(vm->reason + used, sizeof(vm->reason) - used, "; " TOO_OFTEN,
			 LIVES_SHORT_MAX, LIFE_SHORT_MS / 1000);
	return false;
}

void kept_forget(struct coordinator *co, const char *name)
{
	struct kept *kept = kept_find(co, name);

	if (kept)
		kept_drop(co, kept);
}

/* What waited to be started again is not. */
static void kept_give_up(struct coordinator *co, struct kept *kept, int code, const char *reason)
{
	json_t *entry = kept->last ? json_deep_copy(kept->last) : json_object();
	char clean[CONTROL_WHY_MAX];

	invariant(entry != NULL);
	snprintf(clean, sizeof(clean), "%s", reason);
	control_text_clean(clean);
	json_object_set_new(entry, "name", json_string(kept->name));
	json_object_set_new(entry, "state", json_string("ended"));
	json_object_set_new(entry, "code", json_integer(code));
	json_object_set_new(entry, "reason", json_string(clean));
	json_object_set_new(entry, "restarts", json_integer((json_int_t)kept->restarts));
	json_object_set_new(entry, "ended_s", json_integer((json_int_t)co->unix_s));
	action_log(co, "VM %s is not started again: %s", kept->name, clean);
	if (kept->unlisted) {
		action_files(co, COORDINATOR_LOG_REMOVE, kept->name, NULL, NULL, 0);
		json_decref(entry);
	} else {
		past_add(co, kept->name, entry);
	}
	kept_drop(co, kept);
}

void kept_failed(struct coordinator *co, struct kept *kept, int code, const char *why)
{
	char reason[CONTROL_WHY_MAX];

	if (life_count(co, kept, false)) {
		reason_keep(kept, code, why);
		control_text_clean(kept->reason);
		kept_keep(co, kept);
		action_log(co, "VM %s could not be started again, and is tried once more: %.250s",
			   kept->name, why);
		return;
	}
	snprintf(reason, sizeof(reason), "%.200s; " TOO_OFTEN, why, LIVES_SHORT_MAX,
		 LIFE_SHORT_MS / 1000);
	kept_give_up(co, kept, code, reason);
}

bool kept_stop(struct coordinator *co, struct peer *peer, const json_t *msg)
{
	const char *name = json_string_value(json_object_get(msg, "vm"));
	struct kept *kept = name ? kept_find(co, name) : NULL;

	if (!kept || !kept->pending || vm_find(co, name))
		return false;
	action_send(co, peer->id,
		    message_make("{s:s, s:s, s:i, s:s, s:s, s:[]}", "type", "vm-ended", "vm",
				 kept->name, "code", EXIT_STOPPED, "reason",
				 exit_text(EXIT_STOPPED), "lost", "", "slices"),
		    NULL, 0);
	kept_give_up(co, kept, EXIT_STOPPED, exit_text(EXIT_STOPPED));
	return true;
}

void kept_unkept(struct coordinator *co, const char *name, const char *why)
{
	struct kept *kept = kept_find(co, name);
	struct vm *vm = vm_find(co, name);

	if (!kept)
		return;
	if (vm) {
		kept_drop(co, kept);
		vm_end(co, vm, EXIT_ERROR, NULL, why);
	} else {
		kept_give_up(co, kept, EXIT_ERROR, why);
	}
}

void kept_tick(struct coordinator *co)
{
	for (unsigned i = 0; i < VMS_MAX; i++) {
		struct kept *kept = &co->kept[i];
		if (!kept->name[0] || !kept->pending || co->now_ms < kept->due_ms ||
		    vm_find(co, kept->name))
			continue;
		kept->due_ms = co->now_ms + AGAIN_WAIT_MS;
		action_files(co, COORDINATOR_AGAIN, kept->name, json_incref(kept->run), NULL, 0);
	}
}

json_t *kept_json(const struct kept *kept)
{
	json_t *out = json_deep_copy(kept->last);

	invariant(out != NULL);
	json_object_set_new(out, "state", json_string("restarting"));
	json_object_set_new(out, "code", json_integer(kept->code));
	json_object_set_new(out, "reason", json_string(kept->reason));
	json_object_set_new(out, "restarts", json_integer((json_int_t)kept->restarts));
	return out;
}

bool coordinator_keeps_files(const struct coordinator *co, const char *vm)
{
	return kept_find((struct coordinator *)co, vm) != NULL;
}
