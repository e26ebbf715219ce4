/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol core alone: steps a second over a few workloads, and bytes of metadata a page; and
 * what it costs to count what becomes of the pages. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/random.h"
#include "dsm/engine/page_counts.h"
#include "dsm/protocol/protocol.h"

#define SLICES	    4u
#define CHUNK_PAGES (HOME_CHUNK_SIZE / PANGEA_PAGE_SIZE)
#define CHUNKS	    (SLICES * 128u) /* 256 MiB homed at each slice */
#define GFNS	    ((uint64_t)CHUNKS * CHUNK_PAGES)
/* Messages in flight: one access causes at most a few to each slice. */
#define RING	   256u
#define RUN_NS	   UINT64_C(1000000000)
#define BATCH	   1024u
#define HOT_PAGES  64u
#define READ_PAGES 4096u

struct flight {
	unsigned from, to;
	struct wire_msg msg;
};

struct bench {
	struct protocol *slices[SLICES];
	void *mem[SLICES];
	size_t size;
	uint8_t homes[CHUNKS];
	struct flight ring[RING];
	unsigned head, count;
	struct protocol_actions actions;
	uint64_t accesses, steps, messages, random;
};

struct access {
	unsigned slice;
	uint64_t gfn;
	bool write;
};

struct workload {
	const char *name, *what;
	struct access (*next)(struct bench *b);
};

static uint64_t random_next(struct bench *b)
{
	return random_xorshift(&b->random) >> 8;
}

static struct access uniform_next(struct bench *b)
{
	uint64_t r = random_next(b);
	return (struct access){r % SLICES, (r >> 8) % GFNS, (r >> 4) % 4 == 0};
}

/* Each page goes round, read and written by every slice in turn. */
static struct access migratory_next(struct bench *b)
{
	uint64_t turn = b->accesses / 2;
	return (struct access){turn % SLICES, (turn / SLICES) % HOT_PAGES * CHUNK_PAGES,
			       b->accesses % 2};
}

/* All read; one access in 64 is a write that invalidates them all. */
static struct access read_shared_next(struct bench *b)
{
	uint64_t r = random_next(b);
	return (struct access){r % SLICES, (r >> 8) % READ_PAGES, (r >> 32) % 64 == 0};
}

/* First touches of pages at their home, written straight away. */
static struct access local_next(struct bench *b)
{
	unsigned slice = b->accesses % SLICES;
	uint64_t per_slice = GFNS / SLICES;
	return (struct access){slice, slice * per_slice + b->accesses / SLICES % per_slice, true};
}

