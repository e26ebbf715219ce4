/* SPDX-License-Identifier: Apache-2.0 */
/* Boots a kernel on one slice in this process, without daemons or page faults: the CPU's own speed.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "control/control.h"
#include "vmm/boot/layout.h"
#include "vmm/boot/loader.h"
#include "vmm/machine/machine.h"

/* The marker is looked for in this much of the latest console output. */
#define TAIL_MAX 4096

struct run {
	const char *kernel, *initrd, *append, *until;
	unsigned vcpus;
	uint64_t mem_bytes;
	unsigned timeout_s;
	bool quiet;

	struct machine *machine;
	uint64_t start_ns;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool ended; /* under lock, as all below */
	enum exit_code reason;
	char sentence[256];
	uint64_t until_ns, until_instructions;
	char tail[TAIL_MAX + 1];
	size_t tail_used;
};

static void tail_add(struct run *r, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (r->tail_used == TAIL_MAX) {
			memmove(r->tail, r->tail + TAIL_MAX / 2, TAIL_MAX / 2);
			r->tail_used = TAIL_MAX / 2;
		}
		r->tail[r->tail_used++] = bytes[i] ? (char)bytes[i] : ' ';
		r->tail[r->tail_used] = 0;
	}
}

static void console_take(void *ctx, const uint8_t *bytes, size_t len)
{
	struct run *r = ctx;
	struct machine_stats stats;

	if (!r->quiet && write(STDOUT_FILENO, bytes, len) < 0)
		r->quiet = true;
	pthread_mutex_lock(&r->lock);
	tail_add(r, bytes, len);
	if (r->until && !r->until_ns && strstr(r->tail, r->until)) {
		machine_stats(r->machine, &stats);
		r->until_ns = clock_now_ns() - r->start_ns;
		r->until_instructions = stats.instructions;
		pthread_cond_signal(&r->changed);
	}
	pthread_mutex_unlock(&r->lock);
}

static void guest_ended(void *ctx, enum exit_code reason, const char *sentence)
{
	struct run *r = ctx;

	pthread_mutex_lock(&r->lock);
	r->ended = true;
	r->reason = reason;
	snprintf(r->sentence, sizeof(r->sentence), "%s", sentence);
	pthread_cond_signal(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

static int machine_boot(struct run *r, struct vm_shape *shape, uint8_t *ram)
{
	struct machine_config config = {
		.shape = shape,
		.vcpu_ops = &vcpu_soft_ops,
		.ram = ram,
		.tsc_hz = LAYOUT_TSC_HZ,
		.tsc_origin_ns = clock_now_ns(),
		.callbacks = {.ctx = r, .on_exit = guest_ended, .on_console = console_take}};
	struct loader_image *image;
	struct vcpu_state bsp;
	char why[256];
	int err = loader_open(shape, r->kernel, r->initrd, r->append, &image, why, sizeof(why));

	if (err) {
		fprintf(stderr, "%s\n", why);
		return err;
	}
	config.debug_exit = loader_debug_exit(image);
	err = machine_create(&config, &r->machine);
	if (!err)
		err = loader_place(image, shape, ram, &bsp);
	if (!err)
		err = machine_start_bsp(r->machine, &bsp);
	r->start_ns = clock_now_ns();
	if (!err)
		err = machine_start(r->machine);
	loader_close(image);
	return err;
}

/* Until the marker has come, the guest has ended, or time is over. */
static void end_wait(struct run *r)
{
	struct timespec deadline;

	clock_gettime(CLOCK_REALTIME, &deadline);
	deadline.tv_sec += r->timeout_s;
	pthread_mutex_lock(&r->lock);
	while (!r->ended && !r->until_ns)
		if (pthread_cond_timedwait(&r->changed, &r->lock, &deadline) == ETIMEDOUT)
			break;
	pthread_mutex_unlock(&r->lock);
}

static int result_print(struct run *r)
{
	struct machine_stats stats;
	uint64_t ns = r->until_ns ? r->until_ns : clock_now_ns() - r->start_ns;

	machine_stats(r->machine, &stats);
	uint64_t instructions = r->until_ns ? r->until_instructions : stats.instructions;
	printf("\n%-24s %10s %12s %10s\n", "boot", "seconds", "M instr", "M instr/s");
	printf("%-24s %10.2f %12.1f %10.1f\n", r->until ? r->until : "whole run", (double)ns / 1e9,
	       (double)instructions / 1e6, (double)instructions * 1e3 / (double)ns);
	printf("interrupts %llu, hlt %llu, kicks %llu, local IPIs %llu\n",
	       (unsigned long long)stats.interrupts, (unsigned long long)stats.exits_hlt,
	       (unsigned long long)stats.exits_kicked, (unsigned long long)stats.ipis_local);
	if (r->until && !r->until_ns) {
		fprintf(stderr, "'%s' did not come: %s\n", r->until,
			r->ended ? r->sentence : "time is over");
		return EXIT_ERROR;
	}
	return r->until ? EXIT_OK : (int)r->reason;
}

static int options_parse(struct run *r, int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "k:i:a:c:m:t:u:qh")) != -1) {
		switch (c) {
		case 'k':
			r->kernel = optarg;
			break;
		case 'i':
			r->initrd = optarg;
			break;
		case 'a':
			r->append = optarg;
			break;
		case 'c':
			r->vcpus = (unsigned)atoi(optarg);
			break;
		case 'm':
			if (control_size_parse(optarg, &r->mem_bytes))
				return -EINVAL;
			break;
		case 't':
			r->timeout_s = (unsigned)atoi(optarg);
			break;
		case 'u':
			r->until = optarg;
			break;
		case 'q':
			r->quiet = true;
			break;
		default:
			return -EINVAL;
		}
	}
	return r->kernel ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
	struct run r = {.initrd = "",
			.append = "console=ttyS0",
			.vcpus = 1,
			.mem_bytes = UINT64_C(1) << 30,
			.timeout_s = 300,
			.lock = PTHREAD_MUTEX_INITIALIZER,
			.changed = PTHREAD_COND_INITIALIZER};
	struct vm_shape shape;
	uint8_t *ram;

	if (options_parse(&r, argc, argv) || shape_init(&shape, 1, &r.vcpus, &r.mem_bytes)) {
		fprintf(stderr,
			"Usage: bench_guest -k KERNEL [-i INITRD] [-a CMDLINE] [-c CPUS] [-m MEM]\n"
			"                   [-u TEXT: stop when the console shows it] [-t SECONDS] "
			"[-q]\n");
		return EXIT_USAGE;
	}
	ram = mmap(NULL, shape.ram_end, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ram == MAP_FAILED || machine_boot(&r, &shape, ram)) {
		fprintf(stderr, "cannot start the guest\n");
		return EXIT_ERROR;
	}
	end_wait(&r);
	int code = result_print(&r);
	fflush(stdout);
	_exit(code);
}
