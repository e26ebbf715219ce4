/* SPDX-License-Identifier: Apache-2.0 */
/* Remote faults between two processes, beside what they are made of: a raw round trip, a local
 * fault. */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "dsm/engine/engine.h"
#include "dsm/pages/pages.h"

/* The measurements take turns, so that the host's moods strike all alike. */
#define ROUNDS		   10
#define ITERATIONS_DEFAULT 10000u
#define ITERATIONS_MAX	   200000u
#define RAW_REQUEST	   64u
#define RAW_RESPONSE	   (PANGEA_PAGE_SIZE + WIRE_HEADER_SIZE)

enum series {
	SERIES_RAW,
	SERIES_LOCAL,
	/* These once for each carrier, KINDS apart. */
	SERIES_READ,
	SERIES_WRITE,
	SERIES_UPGRADE,
	SERIES_KINDS_END,
	KINDS = SERIES_KINDS_END - SERIES_READ,
	CARRIERS = 4,
	SERIES_COUNT = SERIES_READ + KINDS * CARRIERS
};

static const char *const series_names[SERIES_COUNT] = {"TCP: request 64 B, response 4 KiB + header",
						       "local userfaultfd fault",
						       "TCP: remote read fault",
						       "TCP: remote write fault",
						       "TCP: remote upgrade (no data)",
						       "TLS: remote read fault",
						       "TLS: remote write fault",
						       "TLS: remote upgrade (no data)",
						       "shared memory: remote read fault",
						       "shared memory: remote write fault",
						       "shared memory: remote upgrade (no data)",
						       "RDMA: remote read fault",
						       "RDMA: remote write fault",
						       "RDMA: remote upgrade (no data)"};

enum carrier {
	CARRIER_TCP,
	CARRIER_TLS,
	CARRIER_SHM,
	CARRIER_RDMA
};

static const struct {
	const char *word, *name;
	enum transport_wish wish;
	bool plaintext;
} carriers[CARRIERS] = {
	[CARRIER_TCP] = {"tcp", "TCP", TRANSPORT_TCP, true},
	[CARRIER_TLS] = {"tls", "TLS", TRANSPORT_TCP, false},
	[CARRIER_SHM] = {"shm", "shared memory", TRANSPORT_SHM, false},
	[CARRIER_RDMA] = {"rdma", "RDMA", TRANSPORT_RDMA, false},
};

/* Where the two processes run. */
enum placement {
	PLACE_FREE,  /* the scheduler decides */
	PLACE_APART, /* one CPU for each process, like two machines */
	PLACE_ONE    /* both on one CPU */
};

struct bench {
	unsigned iterations; /* of each series */
	bool poll;
	const char *address;	/* that engines listen at */
	bool carried[CARRIERS]; /* which are measured, in turns */
	enum placement placement;
	int raw_fd;			  /* to the other process */
	int control_fd;			  /* the same, for set-up */
	struct engine *engines[CARRIERS]; /* NULL: not measured */
	_Atomic unsigned ready;		  /* engines that are connected */
	_Atomic unsigned lost;		  /* engines that lost the other */
	uint64_t *samples[SERIES_COUNT];
	unsigned counts[SERIES_COUNT];
	struct pages *pages; /* of the local fault */
	_Atomic bool local_stop;
};

static void fail(const char *what, int err)
{
	log_error("%s: %s", what, error_text(err));
	exit(EXIT_ERROR);
}

static void sample_add(struct bench *b, enum series series, uint64_t start_ns)
{
	b->samples[series][b->counts[series]++] = clock_now_ns() - start_ns;
}

/* --- The raw round trip. --- */

static void read_all(int fd, void *buf, size_t len)
{
	ssize_t n = recv(fd, buf, len, MSG_WAITALL);

	if (n != (ssize_t)len)
		fail("the other process", n < 0 ? -errno : -EPIPE);
}

static void write_all(int fd, const void *buf, size_t len)
{
	if (send(fd, buf, len, MSG_NOSIGNAL) != (ssize_t)len)
		fail("the other process", -errno);
}

