/* SPDX-License-Identifier: Apache-2.0 */
/* Messages between two processes, by what carries them: latency and bandwidth by size, in the layout of perftest. */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "transport/transport.h"

#define ITERATIONS_DEFAULT 5000u
#define ITERATIONS_MAX	   1000000u
/* Not counted: the first messages find caches and queues cold. */
#define WARM_UP 100u
/* Messages that may wait to be sent while bandwidth is measured. */
#define WINDOW	     64u
#define CONNECT_MS   10000
#define SILENCE_S    60
#define BYTES_PER_MB 1e6

/* What a message wants; in its first free word. */
enum wants {
	WANTS_ECHO,
	WANTS_NOTHING,
	WANTS_COUNT /* an answer, once all before it have come */
};

static const unsigned sizes[] = {0, 64, 256, 1024, WIRE_PAYLOAD_MAX};

static const struct {
	const char *word;
	enum transport_wish wish;
	uint32_t features;
} carriers[] = {
	{"tcp", TRANSPORT_TCP, 0},
	{"tls", TRANSPORT_TCP, WIRE_FEATURE_TLS},
	{"shm", TRANSPORT_SHM, WIRE_FEATURE_TLS},
	{"rdma", TRANSPORT_RDMA, WIRE_FEATURE_TLS},
};

/* One process: slice 1 measures, slice 0 answers. */
struct bench {
	const char *address;
	unsigned carrier, iterations;
	bool poll, bandwidth;
	unsigned self;
	uv_loop_t loop;
	struct transport *t;
	bool up, lost;
	uint64_t answers;
	uint8_t in[WIRE_PAYLOAD_MAX], out[WIRE_PAYLOAD_MAX];
	double *samples; /* microseconds one way */
};

static void fail(const char *what, int err)
{
	log_error("%s: %s", what, error_text(err));
	exit(EXIT_ERROR);
}

/* ---- the transport's owner ---- */

static void *payload_buffer(void *ctx, unsigned peer, const struct wire_msg *msg, void *lies)
{
	struct bench *b = ctx;

	(void)peer;
	(void)msg;
	return lies ? lies : b->in;
}

static void message_send(struct bench *b, uint64_t wants, unsigned size)
{
	struct wire_msg msg = {.type = MSG_MACHINE_FIRST, .gfn = wants, .payload_len = size};
	int err = b->t->ops->send(b->t, !b->self, &msg, size ? b->out : NULL, false);

	if (err)
		fail("send", err);
}

static int on_msg(void *ctx, unsigned peer, const struct wire_msg *msg, void *payload)
{
	struct bench *b = ctx;

	(void)peer;
	(void)payload;
	if (b->self == 1)
		b->answers++;
	else if (msg->gfn == WANTS_ECHO)
		message_send(b, WANTS_NOTHING, msg->payload_len);
	else if (msg->gfn == WANTS_COUNT)
		message_send(b, WANTS_NOTHING, 0);
	return 0;
}

static void on_up(void *ctx, unsigned peer)
{
	struct bench *b = ctx;

	(void)peer;
	b->up = true;
}

static void on_lost(void *ctx, unsigned peer, int err, const char *why)
{
	struct bench *b = ctx;

	(void)peer;
	(void)err;
	/* Slice 1's end is how slice 0 hears that it is over. */
	if (b->self == 1 || !b->up)
		log_error("%s: %s", carriers[b->carrier].word, why);
	b->lost = true;
}

/* Once round: with --poll the processor does nothing but look. */
static void turn(struct bench *b)
{
	static unsigned looks;

	if (!b->poll)
		uv_run(&b->loop, UV_RUN_ONCE);
	else if (b->t->ops->poll(b->t) <= 0 || ++looks % 64 == 0)
		uv_run(&b->loop, UV_RUN_NOWAIT);
	if (b->lost)
		exit(b->self == 1 || !b->up ? EXIT_ERROR : EXIT_OK);
}

