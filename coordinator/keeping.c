/* SPDX-License-Identifier: Apache-2.0 */
/* Records, kept files and console logs, as the state machine asks for them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "coordinator/keeping.h"
#include "coordinator/state_dir.h"
#include "coordinator/vm_files.h"
#include "coordinator/vm_log.h"

static const char *const kinds[] = {
	[COORDINATOR_RECORD_VM] = "vm",
	[COORDINATOR_RECORD_KEPT] = "kept",
	[COORDINATOR_RECORD_ENDED] = "ended",
};

/* What a VM that cannot be written means for it. */
static const char *const means[] = {
	[COORDINATOR_RECORD_VM] = "its daemons have the record, too",
	[COORDINATOR_RECORD_KEPT] = "a coordinator that is started anew will not start it again",
	[COORDINATOR_RECORD_ENDED] = "a coordinator that is started anew will not list it",
};

static void record_do(const struct keeping *keeping, const struct coordinator_action *action)
{
	const char *kind = kinds[action->record];
	int err = 0;

	if (action->type == COORDINATOR_KEEP)
		err = state_dir_keep(keeping->dir, kind, action->why, action->msg);
	else
		state_dir_drop(keeping->dir, kind, action->why);
	if (err)
		log_error("cannot write VM %s into %s: %s; %s", action->why, keeping->dir,
			  error_text(err), means[action->record]);
}

/* Without its files a detached VM is not what was promised. */
static void files_do(struct keeping *keeping, const struct coordinator_action *action)
{
	const char *file = json_string_value(json_object_get(action->msg, "file"));
	uint64_t offset = (uint64_t)json_integer_value(json_object_get(action->msg, "offset"));
	char why[CONTROL_WHY_MAX];
	int err;

	if (action->type == COORDINATOR_STORE)
		err = vm_files_store(keeping->dir, action->why, file, offset, action->blob,
				     action->blob_len);
	else
		err = vm_files_seal(keeping->dir, action->why);
	if (!err)
		return;
	snprintf(why, sizeof(why),
		 "the coordinator cannot keep the kernel of a detached VM in its state directory: "
		 "%s",
		 error_text(err));
	log_error("VM %s: %s", action->why, why);
	agains_unkept(keeping->agains, action->why, why);
}

static void log_do(const struct keeping *keeping, const struct coordinator_action *action)
{
	const char *incarnation = json_string_value(json_object_get(action->msg, "incarnation"));
	uint64_t offset = (uint64_t)json_integer_value(json_object_get(action->msg, "offset"));
	int err = vm_log_add(keeping->dir, action->why, incarnation, offset, action->blob,
			     action->blob_len);

	/* What is missing has a mark in the log; one line of ours for each piece would fill another disk. */
	if (err)
		log_debug("the console log of VM %s: %s", action->why, error_text(err));
}

bool keeping_do(struct keeping *keeping, const struct coordinator_action *action)
{
	switch (action->type) {
	case COORDINATOR_KEEP:
	case COORDINATOR_DROP:
		if (keeping->dir)
			record_do(keeping, action);
		return true;
	case COORDINATOR_STORE:
	case COORDINATOR_STORED:
		if (keeping->dir)
			files_do(keeping, action);
		return true;
	case COORDINATOR_UNSTORE:
		if (keeping->dir)
			vm_files_remove(keeping->dir, action->why);
		return true;
	case COORDINATOR_LOG_ADD:
		if (keeping->dir)
			log_do(keeping, action);
		return true;
	case COORDINATOR_LOG_REMOVE:
		if (keeping->dir)
			vm_log_remove(keeping->dir, action->why);
		return true;
	case COORDINATOR_SEND:
	case COORDINATOR_CONSOLE:
	case COORDINATOR_REFUSE:
	case COORDINATOR_LOG:
	case COORDINATOR_AGAIN:
	case COORDINATOR_LOG_READ:
		break;
	}
	return false;
}

