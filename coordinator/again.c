/* SPDX-License-Identifier: Apache-2.0 */
/* Own peers of the state machine: each runs one detached VM again, and sends its kernel as a client does. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "control/devices.h"
#include "coordinator/again.h"
#include "coordinator/vm_files.h"

/* As many as there can be VMs. */
#define AGAINS_MAX 64
#define FILES	   2
#define PIECES_MAX (CONTROL_UPLOAD_WINDOW / CONTROL_UPLOAD_PIECE)

static const char *const files[FILES] = {"kernel", "initrd"};

struct again {
	uint64_t peer; /* 0: free */
	char vm[NAME_MAX_LEN + 1];
	json_t *run; /* until it was asked */
	int fd[FILES];
	uint64_t bytes[FILES], sent[FILES];
	unsigned unanswered;
	bool placed; /* its kernel may come */
	bool over;   /* it is not needed any more */
};

struct unkept {
	char vm[NAME_MAX_LEN + 1]; /* "": free */
	char why[CONTROL_WHY_MAX];
};

struct agains {
	const char *dir;
	again_event_fn *event;
	void *arg;
	struct again list[AGAINS_MAX];
	struct unkept unkept[AGAINS_MAX];
};

struct agains *agains_new(const char *dir, again_event_fn *event, void *arg)
{
	struct agains *agains = calloc(1, sizeof(*agains));

	if (agains)
		*agains = (struct agains){.dir = dir, .event = event, .arg = arg};
	return agains;
}

static void again_clear(struct again *again)
{
	for (int i = 0; i < FILES; i++)
		if (again->fd[i] >= 0)
			close(again->fd[i]);
	json_decref(again->run);
	memset(again, 0, sizeof(*again));
}

void agains_free(struct agains *agains)
{
	for (unsigned i = 0; agains && i < AGAINS_MAX; i++)
		if (agains->list[i].peer)
			again_clear(&agains->list[i]);
	free(agains);
}

static struct again *again_find(struct agains *agains, uint64_t peer)
{
	for (unsigned i = 0; i < AGAINS_MAX; i++)
		if (agains->list[i].peer == peer)
			return &agains->list[i];
	return NULL;
}

void agains_start(struct agains *agains, const char *vm, const json_t *run, uint64_t peer)
{
	struct again *again = again_find(agains, 0);

	if (!again)
		return; /* it is asked for again */
	*again = (struct again){.peer = peer, .run = json_deep_copy(run), .fd = {-1, -1}};
	invariant(again->run != NULL);
	snprintf(again->vm, sizeof(again->vm), "%s", vm);
	json_object_set_new(again->run, "type", json_string("run"));
	for (int i = 0; i < FILES; i++) {
		char key[16];
		snprintf(key, sizeof(key), "%s_bytes", files[i]);
		again->bytes[i] = (uint64_t)json_integer_value(json_object_get(run, key));
	}
}

void agains_unkept(struct agains *agains, const char *vm, const char *why)
{
	struct unkept *slot = NULL;

	for (unsigned i = 0; i < AGAINS_MAX; i++) {
		if (strcmp(agains->unkept[i].vm, vm) == 0)
			return;
		if (!slot && !agains->unkept[i].vm[0])
			slot = &agains->unkept[i];
	}
	if (!slot)
		return; /* the next piece fails, too */
	snprintf(slot->vm, sizeof(slot->vm), "%s", vm);
	snprintf(slot->why, sizeof(slot->why), "%s", why);
}

/* Images are kept by the nodes alone, which drop what was not used for long. */
static void image_fail(struct agains *agains, struct again *again)
{
	again->over = true;
	agains_unkept(
		agains, again->vm,
		"a node does not have one of its images any more: run it from a client again");
}

bool agains_take(struct agains *agains, uint64_t peer, const json_t *msg)
{
	struct again *again = peer ? again_find(agains, peer) : NULL;
	const char *state = json_string_value(json_object_get(msg, "state"));

	if (!again)
		return false;
	if (control_is(msg, "run-placed"))
		again->placed = true;
	else if (control_is(msg, "file-ack"))
		again->unanswered -= again->unanswered != 0;
	else if (control_is(msg, "vm-state"))
		again->over |= !state || strcmp(state, "placing") != 0;
	else if (control_is(msg, "image-send"))
		image_fail(agains, again);
	else if (control_is(msg, "error") || control_is(msg, "vm-ended"))
		again->over = true;
	return true;
}

bool agains_refused(struct agains *agains, uint64_t peer)
{
	struct again *again = peer ? again_find(agains, peer) : NULL;

	if (again)
		again_clear(again);
	return again != NULL;
}

/* ---- what they say ---- */