static void raw_serve(struct bench *b, unsigned count)
{
	uint8_t request[RAW_REQUEST], response[RAW_RESPONSE];

	memset(response, 1, sizeof(response));
	for (unsigned i = 0; i < count; i++) {
		read_all(b->raw_fd, request, sizeof(request));
		write_all(b->raw_fd, response, sizeof(response));
	}
}

static void raw_measure(struct bench *b, unsigned count)
{
	uint8_t request[RAW_REQUEST] = {0}, response[RAW_RESPONSE];

	for (unsigned i = 0; i < count; i++) {
		uint64_t start_ns = clock_now_ns();

		write_all(b->raw_fd, request, sizeof(request));
		read_all(b->raw_fd, response, sizeof(response));
		sample_add(b, SERIES_RAW, start_ns);
	}
}

/* --- The local fault: a handler thread answers as an engine would, without a protocol. --- */

static void *local_handler(void *arg)
{
	struct bench *b = arg;
	struct sched_param param = {.sched_priority = 1};

	pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
	while (!atomic_load(&b->local_stop)) {
		struct pollfd pfd = {.fd = pages_fault_fd(b->pages), .events = POLLIN};
		struct page_fault faults[PAGE_FAULTS_MAX];
		int n;

		poll(&pfd, 1, 100);
		n = pages_read_faults(b->pages, faults);
		for (int i = 0; i < n; i++)
			pages_map_shared(b->pages, faults[i].gfn);
	}
	return NULL;
}

static void local_measure(struct bench *b, unsigned count)
{
	uint64_t ram_end = (uint64_t)count * PANGEA_PAGE_SIZE;
	pthread_t thread;
	int err = pages_create(ram_end, 0, PAGES_USER, &b->pages);

	if (err)
		fail("userfaultfd", err);
	memset(pages_frame(b->pages, 0), 1, ram_end);
	b->local_stop = false;
	pthread_create(&thread, NULL, local_handler, b);
	for (unsigned i = 0; i < count; i++) {
		uint8_t *at = pages_ram(b->pages) + (uint64_t)i * PANGEA_PAGE_SIZE;
		uint64_t start_ns = clock_now_ns();

		(void)__atomic_load_n(at, __ATOMIC_SEQ_CST);
		sample_add(b, SERIES_LOCAL, start_ns);
	}
	atomic_store(&b->local_stop, true);
	pthread_join(thread, NULL);
	pages_destroy(b->pages);
}

/* --- The remote faults. --- */

static void on_ready(void *ctx)
{
	struct bench *b = ctx;

	atomic_fetch_add(&b->ready, 1);
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
	struct bench *b = ctx;

	(void)err;
	atomic_fetch_add(&b->lost, 1);
	/* The child's end is the parent's exit, and there is nobody left to tell. */
	log_debug("slice %u: %s", peer, why);
}

/* Slice 1 is home of twice the iterations: pages to read (then upgrade), and pages to write. */
static uint64_t remote_bytes(const struct bench *b)
{
	uint64_t bytes = 2 * (uint64_t)b->iterations * PANGEA_PAGE_SIZE;

	return (bytes + HOME_CHUNK_SIZE - 1) / HOME_CHUNK_SIZE * HOME_CHUNK_SIZE;
}

static uint64_t page_gpa(const struct bench *b, bool written, unsigned n)
{
	uint64_t index = (uint64_t)(written ? b->iterations : 0) + n;

	return HOME_CHUNK_SIZE + index * PANGEA_PAGE_SIZE;
}

