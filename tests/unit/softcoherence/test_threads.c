/* SPDX-License-Identifier: Apache-2.0 */
/* Fetch coherence by threads: one CPU patches a function and announces it by memory, another runs
 * it as soon as it knows; in one process, and on two slices. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>

#include "tests/unit/dsm/engine_rig.h"
#include "tests/unit/softcore/flat.h"

#define ROUNDS	       10000
#define ROUNDS_SLICES  500
#define ROUNDS_COUNTER 1000
#define COUNTER_DELAY  20000 /* turns of a loop: the page changes hands a few hundred times */
#define COUNTER_READS  20    /* more than the pages of code and tables */
/* Below 2 GiB: absolute 32-bit addresses. One line each, on a page of their own. */
#define ANNOUNCED FLAT_DATA
#define ANSWERED  (FLAT_DATA + 0x1000)
#define FUNCTION  (FLAT_DATA + 0x2000)

#define LE32(v) (uint8_t)(v), (uint8_t)((v) >> 8), (uint8_t)((v) >> 16), (uint8_t)((v) >> 24)

/* ecx counts down from its value; each value is put into the function, announced, and awaited. */
static void writer_put(struct flat *f)
{
	FLAT_PUT(f, FLAT_CODE, 0x89, 0x0c, 0x25, LE32(FUNCTION + 1), /* 1: mov [FUNCTION+1], ecx */
		 0x89, 0x0c, 0x25, LE32(ANNOUNCED),		     /* mov [ANNOUNCED], ecx */
		 0xf3, 0x90,					     /* 2: pause */
		 0x39, 0x0c, 0x25, LE32(ANSWERED),		     /* cmp [ANSWERED], ecx */
		 0x75, 0xf5,					     /* jne 2b */
		 0xff, 0xc9,					     /* dec ecx */
		 0x75, 0xe3,					     /* jne 1b */
		 0xf4);						     /* hlt */
}

/* esi: the last value; ebx counts the calls that returned another than was announced. */
static void reader_put(struct flat *f)
{
	FLAT_PUT(f, FLAT_CODE2, 0xf3, 0x90,		 /* 1: pause */
		 0x8b, 0x14, 0x25, LE32(ANNOUNCED),	 /* mov edx, [ANNOUNCED] */
		 0x39, 0xf2,				 /* cmp edx, esi */
		 0x74, 0xf3,				 /* je 1b */
		 0x89, 0xd6,				 /* mov esi, edx */
		 0xe8, LE32(FUNCTION - FLAT_CODE2 - 20), /* call FUNCTION */
		 0x39, 0xd0,				 /* cmp eax, edx */
		 0x74, 0x02,				 /* je 2f */
		 0xff, 0xc3,				 /* inc ebx */
		 0x89, 0x14, 0x25, LE32(ANSWERED),	 /* 2: mov [ANSWERED], edx */
		 0x83, 0xfa, 0x01,			 /* cmp edx, 1 */
		 0x75, 0xda,				 /* jne 1b */
		 0xf4);
	FLAT_PUT(f, FUNCTION, 0xb8, LE32(0), 0xc3); /* mov eax, 0; ret */
}

struct runner {
	struct flat *flat;
	unsigned cpu;
	enum vcpu_exit_reason reason;
};

static void *runner_main(void *arg)
{
	struct runner *r = arg;

	do
		r->reason = flat_run(r->flat, r->cpu);
	while (r->reason == VCPU_EXIT_KICKED);
	return NULL;
}

/* CPU 0 of first and CPU 1 of second run to their HLT. */
static void run_both(struct flat *first, struct flat *second)
{
	struct runner run[2] = {{.flat = first, .cpu = 0}, {.flat = second, .cpu = 1}};
	pthread_t thread[2];

	for (unsigned n = 0; n < 2; n++)
		cr_assert_eq(pthread_create(&thread[n], NULL, runner_main, &run[n]), 0);
	for (unsigned n = 0; n < 2; n++) {
		pthread_join(thread[n], NULL);
		cr_assert_eq(run[n].reason, VCPU_EXIT_HLT);
	}
}

/* How often the reader ran old code. */
static uint64_t stale(struct flat *writer, struct flat *reader, unsigned rounds)
{
	flat_reset(writer, 0, FLAT_CODE);
	writer->cpu[0]->reg[RCX] = rounds;
	flat_reset(reader, 1, FLAT_CODE2);
	reader->cpu[1]->reg[RSP] = FLAT_STACK + 0x3000; /* a page of its own */
	run_both(writer, reader);
	return reader->cpu[1]->reg[RBX];
}

Test(softcoherence, threads, .timeout = 100)
{
	struct flat flat;

	flat_make(&flat);
	writer_put(&flat);
	reader_put(&flat);
	cr_expect_eq(stale(&flat, &flat, ROUNDS), 0);
	flat_free(&flat);
}