uint8_t *keeping_log_read(const struct keeping *keeping, const struct coordinator_action *action,
			  size_t *len)
{
	uint64_t offset = (uint64_t)json_integer_value(json_object_get(action->msg, "offset"));
	struct vm_log_piece piece = {0};
	uint8_t *data = malloc(VM_LOG_PIECE);
	int err = keeping->dir ? -ENOMEM : -ENOENT;

	if (data && keeping->dir)
		err = vm_log_read(keeping->dir, action->why, offset, data, &piece);
	if (err)
		json_object_set_new(action->msg, "missing",
				    json_string(keeping->dir ? error_text(err)
							     : "the coordinator has no "
							       "--state-dir to keep logs in"));
	json_object_set_new(action->msg, "offset", json_integer((json_int_t)piece.offset));
	json_object_set_new(action->msg, "lost", json_integer((json_int_t)piece.lost));
	json_object_set_new(action->msg, "end", json_integer((json_int_t)piece.end));
	*len = piece.len;
	return data;
}

/* ---- at the start ---- */

struct loading {
	struct coordinator *co;
	const char *dir;
	unsigned grace_s;
};

static void vm_load(void *arg, const json_t *record)
{
	const struct loading *loading = arg;
	const char *vm = json_string_value(json_object_get(record, "vm"));
	char why[CONTROL_WHY_MAX];

	if (coordinator_restore(loading->co, record, clock_now_ns() / NS_PER_MS, why) < 0)
		log_warn("a record in %s is of no use: %s", loading->dir, why);
	else
		log_info("VM %s: expecting its slices within %u s", vm, loading->grace_s);
}

/* A record of no use goes: it would be read at each start. */
static void kept_load(void *arg, const json_t *record)
{
	const struct loading *loading = arg;
	const char *vm = json_string_value(json_object_get(record, "vm"));
	char why[CONTROL_WHY_MAX];

	if (coordinator_restore_kept(loading->co, record, clock_now_ns() / NS_PER_MS, why) == 0)
		return;
	log_warn("a detached VM in %s is not kept any more: %s", loading->dir, why);
	if (vm && control_name_valid(vm) && !coordinator_keeps_files(loading->co, vm))
		state_dir_drop(loading->dir, kinds[COORDINATOR_RECORD_KEPT], vm);
}

static void ended_load(void *arg, const json_t *record)
{
	const struct loading *loading = arg;
	const char *vm = json_string_value(json_object_get(record, "name"));
	char why[CONTROL_WHY_MAX];

	if (coordinator_restore_ended(loading->co, record, why) == 0)
		return;
	log_warn("a VM that ended, in %s, is not listed any more: %s", loading->dir, why);
	if (vm && control_name_valid(vm))
		state_dir_drop(loading->dir, kinds[COORDINATOR_RECORD_ENDED], vm);
}

static int files_kept(void *arg, const char *vm)
{
	return coordinator_keeps_files(arg, vm);
}

static int log_kept(void *arg, const char *vm)
{
	return coordinator_keeps_log(arg, vm);
}

int keeping_load(struct keeping *keeping, struct coordinator *co, unsigned grace_s)
{
	struct loading loading = {co, keeping->dir, grace_s};
	int err = keeping->dir ? state_dir_open(keeping->dir) : 0;

	if (err || !keeping->dir)
		goto out;
	coordinator_set_keeping(co, true);
	/* The second kind looks for the first. */
	if ((err = state_dir_load(keeping->dir, kinds[COORDINATOR_RECORD_VM], vm_load, &loading)) ||
	    (err = state_dir_load(keeping->dir, kinds[COORDINATOR_RECORD_KEPT], kept_load,
				  &loading)) ||
	    (err = state_dir_load(keeping->dir, kinds[COORDINATOR_RECORD_ENDED], ended_load,
				  &loading)))
		goto out;
	vm_files_sweep(keeping->dir, files_kept, co);
	vm_log_sweep(keeping->dir, log_kept, co);
out:
	if (err)
		log_error("cannot use the state directory %s: %s", keeping->dir,
			  err == -EPERM	  ? "it is no directory of this user alone"
			  : err == -EBUSY ? "another coordinator has it"
					  : error_text(err));
	return err;
}