static void engine_up(struct bench *b, unsigned self, unsigned carrier)
{
	struct engine_range ranges[2] = {{0, 0, HOME_CHUNK_SIZE},
					 {1, HOME_CHUNK_SIZE, HOME_CHUNK_SIZE + remote_bytes(b)}};
	static const uint8_t secret[PAIR_SECRET_SIZE] = "bench_fault";
	struct pair_keys keys;
	struct engine_config config = {.self = self,
				       .slices = 2,
				       .vm = 42,
				       .keys = &keys,
				       .ram_end = ranges[1].end,
				       .ranges = ranges,
				       .ranges_count = 2,
				       .bind_host = b->address,
				       .connect_timeout_ms = 10000,
				       .rdma = {.allowed = true, .gid_index = -1},
				       .faulters_max = 2,
				       .poll = b->poll,
				       .transport = carriers[carrier].wish,
				       .plaintext = carriers[carrier].plaintext,
				       .callbacks = {.ctx = b,
						     .on_ready = on_ready,
						     .on_machine_msg = on_machine_msg,
						     .on_peer_lost = on_peer_lost}};
	char text[80];
	const char *addresses[2] = {text, text};
	unsigned port, peer_port, ready = atomic_load(&b->ready);
	struct engine **engine = &b->engines[carrier];
	int err;

	pair_keys_derive(secret, config.vm, config.epoch, self, 2, &keys);
	err = engine_create(&config, &port, engine);
	if (!err)
		err = engine_start(*engine);
	if (err)
		fail("engine", err);
	write_all(b->control_fd, &port, sizeof(port));
	read_all(b->control_fd, &peer_port, sizeof(peer_port));
	snprintf(text, sizeof(text), strchr(b->address, ':') ? "[%.60s]:%u" : "%.60s:%u",
		 b->address, peer_port);
	err = engine_connect(*engine, addresses);
	if (err)
		fail("connect", err);
	while (atomic_load(&b->ready) == ready) {
		if (atomic_load(&b->lost))
			fail(carriers[carrier].name, -ENOTCONN);
		usleep(1000);
	}
}

static void engines_up(struct bench *b, unsigned self)
{
	for (unsigned c = 0; c < CARRIERS; c++)
		if (b->carried[c])
			engine_up(b, self, c);
}

static void engines_destroy(struct bench *b)
{
	for (unsigned c = 0; c < CARRIERS; c++)
		if (b->engines[c])
			engine_destroy(b->engines[c]);
}

static void remote_measure(struct bench *b, unsigned carrier, enum series kind, bool written,
			   bool write, unsigned from, unsigned count)
{
	uint8_t *ram = engine_ram(b->engines[carrier]);
	enum series series = kind + KINDS * carrier;

	for (unsigned i = from; i < from + count; i++) {
		uint8_t *at = ram + page_gpa(b, written, i);
		uint64_t start_ns = clock_now_ns();

		if (write)
			__atomic_store_n(at, 2, __ATOMIC_SEQ_CST);
		else if (__atomic_load_n(at, __ATOMIC_SEQ_CST) != 1)
			fail("a page did not hold what was written", -EIO);
		sample_add(b, series, start_ns);
	}
}

/* --- The two processes. --- */

