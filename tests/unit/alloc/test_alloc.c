/* SPDX-License-Identifier: Apache-2.0 */
/* Engine and transport where each allocation in turn fails: an error or a lost peer, never a crash. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "tests/unit/alloc/heap.h"
#include "tests/unit/dsm/engine_rig.h"
#include "vmm/machine/machine_msg.h"

/* More than any of the runs below makes; a run that needs none of them ends the loop. */
#define ALLOCATIONS_MAX 400

static struct rig rig;

static unsigned open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	cr_assert_not_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static void needs_userfaultfd(void)
{
	memset(&rig, 0, sizeof(rig));
	rig_init(&rig, 1);
	rig_create(&rig, 0);
	rig_down(&rig);
}

static bool heard(unsigned i)
{
	return atomic_load(&rig.slice[i].received) || atomic_load(&rig.slice[i].lost);
}

/* A message with a payload each way: it was refused, or it comes, or the peer is lost. */
static void traffic(void)
{
	uint8_t payload[100] = {7};
	struct wire_msg msg = {.type = MSG_MACHINE_END, .payload_len = sizeof(payload)};

	for (unsigned i = 0; i < 2; i++) {
		if (engine_post(rig.slice[i].engine, 1 - i, &msg, payload))
			continue;
		for (unsigned tries = 0; tries < 40000 && !heard(1 - i); tries++)
			usleep(500);
		cr_assert(heard(1 - i), "slice %u heard nothing", 1 - i);
	}
}

/* The first error of creating, starting and connecting two engines; 0: both are ready. */
static int two_up(void)
{
	for (unsigned i = 0; i < 2; i++) {
		struct engine_config config = rig.config;
		struct rig_slice *slice = &rig.slice[i];
		int err;

		config.self = i;
		config.callbacks.ctx = slice;
		err = engine_create(&config, &slice->port, &slice->engine);
		if (err)
			return err;
		err = engine_start(slice->engine);
		if (err)
			return err;
	}
	for (unsigned i = 0; i < 2; i++) {
		char text[2][32];
		const char *addresses[2];
		int err;

		for (unsigned j = 0; j < 2; j++) {
			snprintf(text[j], sizeof(text[j]), "127.0.0.1:%u", rig.slice[j].port);
			addresses[j] = text[j];
		}
		err = engine_connect(rig.slice[i].engine, addresses);
		if (err)
			return err;
	}
	return 0;
}

static bool settled(unsigned i)
{
	return atomic_load(&rig.slice[i].ready) || atomic_load(&rig.slice[i].lost);
}

/* Each engine is ready or was told of a loss, within the rig's own deadline. */
static void wait_settled(void)
{
	for (unsigned tries = 0; tries < 40000 && !(settled(0) && settled(1)); tries++)
		usleep(500);
	cr_assert(settled(0) && settled(1), "an engine is neither ready nor told of a loss");
}

Test(alloc, creating_an_engine)
{
	unsigned fds, n, failures = 0;

	needs_userfaultfd();
	fds = open_fds();
	for (n = 1; n < ALLOCATIONS_MAX; n++) {
		struct engine *engine = NULL;
		struct engine_config config;
		unsigned port;
		int err;

		memset(&rig, 0, sizeof(rig));
		rig_init(&rig, 2);
		config = rig.config;
		config.cache_bytes = engine_cache_min_bytes(config.faulters_max);
		heap_fail_at(n);
		err = engine_create(&config, &port, &engine);
		heap_fail_at(0);
		if (!err) {
			engine_destroy(engine);
			break;
		}
		failures++;
		cr_assert_eq(err, -ENOMEM, "allocation %u: %s", n, error_text(err));
		cr_assert_eq(open_fds(), fds, "allocation %u: a descriptor was left open", n);
	}
	cr_assert_lt(n, ALLOCATIONS_MAX);
	cr_assert_geq(failures, 8, "only %u allocations failed: is the heap wrapped?", failures);
}

Test(alloc, two_engines_and_their_traffic)
{
	unsigned fds, n, failures = 0;

	needs_userfaultfd();
	fds = open_fds();
	for (n = 1; n < ALLOCATIONS_MAX; n++) {
		bool failed;
		int err;

		memset(&rig, 0, sizeof(rig));
		rig_init(&rig, 2);
		rig.config.connect_timeout_ms = 500;
		heap_fail_at(n);
		err = two_up();
		if (!err) {
			wait_settled();
			if (rig.slice[0].ready && rig.slice[1].ready)
				traffic();
		}
		failed = heap_failed();
		heap_fail_at(0);
		rig_down(&rig);
		failures += failed;
		cr_assert_eq(open_fds(), fds, "allocation %u: a descriptor was left open", n);
		if (!failed)
			break;
	}
	cr_assert_lt(n, ALLOCATIONS_MAX);
	cr_assert_geq(failures, 20, "only %u allocations failed: is the heap wrapped?", failures);
}
