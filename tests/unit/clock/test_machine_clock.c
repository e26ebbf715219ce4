/* SPDX-License-Identifier: Apache-2.0 */
/* Two machines whose hosts' clocks are hours apart and drift: one guest time, messages and all. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "vmm/boot/layout.h"
#include "vmm/machine/machine.h"
#include "vmm/machine/machine_msg.h"

#define MEM_BYTES  (UINT64_C(32) << 20)
#define FIRST_PAGE 0x10u /* the guest's code, as SIPI vectors */
#define NEXT_PAGE  0x11u
#define DATA_GPA   0x8000u /* stamps.S: turn, -, stamp (2), back (2), turns (2) */
#define STOP_MS	   10000u
#define BURSTS	   30u

/* Guest code, position-independent. */
extern const uint8_t stamps_first[], stamps_second[], stamps_end[];

struct host {
	uint64_t ahead_ns;
	int ppm;
};

struct pair {
	struct vm_shape shape;
	uint8_t *ram; /* of both: memory that is coherent without a protocol */
	struct host host[2];
	struct end {
		struct pair *pair;
		unsigned self;
		struct machine *machine;
		uint64_t hold_ns; /* how long what it sends is on its way */
	} end[2];
	uint64_t away_ns, bound_ns; /* the worst, and the greatest bound that was stated */
};

static uint64_t host_now(void *ctx)
{
	const struct host *h = ctx;
	uint64_t now_ns = clock_now_ns();

	return now_ns + h->ahead_ns + (uint64_t)((int64_t)now_ns / 1000000 * h->ppm);
}

static void on_exit_call(void *ctx, enum exit_code reason, const char *sentence)
{
	(void)ctx;
	cr_assert_eq(reason, EXIT_STOPPED, "%s", sentence);
}

static void on_console(void *ctx, const uint8_t *bytes, size_t len)
{
	(void)ctx;
	(void)bytes;
	(void)len;
}

/* The wire is a call. */
static int post(void *ctx, unsigned to, const struct wire_msg *msg, const void *payload)
{
	struct end *e = ctx;
	struct timespec hold = {.tv_nsec = (long)e->hold_ns};

	if (e->hold_ns)
		nanosleep(&hold, NULL);
	cr_assert_eq(machine_msg(e->pair->end[to].machine, e->self, msg, payload), 0);
	return 0;
}

/* Each end has one vCPU, which alone sends interrupts. */
static void ring(void *ctx)
{
	struct end *e = ctx;
	struct wire_msg msg;
	unsigned to;

	while (machine_next_post(e->machine, UINT64_MAX, &to, &msg))
		post(ctx, to, &msg, NULL);
}

static void end_new(struct pair *p, unsigned self, uint64_t origin_ns)
{
	struct end *e = &p->end[self];
	struct machine_config config = {
		.shape = &p->shape,
		.self = self,
		.vcpu_ops = &vcpu_soft_ops,
		.ram = p->ram,
		.tsc_hz = LAYOUT_TSC_HZ,
		.tsc_origin_ns = origin_ns,
		.host_clock = {host_now, &p->host[self]},
		.callbacks = {e, on_exit_call, on_console, NULL, post, ring}};

	e->pair = p;
	e->self = self;
	cr_assert_eq(machine_create(&config, &e->machine), 0);
}