/* Before any thread is made: they inherit it. */
static void process_place(const struct bench *b, unsigned process)
{
	cpu_set_t cpus;

	if (b->placement == PLACE_FREE)
		return;
	CPU_ZERO(&cpus);
	CPU_SET(b->placement == PLACE_APART ? process : 0, &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
		fail("placing the processes on CPUs", -errno);
}

static void child_main(struct bench *b)
{
	unsigned step = b->iterations / ROUNDS;
	char go;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	process_place(b, 1);
	engines_up(b, 1);
	for (unsigned c = 0; c < CARRIERS; c++)
		for (unsigned i = 0; b->engines[c] && i < 2 * b->iterations; i++)
			__atomic_store_n(engine_ram(b->engines[c]) + page_gpa(b, false, i), 1,
					 __ATOMIC_SEQ_CST);
	write_all(b->control_fd, "r", 1);
	for (unsigned round = 0; round < ROUNDS; round++)
		raw_serve(b, step);
	read_all(b->control_fd, &go, 1); /* the parent has measured: keep the engine until then */
	engines_destroy(b);
	_exit(0);
}

static void parent_main(struct bench *b)
{
	unsigned step = b->iterations / ROUNDS;
	char ready;

	process_place(b, 0);
	engines_up(b, 0);
	read_all(b->control_fd, &ready, 1);
	for (unsigned round = 0; round < ROUNDS; round++) {
		raw_measure(b, step);
		local_measure(b, step);
		for (unsigned c = 0; c < CARRIERS; c++) {
			if (!b->engines[c])
				continue;
			remote_measure(b, c, SERIES_READ, false, false, round * step, step);
			remote_measure(b, c, SERIES_WRITE, true, true, round * step, step);
			remote_measure(b, c, SERIES_UPGRADE, false, true, round * step, step);
		}
	}
}

static int sample_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static double quantile_us(const struct bench *b, enum series series, double q)
{
	unsigned count = b->counts[series];

	return (double)b->samples[series][(unsigned)(q * (count - 1))] / 1000.0;
}

static const double quantiles[] = {0.5, 0.99, 0.999};
#define QUANTILES 3

/* One series divided by the sum of two, or by one. */
static void ratio_print(const struct bench *b, const char *what, int s, int by, int and_by)
{
	printf("%-54s", what);
	for (int q = 0; q < QUANTILES; q++) {
		double sum = quantile_us(b, by, quantiles[q]);

		if (and_by >= 0)
			sum += quantile_us(b, and_by, quantiles[q]);
		printf(" %9.2f", quantile_us(b, s, quantiles[q]) / sum);
	}
	printf("\n");
}

static void ratios_print(const struct bench *b)
{
	static const char *const kinds[KINDS] = {"read", "write", "upgrade"};
	char what[64];

	for (int k = 0; k < KINDS; k++) {
		snprintf(what, sizeof(what), "TCP: %s / (request and response + local)", kinds[k]);
		if (b->engines[CARRIER_TCP])
			ratio_print(b, what, SERIES_READ + k, SERIES_RAW, SERIES_LOCAL);
	}
	for (int c = CARRIER_TLS; c < CARRIERS; c++)
		for (int k = 0; k < KINDS; k++) {
			snprintf(what, sizeof(what), "%s: %s / TCP", kinds[k], carriers[c].name);
			if (b->engines[CARRIER_TCP] && b->engines[c])
				ratio_print(b, what, SERIES_READ + KINDS * c + k, SERIES_READ + k,
					    -1);
		}
}

static void counts_print(const char *name, struct engine *engine)
{
	struct engine_stats stats;

	engine_stats(engine, &stats);
	printf("%s%s: messages sent %llu, received %llu, bells rung %llu; spins %llu, of them in "
	       "time %llu; mean service of a remote fault in the engine %.1f us\n",
	       name, stats.links_ktls ? " in the kernel" : "", (unsigned long long)stats.msgs_sent,
	       (unsigned long long)stats.msgs_received, (unsigned long long)stats.bells_sent,
	       (unsigned long long)stats.spins, (unsigned long long)stats.spin_hits,
	       stats.fault_count_remote
		       ? (double)stats.fault_ns_total / (double)stats.fault_count_remote / 1000.0
		       : 0.0);
}

static void report(struct bench *b)
{
	static const char *const placements[] = {
		[PLACE_FREE] = "placed by the scheduler",
		[PLACE_APART] = "a CPU for each process",
		[PLACE_ONE] = "both processes on one CPU",
	};

	printf("%s, %u of each kind\n", placements[b->placement], b->iterations);
	printf("%-54s %9s %9s %9s\n", "microseconds", "p50", "p99", "p99.9");
	for (int s = 0; s < SERIES_COUNT; s++) {
		if (b->counts[s] == 0)
			continue;
		qsort(b->samples[s], b->counts[s], sizeof(uint64_t), sample_compare);
		printf("%-54s", series_names[s]);
		for (int q = 0; q < QUANTILES; q++)
			printf(" %9.1f", quantile_us(b, s, quantiles[q]));
		printf("\n");
	}
	ratios_print(b);
	for (int c = 0; c < CARRIERS; c++)
		if (b->engines[c])
			counts_print(carriers[c].name, b->engines[c]);
}

/* Two connected TCP sockets over loopback, as the transport's are. */
static void tcp_pair(int fds[2])
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&at, len) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&at, &len) < 0 ||
	    connect(fds[0], (struct sockaddr *)&at, len) < 0)
		fail("loopback", -errno);
	fds[1] = accept(listener, NULL, NULL);
	close(listener);
	for (int i = 0; i < 2; i++)
		setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
}

