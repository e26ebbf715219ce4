/* SPDX-License-Identifier: Apache-2.0 */
/* VMs that have ended stay listed, with their reason, until somebody removes them or newer ones need the place. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/coordinator_internal.h"

void past_free(struct coordinator *co)
{
	for (unsigned i = 0; i < co->pasts; i++)
		json_decref(co->past[i].entry);
	co->pasts = 0;
}

static int past_index(const struct coordinator *co, const char *name)
{
	for (unsigned i = 0; i < co->pasts; i++)
		if (strcmp(co->past[i].name, name) == 0)
			return (int)i;
	return -1;
}

const json_t *past_find(const struct coordinator *co, const char *name)
{
	int i = past_index(co, name);

	return i < 0 ? NULL : co->past[i].entry;
}

/* Out of the table alone. */
static void past_take_out(struct coordinator *co, unsigned i)
{
	json_decref(co->past[i].entry);
	co->pasts--;
	memmove(&co->past[i], &co->past[i + 1], (co->pasts - i) * sizeof(co->past[0]));
}

bool past_remove(struct coordinator *co, const char *name)
{
	int i = past_index(co, name);

	/* A log that is left of a VM that was never listed goes, too. */
	action_files(co, COORDINATOR_LOG_REMOVE, name, NULL, NULL, 0);
	if (i < 0)
		return false;
	action_record(co, COORDINATOR_RECORD_ENDED, name, NULL);
	past_take_out(co, (unsigned)i);
	return true;
}

static void past_put(struct coordinator *co, unsigned at, const char *name, json_t *entry)
{
	memmove(&co->past[at + 1], &co->past[at], (co->pasts - at) * sizeof(co->past[0]));
	co->pasts++;
	co->past[at] = (struct past){.entry = entry};
	snprintf(co->past[at].name, sizeof(co->past[at].name), "%s", name);
}

void past_add(struct coordinator *co, const char *name, json_t *entry)
{
	char oldest[NAME_MAX_LEN + 1];
	int same = past_index(co, name);

	if (same >= 0)
		past_take_out(co, (unsigned)same);
	if (co->pasts == PAST_MAX) {
		memcpy(oldest, co->past[0].name, sizeof(oldest));
		past_remove(co, oldest);
	}
	action_record(co, COORDINATOR_RECORD_ENDED, name, json_incref(entry));
	past_put(co, co->pasts, name, entry);
}

static json_int_t past_ended_s(const json_t *entry)
{
	return json_integer_value(json_object_get(entry, "ended_s"));
}

/* What lists need of it. */
static int past_check(const json_t *entry, const char **name, char *why)
{
	const char *reason;
	uint64_t number;
	unsigned code;
	int err;

	if ((err = control_get_name(entry, "name", name, why)) ||
	    (err = control_get_uint(entry, "code", 0, 255, &code, why)) ||
	    (err = control_get_string(entry, "reason", &reason, why)))
		return err;
	return control_get_u64(entry, "ended_s", 0, INT64_MAX, &number, why);
}

int coordinator_restore_ended(struct coordinator *co, const json_t *record, char *why)
{
	unsigned at = 0;
	const char *name;
	int err = past_check(record, &name, why);

	if (err)
		return err;
	if (co->pasts == PAST_MAX || past_find(co, name) || vm_find(co, name) ||
	    kept_find(co, name)) {
		snprintf(why, CONTROL_WHY_MAX, "VM %s is known already, or is one too many", name);
		return -PANGEA_ECONTROL;
	}
	while (at < co->pasts && past_ended_s(co->past[at].entry) <= past_ended_s(record))
		at++;
	past_put(co, at, name, json_incref((json_t *)record));
	return 0;
}

/* The names of its nodes stand in the whole entry. */
static json_t *past_short(const json_t *entry)
{
	static const char *const keys[] = {"name",    "cpus",	  "mem_bytes",
					   "age_ms",  "restarts", "started_s",
					   "ended_s", "code",	  "reason"};
	json_t *out = json_pack("{s:s, s:[]}", "state", "ended", "slices");

	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (json_object_get(entry, keys[i]))
			json_object_set(out, keys[i], json_object_get(entry, keys[i]));
	return out;
}

void past_list(const struct coordinator *co, json_t *list)
{
	for (unsigned i = 0; i < co->pasts; i++)
		invariant(json_array_append_new(list, past_short(co->past[i].entry)) == 0);
}

void rm_take(struct coordinator *co, struct peer *peer, const struct coordinator_event *event)
{
	char why[CONTROL_WHY_MAX];
	const char *name;

	if (control_get_name(event->msg, "vm", &name, why) < 0) {
		client_error(co, peer, EXIT_USAGE, why);
		return;
	}
	if (vm_find(co, name) || kept_find(co, name)) {
		snprintf(why, sizeof(why),
			 "VM %s has not ended: 'pangea stop %s' ends it, 'pangea rm -f %s' does "
			 "both",
			 name, name, name);
		client_error(co, peer, EXIT_ERROR, why);
		return;
	}
	if (!past_find(co, name)) {
		snprintf(why, sizeof(why), "there is no VM named %s", name);
		client_error(co, peer, EXIT_ERROR, why);
		return;
	}
	past_remove(co, name);
	action_log(co, "VM %s is removed from the list: connection %llu asks for it", name,
		   (unsigned long long)peer->id);
	action_send(co, peer->id, message_make("{s:s, s:s}", "type", "vm-removed", "vm", name),
		    NULL, 0);
}

bool coordinator_keeps_log(const struct coordinator *co, const char *vm)
{
	return past_find(co, vm) || vm_find((struct coordinator *)co, vm) ||
	       kept_find((struct coordinator *)co, vm);
}