static void pair_new(struct pair *p, struct host first, struct host second)
{
	static const unsigned vcpus[2] = {1, 1};
	static const uint64_t mem[2] = {MEM_BYTES, MEM_BYTES};

	memset(p, 0, sizeof(*p));
	p->host[0] = first;
	p->host[1] = second;
	cr_assert_eq(shape_init(&p->shape, 2, vcpus, mem), 0);
	p->ram = mmap(NULL, p->shape.ram_end, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	cr_assert_neq(p->ram, MAP_FAILED);
	end_new(p, 0, host_now(&p->host[0]));
	end_new(p, 1, 0);
}

static void pair_free(struct pair *p)
{
	for (unsigned i = 0; i < 2; i++)
		cr_assert_eq(machine_stop(p->end[i].machine, STOP_MS), 0);
	for (unsigned i = 0; i < 2; i++)
		machine_destroy(p->end[i].machine);
	munmap(p->ram, p->shape.ram_end);
}

static uint64_t bound_now(struct pair *p)
{
	struct machine_stats stats;

	machine_stats(p->end[1].machine, &stats);
	if (stats.clock_error_ns > p->bound_ns)
		p->bound_ns = stats.clock_error_ns;
	return stats.clock_error_ns;
}

/* ---- before the guest runs ---- */

Test(machine_clock, no_answer_no_clock)
{
	struct pair p;

	pair_new(&p, (struct host){0, 0}, (struct host){0, 0});
	cr_assert_eq(machine_clock_align(p.end[0].machine), 0, "slice 0 is the clock");
	cr_assert_eq(machine_clock_burst(p.end[0].machine), 0);
	cr_assert_eq(machine_clock_align(p.end[1].machine), -EAGAIN);
	cr_assert_eq(machine_ping(p.end[1].machine, 0), 0);
	cr_assert_eq(machine_clock_align(p.end[1].machine), 0);
	pair_free(&p);
}

Test(machine_clock, the_first_alignment_finds_the_offset)
{
	const uint64_t hours_ns = 5 * 3600 * NS_PER_S;
	struct machine_stats zero, one;
	struct pair p;

	pair_new(&p, (struct host){0, 0}, (struct host){hours_ns, 0});
	p.end[0].hold_ns = 300000;
	cr_assert_gt(machine_clock_burst(p.end[1].machine), 0, "answered within the call");
	machine_stats(p.end[0].machine, &zero);
	machine_stats(p.end[1].machine, &one);
	cr_assert_eq(zero.clock_error_ns, 0);
	cr_assert_geq(one.clock_error_ns, 150000, "half of the round trip");
	cr_assert_eq(one.clock_bursts, 1);
	cr_assert_leq(zero.clock_offset_ns - one.clock_offset_ns,
		      (int64_t)(hours_ns + one.clock_error_ns));
	cr_assert_geq(zero.clock_offset_ns - one.clock_offset_ns,
		      (int64_t)(hours_ns - one.clock_error_ns));
	pair_free(&p);
}

Test(machine_clock, what_peers_may_not_say)
{
	struct wire_msg pong = {.type = MSG_MACHINE_PONG, .arg = 1, .gfn = 5};
	struct wire_msg ping = {.type = MSG_MACHINE_PING, .arg = 1, .gfn = 5};
	struct pair p;

	pair_new(&p, (struct host){0, 0}, (struct host){0, 0});
	cr_assert_eq(machine_msg(p.end[0].machine, 1, &pong, NULL), -PANGEA_EWIRE,
		     "only slice 0 tells the time");
	cr_assert_eq(machine_msg(p.end[0].machine, 1, &ping, NULL), -PANGEA_EWIRE);
	pong.gfn = UINT64_MAX;
	cr_assert_eq(machine_msg(p.end[1].machine, 0, &pong, NULL), -PANGEA_EWIRE);
	pong.gfn = 5;
	pong.payload_len = 1;
	cr_assert_eq(machine_msg(p.end[1].machine, 0, &pong, ""), -PANGEA_EWIRE);
	pong.payload_len = 0;
	pong.arg = UINT64_MAX; /* the echo of a ping that was not sent yet */
	cr_assert_eq(machine_msg(p.end[1].machine, 0, &pong, NULL), 0);
	cr_assert_eq(machine_clock_align(p.end[1].machine), -EAGAIN);
	pair_free(&p);
}

/* ---- a guest that passes stamps from CPU to CPU ---- */

static void guest_start(struct pair *p)
{
	uint32_t second = shape_apic_id(&p->shape, 1);
	struct ipi init = {.dest = second, .exclude = IPI_NOBODY, .delivery = IPI_INIT};
	struct ipi sipi = {
		.dest = second, .exclude = IPI_NOBODY, .delivery = IPI_SIPI, .vector = NEXT_PAGE};
	struct vcpu_state bsp;
	struct wire_msg msg;

	memcpy(p->ram + (FIRST_PAGE << 12), stamps_first, (size_t)(stamps_second - stamps_first));
	memcpy(p->ram + (NEXT_PAGE << 12), stamps_second, (size_t)(stamps_end - stamps_second));
	vcpu_state_sipi(&bsp, FIRST_PAGE);
	cr_assert_eq(machine_start_bsp(p->end[0].machine, &bsp), 0);
	cr_assert_eq(machine_start(p->end[0].machine), 0);
	cr_assert_eq(machine_start(p->end[1].machine), 0);
	ipi_encode(&init, &msg);
	cr_assert_eq(machine_msg(p->end[1].machine, 0, &msg, NULL), 0);
	ipi_encode(&sipi, &msg);
	cr_assert_eq(machine_msg(p->end[1].machine, 0, &msg, NULL), 0);
}

static uint32_t guest_word(struct pair *p, unsigned word)
{
	return __atomic_load_n((uint32_t *)(p->ram + DATA_GPA) + word, __ATOMIC_RELAXED);
}

/* One burst, and the guest meanwhile. */
static void burst_wait(struct pair *p)
{
	unsigned ms = machine_clock_burst(p->end[1].machine);
	struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	bound_now(p);
	nanosleep(&pause, NULL);
}

static void stamps_go(struct host first, struct host second)
{
	struct pair p;
	uint32_t turns;

	pair_new(&p, first, second);
	machine_clock_burst(p.end[1].machine);
	guest_start(&p);
	for (unsigned i = 0; i < BURSTS; i++)
		burst_wait(&p);
	machine_clock_burst(p.end[1].machine); /* bounds the last interval */
	bound_now(&p);
	machine_end(p.end[0].machine, EXIT_STOPPED, NULL);
	cr_assert_eq(machine_stop(p.end[0].machine, STOP_MS), 0);
	cr_assert_eq(machine_stop(p.end[1].machine, STOP_MS), 0);
	turns = guest_word(&p, 6);
	printf("%u stamps each way; back by at most %u and %u ns; bound %llu ns\n", turns,
	       guest_word(&p, 4), guest_word(&p, 5), (unsigned long long)p.bound_ns);
	cr_assert_gt(turns, 0);
	cr_assert_gt(guest_word(&p, 7), 0);
	cr_assert_leq(guest_word(&p, 4), p.bound_ns);
	cr_assert_leq(guest_word(&p, 5), p.bound_ns);
	pair_free(&p);
}

Test(machine_clock, stamps_between_hosts_hours_apart)
{
	stamps_go((struct host){0, 0}, (struct host){7 * 3600 * NS_PER_S, 80});
}

Test(machine_clock, stamps_when_slice_0_is_ahead)
{
	stamps_go((struct host){9 * 3600 * NS_PER_S, -100}, (struct host){0, 60});
}