static void usage(FILE *to)
{
	fprintf(to,
		"usage: bench_fault [--iterations N] [--transport tcp|tls|shm|rdma]... [--address "
		"A] "
		"[--poll] [--free | --one]\n"
		"Measures remote page faults between two processes over TCP loopback, over TLS on "
		"it and\n"
		"over shared memory, in turns, and prints them beside a raw TCP round trip of the "
		"same\n"
		"size and a local userfaultfd fault.\n"
		"  --iterations N  faults of each kind (default %u, a multiple of %u)\n"
		"  --transport W   this one only; again: and this one (all but rdma)\n"
		"  --address A     where both listen (127.0.0.1); for rdma, that of an RDMA "
		"device\n"
		"Each process runs on a CPU of its own, like two machines, unless told otherwise:\n"
		"  --free          the scheduler places them\n"
		"  --one           both processes on one CPU\n"
		"  --poll          engine threads spin (each needs a CPU of its own)\n",
		ITERATIONS_DEFAULT, ROUNDS);
}

static bool carrier_option(struct bench *b, const char *word)
{
	for (int c = 0; c < CARRIERS; c++)
		if (strcmp(word, carriers[c].word) == 0)
			return b->carried[c] = true;
	return false;
}

static void options_parse(struct bench *b, int argc, char **argv)
{
	static const struct option options[] = {{"iterations", required_argument, NULL, 'i'},
						{"transport", required_argument, NULL, 't'},
						{"address", required_argument, NULL, 'a'},
						{"poll", no_argument, NULL, 'p'},
						{"free", no_argument, NULL, 'f'},
						{"one", no_argument, NULL, 'o'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'i')
			b->iterations = (unsigned)strtoul(optarg, NULL, 10) / ROUNDS * ROUNDS;
		else if (option == 't' && carrier_option(b, optarg))
			continue;
		else if (option == 'a')
			b->address = optarg;
		else if (option == 'p')
			b->poll = true;
		else if (option == 'f')
			b->placement = PLACE_FREE;
		else if (option == 'o')
			b->placement = PLACE_ONE;
		else
			usage(option == 'h' ? stdout : stderr);
		if (option == 'h' || option == '?' || option == 't')
			exit(option == 'h' ? EXIT_OK : EXIT_USAGE);
	}
	if (!memchr(b->carried, true, sizeof(b->carried)))
		b->carried[CARRIER_TCP] = b->carried[CARRIER_TLS] = b->carried[CARRIER_SHM] = true;
	if (b->iterations == 0 || b->iterations > ITERATIONS_MAX) {
		fprintf(stderr, "bench_fault: --iterations must be %u to %u\n", ROUNDS,
			ITERATIONS_MAX);
		exit(EXIT_USAGE);
	}
}

int main(int argc, char **argv)
{
	struct bench b = {.iterations = ITERATIONS_DEFAULT,
			  .address = "127.0.0.1",
			  .placement = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? PLACE_APART : PLACE_ONE};
	int raw[2], control[2];
	pid_t pid;

	options_parse(&b, argc, argv);
	log_init("bench_fault", LOG_INFO);
	for (int s = 0; s < SERIES_COUNT; s++)
		b.samples[s] = calloc(b.iterations, sizeof(uint64_t));
	tcp_pair(raw);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, control) < 0)
		fail("socketpair", -errno);
	pid = fork();
	if (pid < 0)
		fail("fork", -errno);
	b.raw_fd = raw[pid == 0];
	b.control_fd = control[pid == 0];
	close(raw[pid != 0]);
	close(control[pid != 0]);
	if (pid == 0)
		child_main(&b);
	parent_main(&b);
	report(&b);
	write_all(b.control_fd, "g", 1);
	waitpid(pid, NULL, 0);
	engines_destroy(&b);
	for (int s = 0; s < SERIES_COUNT; s++)
		free(b.samples[s]);
	return EXIT_OK;
}
