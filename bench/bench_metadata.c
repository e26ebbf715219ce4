/* SPDX-License-Identifier: Apache-2.0 */
/* What coherence costs in memory: metadata per page, and what an idle slice of a large VM takes. */
#include <getopt.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "dsm/engine/engine.h"
#include "dsm/protocol/protocol.h"

#define SLICES	     4
#define GUEST_BYTES  (UINT64_C(64) << 30)
#define TOUCH_PAGES  8192u /* of each kind: 32 MiB */
#define IDLE_SECONDS 3

struct slice {
	struct engine *engine;
	unsigned port;
	_Atomic bool ready;
};

static struct slice slices[SLICES];
static struct engine_range ranges[SLICES + 1];
static unsigned ranges_count;
static uint64_t ram_end;

static void fail(const char *what, int err)
{
	log_error("%s: %s", what, error_text(err));
	exit(EXIT_ERROR);
}

/* Equal slices, round the hole. */
static void ranges_init(void)
{
	uint64_t at = 0, share = GUEST_BYTES / SLICES;

	for (unsigned i = 0; i < SLICES; i++) {
		uint64_t left = share;

		if (at < GPA_HOLE_START && at + left > GPA_HOLE_START) {
			ranges[ranges_count++] = (struct engine_range){i, at, GPA_HOLE_START};
			left -= GPA_HOLE_START - at;
			at = GPA_HOLE_END;
		}
		ranges[ranges_count++] = (struct engine_range){i, at, at + left};
		at += left;
	}
	ram_end = at;
}

static void homes_fill(uint8_t *homes)
{
	memset(homes, SLICE_NONE, ram_end >> HOME_CHUNK_SHIFT);
	for (unsigned i = 0; i < ranges_count; i++)
		memset(homes + (ranges[i].start >> HOME_CHUNK_SHIFT), (int)ranges[i].slice,
		       (ranges[i].end - ranges[i].start) >> HOME_CHUNK_SHIFT);
}

/* Sizes of the protocol's memory: what a page adds is the difference between two sizes. */
static void sizes_print(void)
{
	uint8_t *homes = malloc(ram_end >> HOME_CHUNK_SHIFT);
	struct protocol_config config = {.slices = SLICES,
					 .epoch = 1,
					 .gfns = ram_end >> PAGE_SHIFT,
					 .home_of_chunk = homes,
					 .requests_max = 17,
					 .requests_total = 512};
	uint64_t homed = GUEST_BYTES / SLICES >> PAGE_SHIFT, full, half, none;

	homes_fill(homes);
	full = protocol_size(&config);
	for (uint64_t i = 0; i < ram_end >> HOME_CHUNK_SHIFT; i++)
		if (homes[i] == 0)
			homes[i] = 1; /* slice 0 is home of nothing */
	none = protocol_size(&config);
	config.gfns /= 2;
	half = protocol_size(&config);
	printf("metadata per guest page        %8.3f bytes on every slice\n",
	       (double)(none - half) / (double)(ram_end / 2 >> PAGE_SHIFT));
	printf("metadata per homed page        %8.3f bytes more on its home\n",
	       (double)(full - none) / (double)homed);
	printf("address space for metadata     %8.1f MiB a slice (64 GiB guest, 4 slices)\n",
	       (double)full / 1048576.0);
	free(homes);
}

static void on_ready(void *ctx)
{
	struct slice *slice = ctx;

	atomic_store(&slice->ready, true);
}

static int on_machine_msg(void *ctx, unsigned from, const struct wire_msg *msg, const void *payload)
{
	(void)ctx;
	(void)from;
	(void)msg;
	(void)payload;
	return 0;
}

static void on_peer_lost(void *ctx, unsigned peer, int err, const char *why)
{
	(void)ctx;
	(void)err;
	log_debug("slice %u: %s", peer, why);
}

static void engines_create(void)
{
	static const uint8_t secret[PAIR_SECRET_SIZE] = "bench_metadata";
	struct pair_keys keys;
	struct engine_config config = {.slices = SLICES,
				       .vm = 7,
				       .keys = &keys,
				       .epoch = 1,
				       .ram_end = ram_end,
				       .ranges = ranges,
				       .ranges_count = ranges_count,
				       .bind_host = "127.0.0.1",
				       .connect_timeout_ms = 10000,
				       .faulters_max = 16,
				       .callbacks = {.on_ready = on_ready,
						     .on_machine_msg = on_machine_msg,
						     .on_peer_lost = on_peer_lost}};

	for (unsigned i = 0; i < SLICES; i++) {
		int err;

		config.self = i;
		pair_keys_derive(secret, config.vm, config.epoch, i, SLICES, &keys);
		config.callbacks.ctx = &slices[i];
		err = engine_create(&config, &slices[i].port, &slices[i].engine);
		if (!err)
			err = engine_start(slices[i].engine);
		if (err)
			fail("engine", err);
	}
}