static void bench_init(struct bench *b, uint64_t hold_ns)
{
	b->accesses = b->steps = b->messages = 0;
	b->head = b->count = 0;
	b->random = 88172645463325252u;
	for (unsigned i = 0; i < CHUNKS; i++)
		b->homes[i] = (uint8_t)(i / (CHUNKS / SLICES));
	for (unsigned i = 0; i < SLICES; i++) {
		struct protocol_config config = {.self = i,
						 .slices = SLICES,
						 .epoch = 1,
						 .gfns = GFNS,
						 .home_of_chunk = b->homes,
						 .hold_ns = hold_ns,
						 .requests_max = 16};
		b->size = protocol_size(&config);
		b->mem[i] = mmap(NULL, b->size, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (b->mem[i] == MAP_FAILED || !(b->slices[i] = protocol_init(b->mem[i], &config)))
			exit(EXIT_ERROR);
	}
}

static void bench_free(struct bench *b)
{
	for (unsigned i = 0; i < SLICES; i++)
		munmap(b->mem[i], b->size);
}

static void bench_step(struct bench *b, unsigned slice, const struct protocol_event *event)
{
	protocol_step(b->slices[slice], event, &b->actions);
	b->steps++;
	for (unsigned i = 0; i < b->actions.count; i++) {
		const struct protocol_action *a = &b->actions.list[i];
		if (a->type != ACTION_SEND && a->type != ACTION_SEND_PAGE)
			continue;
		if (b->count == RING)
			exit(EXIT_ERROR);
		b->ring[(b->head + b->count++) % RING] = (struct flight){slice, a->to, a->msg};
		b->messages++;
	}
}

static void bench_access(struct bench *b, struct access access)
{
	struct protocol_event event = {.type = access.write ? EVENT_FAULT_WRITE : EVENT_FAULT_READ,
				       .gfn = access.gfn};
	b->accesses++;
	bench_step(b, access.slice, &event);
	event.type = EVENT_MESSAGE;
	while (b->count) {
		struct flight *flight = &b->ring[b->head];
		event.from = flight->from;
		event.gfn = flight->msg.gfn;
		event.msg = flight->msg;
		unsigned to = flight->to;
		b->head = (b->head + 1) % RING;
		b->count--;
		bench_step(b, to, &event);
	}
}

static void workload_run(struct bench *b, const struct workload *workload)
{
	bench_init(b, 0);
	uint64_t start = clock_now_ns(), now = start;
	while (now - start < RUN_NS) {
		for (unsigned i = 0; i < BATCH; i++)
			bench_access(b, workload->next(b));
		now = clock_now_ns();
	}
	double seconds = (double)(now - start) / 1e9;
	printf("| %-11s | %-38s | %10.2f | %7.0f | %10.2f |\n", workload->name, workload->what,
	       (double)b->steps / seconds / 1e6, 1e9 * seconds / (double)b->steps,
	       (double)b->messages / (double)b->accesses);
	bench_free(b);
}

static size_t resident(const void *region, size_t size)
{
	size_t pages = (size + PANGEA_PAGE_SIZE - 1) / PANGEA_PAGE_SIZE, count = 0;
	unsigned char *map = malloc(pages);
	if (!map || mincore((void *)(uintptr_t)region, size, map))
		exit(EXIT_ERROR);
	for (size_t i = 0; i < pages; i++)
		count += map[i] & 1;
	free(map);
	return count * PANGEA_PAGE_SIZE;
}

static void memory_row(unsigned gib, unsigned slices)
{
	uint64_t gfns = ((uint64_t)gib << 30) / PANGEA_PAGE_SIZE, chunks = gfns / CHUNK_PAGES;
	uint8_t *homes = malloc(chunks);
	if (!homes)
		exit(EXIT_ERROR);
	for (uint64_t i = 0; i < chunks; i++)
		homes[i] = (uint8_t)(i * slices / chunks);
	struct protocol_config config = {.slices = slices,
					 .epoch = 1,
					 .gfns = gfns,
					 .home_of_chunk = homes,
					 .hold_ns = 1000,
					 .requests_max = 16};
	struct protocol_config homeless = config;
	size_t size = protocol_size(&config);
	memset(homes, slices > 1 ? 1 : 0, chunks);
	size_t without = protocol_size(&homeless);
	for (uint64_t i = 0; i < chunks; i++)
		homes[i] = (uint8_t)(i * slices / chunks);
	void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED || madvise(mem, size, MADV_NOHUGEPAGE) ||
	    !protocol_init(mem, &config))
		exit(EXIT_ERROR);
	double homed = (double)gfns / slices;
	double entry = slices > 1 ? (double)(size - without) / homed : 16.0;
	double page = ((double)size - entry * homed) / (double)gfns;
	printf("| %6u | %6u | %20.3f | %20.3f | %14.1f | %16.1f |\n", gib, slices, page, entry,
	       (double)size / (1 << 20), (double)resident(mem, size) / 1024);
	munmap(mem, size);
	free(homes);
}

/* A fault counted at the home, of random ones of so many pages, half of them writes. */
static void page_counts_row(struct bench *b, const char *name, uint64_t pages)
{
	struct page_counts *counts = page_counts_create(GFNS, 0);
	uint64_t start_ns = clock_now_ns(), now_ns, count = 0;
	if (!counts)
		exit(EXIT_ERROR);
	do {
		now_ns = clock_now_ns();
		for (unsigned i = 0; i < BATCH; i++) {
			uint64_t r = random_next(b), gfn = (r >> 8) % pages;
			if (r & 8)
				page_counts_write(counts, gfn, r % SLICES, r & 16, now_ns);
			else
				page_counts_read(counts, gfn, r % SLICES, now_ns);
		}
		count += BATCH;
	} while (now_ns - start_ns < RUN_NS);
	printf("| %-20s | %8.0f |\n", name, (double)(now_ns - start_ns) / (double)count);
	page_counts_destroy(counts);
}

int main(void)
{
	static const struct workload workloads[] = {
		{"uniform", "any page by anyone, a quarter writes", uniform_next},
		{"migratory", "read, then written by each in turn", migratory_next},
		{"read-shared", "read by all, 1 in 64 a write", read_shared_next},
		{"local", "first touch at the home", local_next},
	};
	static struct bench b;
	printf("The protocol core alone, %u slices in one thread, no I/O:\n\n", SLICES);
	printf("| workload    | what                                   | M steps/s  | ns/step | "
	       "msgs/access |\n|---|---|---|---|---|\n");
	for (unsigned i = 0; i < sizeof(workloads) / sizeof(workloads[0]); i++)
		workload_run(&b, &workloads[i]);
	printf("\nMetadata of one slice (all fixed parts included):\n\n"
	       "| GiB    | slices | bytes per guest page | bytes per homed page | MiB reserved   | "
	       "KiB when untouched |\n|---|---|---|---|---|---|\n");
	memory_row(1, 2);
	memory_row(64, 1);
	memory_row(64, 4);
	memory_row(1024, 64);
	printf("\nWhat the home adds for each fault, 16 bytes a page that others asked for:\n\n"
	       "| faults on            | ns/fault |\n|---|---|\n");
	page_counts_row(&b, "one page", 1);
	page_counts_row(&b, "64 pages", HOT_PAGES);
	page_counts_row(&b, "4,096 pages", READ_PAGES);
	page_counts_row(&b, "262,144 pages", GFNS);
	return 0;
}