/* ---- Two slices ---- */

static struct rig rig;
static void *shared[2];

static void on_page_changed(void *ctx, uint64_t gfn)
{
	const struct rig_slice *slice = ctx;

	vcpu_soft_ops.memory_changed(shared[slice->index], gfn << PAGE_SHIFT, PANGEA_PAGE_SIZE);
}

/* The engine itself stores to code, for a LOCKed access that no instruction may do. */
static void locked_access_is_told(const struct flat *f)
{
	struct locked_access access = {
		.type = LOCKED_SET, .part = {{FUNCTION + 1, 4}}, .operand = {7}};
	_Atomic uint64_t *gen = &f->cpu[0]->vm->code[FUNCTION >> PAGE_SHIFT].gen;
	const uint64_t before = atomic_load(gen);

	/* It is exclusive here before: what is told is the store. */
	rig_write(&rig, 1, FUNCTION + 0x800, 1);
	cr_assert_eq(engine_locked(rig.slice[1].engine, &access), 0);
	cr_expect_gt(atomic_load(gen), before);
}

/* The engines take pages away as soon as they run, so they start when the CPUs are there. */
static void slices_up(struct flat flat[2])
{
	rig_init(&rig, 2);
	cr_assert_eq(rig.config.ram_end, FLAT_RAM);
	rig.config.callbacks.on_page_changed = on_page_changed;
	for (unsigned i = 0; i < 2; i++)
		rig_create(&rig, i);
	for (unsigned i = 0; i < 2; i++) {
		flat_make_cpus(&flat[i], engine_ram(rig.slice[i].engine));
		shared[i] = flat[i].shared;
	}
	for (unsigned i = 0; i < 2; i++)
		rig_connect(&rig, i);
	for (unsigned i = 0; i < 2; i++)
		cr_assert(rig_until(&rig.slice[i].ready, 1), "slice %u is ready", i);
	flat_map(&flat[0]);
}

static void slices_down(struct flat flat[2])
{
	rig_down(&rig);
	for (unsigned i = 0; i < 2; i++)
		flat_free_cpus(&flat[i]);
}

Test(softcoherence, slices, .timeout = 100)
{
	struct flat flat[2];

	slices_up(flat);
	writer_put(&flat[0]);
	reader_put(&flat[0]);
	cr_expect_eq(stale(&flat[0], &flat[1], ROUNDS_SLICES), 0);
	locked_access_is_told(&flat[1]);
	printf("pages taken from the reader's slice: %lu\n",
	       (unsigned long)rig_stats(&rig, 1).invalidations);
	slices_down(flat);
}

/* ecx times: a LOCKed increment, and then time for the other slice to take the page. */
static void counter_put(struct flat *f, uint64_t code)
{
	FLAT_PUT(f, code, 0xf0, 0xff, 0x04, 0x25, LE32(ANNOUNCED), /* 1: lock inc [ANNOUNCED] */
		 0xba, LE32(COUNTER_DELAY),			   /* mov edx, COUNTER_DELAY */
		 0xff, 0xca,					   /* 2: dec edx */
		 0x75, 0xfc,					   /* jne 2b */
		 0xff, 0xc9,					   /* dec ecx */
		 0x75, 0xeb,					   /* jne 1b */
		 0xf4);
}

/* A LOCKed instruction on a page that the other slice has asks for it once, for writing: so the
 * page's way to and fro adds no faults for reading to those for code and tables. On a host with more to do a thread
 * that waits for a CPU may lose a page again before it has used it; one that read first would have as many faults for
 * reading as for writing. */
Test(softcoherence, counter_of_two_slices, .timeout = 100)
{
	struct flat flat[2];
	struct engine_stats stats[2];

	slices_up(flat);
	counter_put(&flat[0], FLAT_CODE);
	counter_put(&flat[0], FLAT_CODE2);
	flat_reset(&flat[0], 0, FLAT_CODE);
	flat_reset(&flat[1], 1, FLAT_CODE2);
	flat[0].cpu[0]->reg[RCX] = flat[1].cpu[1]->reg[RCX] = ROUNDS_COUNTER;
	run_both(&flat[0], &flat[1]);
	cr_expect_eq((uint32_t)rig_read(&rig, 0, ANNOUNCED), 2 * ROUNDS_COUNTER);
	for (unsigned i = 0; i < 2; i++)
		stats[i] = rig_stats(&rig, i);
	printf("faults of the slices for reading: %lu and %lu, for writing: %lu and %lu\n",
	       (unsigned long)stats[0].faults_read, (unsigned long)stats[1].faults_read,
	       (unsigned long)stats[0].faults_write, (unsigned long)stats[1].faults_write);
	cr_expect_leq(stats[0].faults_read + stats[1].faults_read,
		      COUNTER_READS + (stats[0].faults_write + stats[1].faults_write) / 2);
	slices_down(flat);
}