static void connect_pair(struct bench *b, int fd)
{
	static const uint8_t secret[PAIR_SECRET_SIZE] = "bench_transport";
	const char *form = strchr(b->address, ':') ? "[%.60s]:%u" : "%.60s:%u";
	struct pair_keys keys;
	struct transport_config config = {
		.loop = &b->loop,
		.hello = {.magic = WIRE_MAGIC,
			  .version = WIRE_VERSION,
			  .features = carriers[b->carrier].features,
			  .vm = 42,
			  .slice = (uint16_t)b->self,
			  .slices = 2},
		.keys = &keys,
		.callbacks = {b, payload_buffer, on_msg, on_up, on_lost},
		.connect_timeout_ms = CONNECT_MS,
		.wish = carriers[b->carrier].wish,
		.rdma = {.allowed = true, .gid_index = -1},
	};
	unsigned port, peer_port;
	char text[80];
	const char *addresses[2] = {text, text};
	int err;

	pair_keys_derive(secret, config.hello.vm, config.hello.epoch, b->self, 2, &keys);
	uv_loop_init(&b->loop);
	err = transport_net_create(&config, b->address, 0, &port, &b->t);
	if (err)
		fail(b->address, err);
	if (write(fd, &port, sizeof(port)) != (ssize_t)sizeof(port) ||
	    read(fd, &peer_port, sizeof(peer_port)) != (ssize_t)sizeof(peer_port))
		fail("the other process", -EPIPE);
	snprintf(text, sizeof(text), form, b->address, peer_port);
	err = b->t->ops->connect(b->t, addresses);
	if (err)
		fail("connect", err);
	while (!b->up)
		turn(b);
}

/* ---- what is measured ---- */

static void answer_await(struct bench *b, uint64_t number)
{
	/* A lost message is a lost peer; this is for an answer that was never sent. */
	uint64_t until_ns = clock_now_ns() + SILENCE_S * NS_PER_S;

	while (b->answers < number) {
		turn(b);
		if (clock_now_ns() > until_ns)
			fail("an answer", -ETIMEDOUT);
	}
}

static int sample_compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void latency_print(const struct bench *b, unsigned size)
{
	unsigned n = b->iterations;
	double sum = 0, squares = 0, mean;

	qsort(b->samples, n, sizeof(b->samples[0]), sample_compare);
	for (unsigned i = 0; i < n; i++) {
		sum += b->samples[i];
		squares += b->samples[i] * b->samples[i];
	}
	mean = sum / n;
	printf(" %-7u %-11u    %-11.2f    %-11.2f   %-13.2f    %-12.2f   %-13.2f   %-21.2f  "
	       " %-.2f\n",
	       size, n, b->samples[0], b->samples[n - 1], b->samples[n / 2], mean,
	       sqrt(fmax(squares / n - mean * mean, 0)), b->samples[(unsigned)(0.99 * (n - 1))],
	       b->samples[(unsigned)(0.999 * (n - 1))]);
}

/* Half a round trip of a message each way, as perftest counts it. */
static void latency_measure(struct bench *b, unsigned size)
{
	for (unsigned i = 0; i < WARM_UP + b->iterations; i++) {
		uint64_t start_ns = clock_now_ns();

		message_send(b, WANTS_ECHO, size);
		answer_await(b, b->answers + 1);
		if (i >= WARM_UP)
			b->samples[i - WARM_UP] = (double)(clock_now_ns() - start_ns) / 2000.0;
	}
	latency_print(b, size);
}

/* One way, until the other side has had the last one. Headers are not counted, as perftest's are not. */
static void bandwidth_measure(struct bench *b, unsigned size)
{
	uint64_t start_ns = clock_now_ns(), ns;

	for (unsigned i = 0; i < b->iterations; i++) {
		message_send(b, WANTS_NOTHING, size);
		while (b->t->ops->backlog(b->t, !b->self) >= WINDOW)
			turn(b);
	}
	message_send(b, WANTS_COUNT, 0);
	answer_await(b, b->answers + 1);
	ns = clock_now_ns() - start_ns;
	printf(" %-7u %-11u    %-18.2f %-14.6f\n", size, b->iterations,
	       (double)size * b->iterations / BYTES_PER_MB / ((double)ns / NS_PER_S),
	       (double)b->iterations * 1000.0 / (double)ns);
}

