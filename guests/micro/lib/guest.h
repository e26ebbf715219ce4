/* SPDX-License-Identifier: Apache-2.0 */
/* What a micro-guest's program may use: all of it at CPL3, the library does the rest. */
#ifndef GUESTS_MICRO_LIB_GUEST_H
#define GUESTS_MICRO_LIB_GUEST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "guests/micro/lib/layout.h"

/*
 * A program has a name and a main, which runs on CPU 0 at CPL3 with interrupts on, after all other
 * CPUs have started; they sleep until team_run. What main returns is the result: 0 prints
 * "NAME: PASS". Page tables are never changed after the start. Pages are the unit in which memory
 * moves between slices: what different CPUs write belongs on different pages (PAGE_ALIGNED).
 */
extern const char guest_name[];
int main(void);

#define PAGE	     4096ul
#define PAGE_ALIGNED __attribute__((aligned(4096)))
#define CPUS_MAX     VECTORS_SENDERS
#define NODES_MAX    64
#define REGIONS_MAX  128

/* ---- the machine (ACPI: MADT and SRAT); constant after the start ---- */

/* Free memory at the start: whole pages that the library does not use. */
struct region {
	unsigned node;
	uint64_t start, end;
	uint64_t next; /* the allocator's: below it is taken */
};

struct machine {
	unsigned cpus, nodes, regions_count;
	uint64_t tsc_hz;
	bool tsc_known;	  /* else tsc_hz is a guess */
	bool has_cx16;	  /* CMPXCHG16B */
	uint64_t ram_end; /* one past the last byte of RAM */
	uint32_t apic_id[CPUS_MAX];
	uint16_t node_of[CPUS_MAX];
	uint64_t node_bytes[NODES_MAX];
	struct region regions[REGIONS_MAX];
	char cmdline[2048];
};
extern struct machine machine;

/* This CPU's number, 0..machine.cpus-1. */
unsigned cpu_index(void);
/* The nth CPU of a node, or -1. */
int cpu_on_node(unsigned node, unsigned nth);
/* Interrupts of this vector that the CPU has taken; changes under the reader. */
uint32_t interrupts_taken(unsigned cpu, unsigned vector);
/* Sends an interrupt; what was stored before is seen by its handler. */
void ipi_send(unsigned cpu, unsigned vector);

/* ---- arguments: words "key=value" or "key" of the command line ---- */

uint64_t arg_number(const char *key, uint64_t otherwise); /* decimal, 0x..., K, M, G */
bool arg_flag(const char *key);
/* Up to size-1 characters of the word's value; otherwise if there is none. */
const char *arg_text(const char *key, const char *otherwise, char *out, size_t size);

/* ---- memory ---- */

/* Zeroed pages homed on the node (on the next one that has memory, if it has none). CPU 0 only. */
void *node_alloc(unsigned node, size_t bytes);
/* All pages of the free regions, counted through. */
uint64_t pages_free_count(void);
uint8_t *page_free_at(uint64_t index);

/* ---- printing: whole lines, any CPU; %s %c %u %d %x %lu %ld %lx %%, width, '-' and '0' ---- */

void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Prints "NAME: FAIL why" and ends the VM. */
void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
/* A number of thousandths as "12.345", in a buffer of 24. */
char *milli_text(char *out, uint64_t thousandths);

/* ---- time ---- */

uint64_t ticks_now(void); /* TSC, not before earlier loads */
uint64_t ticks_ns(uint64_t ticks);
uint64_t ns_ticks(uint64_t ns);
static inline void cpu_pause(void)
{
	__asm__ volatile("pause" ::: "memory");
}

/* ---- waiting ---- */

/*
 * wait_init; while (!condition) wait_more. It spins a while, then sleeps between looks, so that
 * CPUs which share a host's core let each other run, and fails the program after its deadline
 * (argument timeout=, seconds).
 */
struct wait {
	const char *what;
	uint64_t spin_until, deadline;
	unsigned nap_us;
};
void wait_init(struct wait *w, const char *what, unsigned spin_us);
void wait_more(struct wait *w);
#define SPIN_US 50

/* Test-and-test-and-set; give it a page of its own. */
struct lock {
	volatile uint32_t held;
};
void lock_take(struct lock *l);
void lock_drop(struct lock *l);

/* All n meet; one generation after the other. Zero it, set n. */
struct barrier {
	volatile uint32_t arrived PAGE_ALIGNED;
	volatile uint32_t generation PAGE_ALIGNED;
	uint32_t n;
};
void barrier_init(struct barrier *b, unsigned n);
void barrier_wait(struct barrier *b);

/* ---- teams ---- */

/* Runs work on CPUs 0..n-1 at once, each told its number; returns when all have. CPU 0 only. */
typedef void team_work(unsigned self, unsigned n, void *arg);
void team_run(unsigned n, team_work *work, void *arg);

/* ---- atomics: one LOCKed instruction each ---- */

static inline uint64_t atomic_add_fetch_old(volatile uint64_t *p, uint64_t v)
{
	__asm__ volatile("lock xaddq %0, %1" : "+r"(v), "+m"(*p)::"memory", "cc");
	return v;
}

static inline uint32_t atomic_exchange32(volatile uint32_t *p, uint32_t v)
{
	__asm__ volatile("xchgl %0, %1" : "+r"(v), "+m"(*p)::"memory");
	return v;
}

/* ---- numbers ---- */

struct random {
	uint64_t state;
};
uint64_t random_next(struct random *r);
/* A random number whose sequence is the same in every run with the same seed= argument. */
void random_seed(struct random *r, uint64_t stream);
double real_sin(double x);
double real_cos(double x);
double real_sqrt(double x);
static inline double real_abs(double x)
{
	return x < 0 ? -x : x;
}

void *memcpy(void *to, const void *from, size_t n);
void *memset(void *to, int byte, size_t n);
int memcmp(const void *a, const void *b, size_t n);
void *memmove(void *to, const void *from, size_t n);
size_t strlen(const char *s);
bool text_equal(const char *a, const char *b);

#endif