static void engines_connect(void)
{
	char text[SLICES][32];
	const char *addresses[SLICES];

	for (unsigned i = 0; i < SLICES; i++) {
		snprintf(text[i], sizeof(text[i]), "127.0.0.1:%u", slices[i].port);
		addresses[i] = text[i];
	}
	for (unsigned i = 0; i < SLICES; i++) {
		int err = engine_connect(slices[i].engine, addresses);

		if (err)
			fail("connect", err);
	}
	for (unsigned i = 0; i < SLICES; i++)
		while (!atomic_load(&slices[i].ready))
			usleep(1000);
}

/* Resident bytes of this process without the guest's frames. */
static uint64_t resident_bytes(void)
{
	unsigned long size, resident = 0, shared = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%lu %lu %lu", &size, &resident, &shared) != 3)
		fail("/proc/self/statm", -EIO);
	fclose(f);
	return (uint64_t)(resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static uint64_t metadata_bytes(unsigned slice)
{
	struct engine_stats stats;

	engine_stats(slices[slice].engine, &stats);
	return stats.metadata_bytes;
}

static double cpu_seconds(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
	       (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void idle_print(uint64_t before)
{
	double cpu = cpu_seconds();

	printf("resident memory of an idle slice %6.2f MiB, of it metadata %.2f MiB\n",
	       (double)(resident_bytes() - before) / SLICES / 1048576.0,
	       (double)metadata_bytes(0) / 1048576.0);
	sleep(IDLE_SECONDS);
	printf("CPU use of an idle engine      %8.3f %%\n",
	       (cpu_seconds() - cpu) / IDLE_SECONDS / SLICES * 100.0);
}

/* Slice 0 writes pages of its own; then pages of slice 1. */
static void touched_print(void)
{
	uint8_t *ram = engine_ram(slices[0].engine);
	uint64_t before0 = metadata_bytes(0), before1 = metadata_bytes(1), remote = 0;

	for (unsigned i = 0; i < TOUCH_PAGES; i++)
		__atomic_store_n(ram + (uint64_t)i * PANGEA_PAGE_SIZE, 1, __ATOMIC_SEQ_CST);
	printf("metadata, %u own pages written %8.2f bytes a page\n", TOUCH_PAGES,
	       (double)(metadata_bytes(0) - before0) / TOUCH_PAGES);
	for (unsigned i = 0; i < ranges_count; i++)
		if (ranges[i].slice == 1)
			remote = ranges[i].start;
	before0 = metadata_bytes(0);
	for (unsigned i = 0; i < TOUCH_PAGES; i++)
		__atomic_store_n(ram + remote + (uint64_t)i * PANGEA_PAGE_SIZE, 1,
				 __ATOMIC_SEQ_CST);
	printf("metadata, %u remote pages written %5.2f bytes a page here, %.2f at their home\n",
	       TOUCH_PAGES, (double)(metadata_bytes(0) - before0) / TOUCH_PAGES,
	       (double)(metadata_bytes(1) - before1) / TOUCH_PAGES);
}

int main(int argc, char **argv)
{
	uint64_t before, start_ns;

	if (argc > 1) {
		printf("usage: bench_metadata\nPrints what coherence metadata costs, for a guest "
		       "of "
		       "64 GiB in %u slices.\n",
		       SLICES);
		return strcmp(argv[1], "--help") == 0 ? EXIT_OK : EXIT_USAGE;
	}
	log_init("bench_metadata", LOG_ERROR);
	ranges_init();
	sizes_print();
	before = resident_bytes();
	start_ns = clock_now_ns();
	engines_create();
	engines_connect();
	printf("start of the %u engines        %8.1f ms\n", SLICES,
	       (double)(clock_now_ns() - start_ns) / 1e6);
	idle_print(before);
	touched_print();
	for (unsigned i = 0; i < SLICES; i++)
		engine_destroy(slices[i].engine);
	return EXIT_OK;
}
