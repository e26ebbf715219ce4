/* SPDX-License-Identifier: Apache-2.0 */
/* First touches, page by page: of a slice's own memory, of another's, and of the host's without us. */
#include <errno.h>
#include <getopt.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "dsm/engine/engine.h"

#define SLICES	    2u
#define MIB	    (UINT64_C(1) << 20)
#define MIB_DEFAULT 64u
#define MIB_MAX	    4096u

static struct {
	uint64_t bytes; /* of each slice */
	enum transport_wish transport;
	const char *address;
	struct engine *engines[SLICES];
	_Atomic unsigned ready;
} bench = {.bytes = MIB_DEFAULT * MIB, .transport = TRANSPORT_AUTO, .address = "127.0.0.1"};

/* What was used up to a moment. */
struct usage {
	uint64_t wall_ns, thread_ns, process_ns;
	struct engine_stats stats; /* of slice 0 */
};

static void fail(const char *what, int err)
{
	log_error("%s: %s", what, error_text(err));
	exit(EXIT_ERROR);
}

static void on_ready(void *ctx)
{
	(void)ctx;
	atomic_fetch_add(&bench.ready, 1);
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
	log_debug("slice %u: %s", peer, why);
	/* Not in the middle of things but before them: what was asked for cannot be had. */
	if (atomic_load(&bench.ready) < SLICES)
		fail("connect", err);
}

static void engines_up(void)
{
	struct engine_range ranges[SLICES] = {{0, 0, bench.bytes},
					      {1, bench.bytes, 2 * bench.bytes}};
	/* The engines are all here: what key they have is all the same. */
	static const struct pair_keys keys;
	struct engine_config config = {
		.slices = SLICES,
		.vm = 42,
		.keys = &keys,
		.ram_end = SLICES * bench.bytes,
		.ranges = ranges,
		.ranges_count = SLICES,
		.bind_host = bench.address,
		.connect_timeout_ms = 10000,
		.transport = bench.transport,
		.rdma = {.allowed = bench.transport == TRANSPORT_RDMA, .gid_index = -1},
		.faulters_max = 2,
		.ahead_max = ENGINE_AHEAD_MAX,
		.callbacks = {.on_ready = on_ready,
			      .on_machine_msg = on_machine_msg,
			      .on_peer_lost = on_peer_lost}};
	char text[SLICES][80];
	const char *addresses[SLICES] = {text[0], text[1]};
	int err = 0;

	for (config.self = 0; config.self < SLICES && !err; config.self++) {
		unsigned port = 0;

		err = engine_create(&config, &port, &bench.engines[config.self]);
		if (!err)
			err = engine_start(bench.engines[config.self]);
		snprintf(text[config.self], sizeof(text[0]),
			 strchr(bench.address, ':') ? "[%.60s]:%u" : "%.60s:%u", bench.address,
			 port);
	}
	for (unsigned i = 0; i < SLICES && !err; i++)
		err = engine_connect(bench.engines[i], addresses);
	if (err)
		fail("engine", err);
	while (atomic_load(&bench.ready) < SLICES)
		usleep(1000);
}

static uint64_t cpu_ns(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts))
		fail("CPU time", -errno);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static struct usage usage_now(void)
{
	struct usage u = {.wall_ns = clock_now_ns(),
			  .thread_ns = cpu_ns(CLOCK_THREAD_CPUTIME_ID),
			  .process_ns = cpu_ns(CLOCK_PROCESS_CPUTIME_ID)};

	if (bench.engines[0])
		engine_stats(bench.engines[0], &u.stats);
	return u;
}