static void measure(struct bench *b)
{
	printf("%s at %s, %s\n", link_kind_word(b->t->ops->link(b->t, 0)), b->address,
	       b->poll ? "both sides look all the time" : "both sides sleep until something comes");
	if (b->bandwidth)
		printf(" #bytes  #iterations    BW average[MB/sec] MsgRate[Mpps]\n");
	else
		printf(" #bytes  #iterations    t_min[usec]    t_max[usec]   t_typical[usec]  "
		       "t_avg[usec]    t_stdev[usec]   99%% percentile[usec]   99.9%% "
		       "percentile[usec]\n");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		if (!b->bandwidth)
			latency_measure(b, sizes[i]);
		else if (sizes[i])
			bandwidth_measure(b, sizes[i]);
		fflush(stdout);
	}
}

/* ---- the program ---- */

static void usage(FILE *to)
{
	fprintf(to,
		"usage: bench_transport [--transport tcp|tls|shm|rdma] [--address A] "
		"[--iterations N] [--poll] [--bandwidth]\n"
		"Measures messages between two processes of this host by what carries them, and "
		"prints them in the\n"
		"layout of perftest's tables: for each size of payload, beside which each message "
		"has a header of\n"
		"%u bytes, half a round trip.\n"
		"  --transport W   what carries them (tls)\n"
		"  --address A     where both listen (127.0.0.1); for rdma, that of an RDMA "
		"device\n"
		"  --iterations N  of each size (%u)\n"
		"  --poll          both processes look for messages all the time\n"
		"  --bandwidth     messages one way, as fast as they go\n",
		WIRE_HEADER_SIZE, ITERATIONS_DEFAULT);
}

static bool carrier_option(struct bench *b, const char *word)
{
	for (unsigned i = 0; i < sizeof(carriers) / sizeof(carriers[0]); i++)
		if (strcmp(word, carriers[i].word) == 0) {
			b->carrier = i;
			return true;
		}
	return false;
}

static void options_parse(struct bench *b, int argc, char **argv)
{
	static const struct option options[] = {{"transport", required_argument, NULL, 't'},
						{"address", required_argument, NULL, 'a'},
						{"iterations", required_argument, NULL, 'i'},
						{"poll", no_argument, NULL, 'p'},
						{"bandwidth", no_argument, NULL, 'b'},
						{"help", no_argument, NULL, 'h'},
						{0}};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 't' && carrier_option(b, optarg))
			continue;
		if (option == 'a')
			b->address = optarg;
		else if (option == 'i')
			b->iterations = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 'p')
			b->poll = true;
		else if (option == 'b')
			b->bandwidth = true;
		else
			usage(option == 'h' ? stdout : stderr);
		if (option == 'h' || option == '?' || option == 't')
			exit(option == 'h' ? EXIT_OK : EXIT_USAGE);
	}
	if (optind < argc || b->iterations == 0 || b->iterations > ITERATIONS_MAX) {
		usage(stderr);
		exit(EXIT_USAGE);
	}
}

int main(int argc, char **argv)
{
	struct bench b = {.address = "127.0.0.1", .carrier = 1, .iterations = ITERATIONS_DEFAULT};
	int fds[2];
	pid_t pid;

	options_parse(&b, argc, argv);
	log_init("bench_transport", LOG_WARN);
	b.samples = calloc(b.iterations, sizeof(b.samples[0]));
	if (!b.samples || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) < 0)
		fail("start", -ENOMEM);
	pid = fork();
	if (pid < 0)
		fail("fork", -errno);
	b.self = pid != 0;
	close(fds[b.self]);
	if (pid == 0)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	connect_pair(&b, fds[!b.self]);
	if (pid == 0)
		for (;;)
			turn(&b);
	measure(&b);
	b.t->ops->close(b.t);
	uv_run(&b.loop, UV_RUN_DEFAULT);
	waitpid(pid, NULL, 0);
	free(b.samples);
	return EXIT_OK;
}