static void say(struct agains *agains, const struct again *again, const json_t *msg,
		const void *blob, size_t len)
{
	agains->event(agains->arg, &(struct coordinator_event){.type = COORDINATOR_MESSAGE,
							       .peer = again->peer,
							       .msg = msg,
							       .blob = blob,
							       .blob_len = len});
}

static void files_fail(struct agains *agains, struct again *again, const char *file, int err)
{
	char why[CONTROL_WHY_MAX];

	snprintf(why, sizeof(why), "the coordinator cannot read the %s that it kept: %s", file,
		 error_text(err));
	again->over = true;
	agains_unkept(agains, again->vm, why);
}

/* A seed for cloud-init came beside the request, and goes so again. Null: there is none, or it cannot be read. */
static const uint8_t *seed_read(struct agains *agains, struct again *again, const json_t *run)
{
	static uint8_t seed[CONTROL_SEED_BYTES];
	struct control_devices devices;
	char why[CONTROL_WHY_MAX];
	ssize_t n;
	int fd;

	if (control_devices_get(run, &devices, why) || !control_seed_wanted(&devices))
		return NULL;
	fd = vm_files_open(agains->dir, again->vm, "seed");
	n = fd < 0 ? fd : pread(fd, seed, sizeof(seed), 0);
	if (n < 0 && fd >= 0)
		n = -errno;
	if (fd >= 0)
		close(fd);
	if (n == sizeof(seed))
		return seed;
	files_fail(agains, again, "seed", n < 0 ? (int)n : -EIO);
	return NULL;
}

static void run_say(struct agains *agains, struct again *again)
{
	json_t *run = again->run;
	const uint8_t *seed = NULL;
	uint64_t peer = again->peer;

	again->run = NULL;
	for (int i = 0; i < FILES && !again->over; i++) {
		if (!again->bytes[i])
			continue;
		again->fd[i] = vm_files_open(agains->dir, again->vm, files[i]);
		if (again->fd[i] < 0)
			files_fail(agains, again, files[i], again->fd[i]);
	}
	if (!again->over)
		seed = seed_read(agains, again, run);
	agains->event(agains->arg, &(struct coordinator_event){.type = COORDINATOR_OPENED,
							       .peer = peer,
							       .role = CONTROL_ROLE_CLI,
							       .own = true});
	/* The slot is free if it was refused. */
	if (again->peer == peer && !again->over)
		say(agains, again, run, seed, seed ? CONTROL_SEED_BYTES : 0);
	json_decref(run);
}

static void piece_say(struct agains *agains, struct again *again, int i)
{
	static uint8_t piece[CONTROL_UPLOAD_PIECE];
	uint64_t left = again->bytes[i] - again->sent[i];
	size_t want = left < sizeof(piece) ? (size_t)left : sizeof(piece);
	ssize_t n = pread(again->fd[i], piece, want, (off_t)again->sent[i]);
	json_t *msg;

	if (n <= 0) {
		files_fail(agains, again, files[i], n < 0 ? -errno : -EIO);
		return;
	}
	msg = json_pack("{s:s, s:s, s:I}", "type", "file-chunk", "file", files[i], "offset",
			(json_int_t)again->sent[i]);
	invariant(msg != NULL);
	again->sent[i] += (uint64_t)n;
	again->unanswered++;
	say(agains, again, msg, piece, (size_t)n);
	json_decref(msg);
}

/* The file of which something is left to send; -1: none. */
static int file_next(const struct again *again)
{
	for (int i = 0; i < FILES; i++)
		if (again->sent[i] < again->bytes[i])
			return i;
	return -1;
}

/* One step; false: it waits. */
static bool again_step(struct agains *agains, struct again *again)
{
	if (again->over) {
		uint64_t peer = again->peer;
		again_clear(again);
		agains->event(agains->arg,
			      &(struct coordinator_event){.type = COORDINATOR_CLOSED,
							  .peer = peer,
							  .why = "it has done its part"});
		return true;
	}
	if (again->run) {
		run_say(agains, again);
		return true;
	}
	if (!again->placed || again->unanswered >= PIECES_MAX || file_next(again) < 0)
		return false;
	piece_say(agains, again, file_next(again));
	return true;
}

static void unkept_say(struct agains *agains, struct unkept *unkept)
{
	struct unkept copy = *unkept;

	unkept->vm[0] = 0;
	agains->event(agains->arg, &(struct coordinator_event){.type = COORDINATOR_UNKEPT,
							       .vm = copy.vm,
							       .why = copy.why});
}

void agains_go_on(struct agains *agains)
{
	bool more = true;

	while (more) {
		more = false;
		for (unsigned i = 0; i < AGAINS_MAX; i++) {
			if (agains->unkept[i].vm[0])
				unkept_say(agains, &agains->unkept[i]);
			if (agains->list[i].peer)
				more |= again_step(agains, &agains->list[i]);
		}
	}
}