static void report(const char *what, const struct usage *before)
{
	struct usage now = usage_now();
	uint64_t pages = bench.bytes / PANGEA_PAGE_SIZE;
	uint64_t thread_ns = now.thread_ns - before->thread_ns;
	/* The two clocks are read one after the other: alone, a thread may seem to have had more than its process. */
	uint64_t process_ns = now.process_ns - before->process_ns;
	uint64_t engines_ns = process_ns > thread_ns ? process_ns - thread_ns : 0;
	uint64_t msgs = now.stats.msgs_sent + now.stats.msgs_received - before->stats.msgs_sent -
			before->stats.msgs_received;

	printf("%-34s %8.0f %8.0f %8.0f %12.1f %12.1f\n", what,
	       (double)(now.wall_ns - before->wall_ns) / (double)pages,
	       (double)thread_ns / (double)pages, (double)engines_ns / (double)pages,
	       1000.0 * (double)(now.stats.faults_write - before->stats.faults_write) /
		       (double)pages,
	       1000.0 * (double)msgs / (double)pages);
}

static void memory_touch(const char *what, uint8_t *at)
{
	struct usage before = usage_now();

	for (uint64_t i = 0; i < bench.bytes; i += PANGEA_PAGE_SIZE)
		__atomic_store_n(at + i, 1, __ATOMIC_RELAXED);
	usleep(10000); /* the counters are told once a turn; CPU time and counts do not see it */
	before.wall_ns += 10000000;
	report(what, &before);
}

/* What the host takes for memory of the same kind that nobody looks after. */
static void plain_measure(void)
{
	int fd = memfd_create("plain", MFD_CLOEXEC);
	uint8_t *at;

	if (fd < 0 || ftruncate(fd, (off_t)bench.bytes) < 0)
		fail("a memory file", -errno);
	at = mmap(NULL, bench.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (at == MAP_FAILED)
		fail("a memory file", -errno);
	madvise(at, bench.bytes, MADV_NOHUGEPAGE);
	memory_touch("the host's own, a memory file", at);
	munmap(at, bench.bytes);
	close(fd);
}

static void usage_print(FILE *to)
{
	fputs("usage: bench_touch [--mib M] [--transport shm|tcp|rdma] [--address A]\n"
	      "Touches M MiB (64) of each kind of memory for the first time, page by page, and "
	      "prints for a\n"
	      "page: ns, CPU time of the thread that touches and of both engines; and for 1,000 "
	      "pages the\n"
	      "faults and the messages.\n",
	      to);
}

static void options_parse(int argc, char **argv)
{
	static const struct option options[] = {{"mib", required_argument, NULL, 'm'},
						{"transport", required_argument, NULL, 't'},
						{"address", required_argument, NULL, 'a'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	int c;

	while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (c == 'h') {
			usage_print(stdout);
			exit(0);
		} else if (c == 'm') {
			char *end;
			unsigned long mib = strtoul(optarg, &end, 10);

			if (*end || mib < 2 || mib > MIB_MAX || mib % 2)
				fail("--mib takes an even number from 2 to 4096", -EINVAL);
			bench.bytes = mib * MIB;
		} else if (c == 't' && strcmp(optarg, "shm") == 0) {
			bench.transport = TRANSPORT_SHM;
		} else if (c == 't' && strcmp(optarg, "tcp") == 0) {
			bench.transport = TRANSPORT_TCP;
		} else if (c == 't' && strcmp(optarg, "rdma") == 0) {
			bench.transport = TRANSPORT_RDMA;
		} else if (c == 'a') {
			bench.address = optarg;
		} else {
			usage_print(stderr);
			exit(EXIT_USAGE);
		}
	}
}

int main(int argc, char **argv)
{
	options_parse(argc, argv);
	printf("%-34s %8s %8s %8s %12s %12s\n", "first touch, a page", "ns", "thread", "engines",
	       "faults/1000", "msgs/1000");
	plain_measure();
	engines_up();
	memory_touch("own memory", engine_ram(bench.engines[0]));
	memory_touch("another slice's memory", engine_ram(bench.engines[0]) + bench.bytes);
	for (unsigned i = 0; i < SLICES; i++)
		engine_destroy(bench.engines[i]);
	return 0;
}
