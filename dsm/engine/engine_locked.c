/* SPDX-License-Identifier: Apache-2.0 */
/* LOCKed accesses across pages or cache lines: done here, on the frames, while no vCPU maps them. */
#include <assert.h>
#include <errno.h>
#include <semaphore.h>

#include "base/clock.h"
#include "base/log.h"
#include "dsm/engine/engine_parts.h"

/*
 * Atomic: the pages are exclusive here, so no other slice has them; and they are unmapped from the
 * vCPUs before the bytes are read and mapped again after they are written, so no CPU of this slice
 * reads or writes them meanwhile, by whatever instruction. Its next access is a fault that finds
 * the page mapped.
 *
 * Live: the access's pages are pinned (protocol_pin.c) and asked for one after the other, by rising
 * gfn. A slice that keeps a page therefore waits for higher ones only; the slice that keeps the
 * highest page anybody waits for has all of its own, and unpins them at once. So whoever waits gets
 * on, however many slices do this on however many pages; and nobody waits for a pin longer than its
 * keeper waits for one page in its turn.
 *
 * Fair: one access of a slice after the other, in the order they came; those that waited, at most
 * one a thread, and find all their pages pinned are done with it. After that the pages go to who
 * wants them.
 */
struct locked_request {
	struct locked_request *next;
	struct locked_access *access; /* of the thread that waits */
	uint64_t gfn[2];	      /* rising */
	unsigned pages;
	int result;
	sem_t done;
};

static_assert(PROTOCOL_PINS_MAX == 2, "a LOCKed access has two pages at most");

/* ---- The thread that asks -------------------------------------------------------------------- */

static int request_fill(const struct engine *e, struct locked_request *r)
{
	const struct locked_part *part = r->access->part;
	unsigned parts = part[1].bytes ? 2 : 1;
	uint64_t gfn;

	if (!locked_valid(r->access))
		return -EINVAL;
	for (unsigned k = 0; k < parts; k++) {
		gfn = part[k].gpa >> PAGE_SHIFT;
		if (!pages_is_ram(e->pages, gfn))
			return -EFAULT;
		if (!r->pages || r->gfn[0] != gfn)
			r->gfn[r->pages++] = gfn;
	}
	if (r->pages == 2 && r->gfn[0] > r->gfn[1]) {
		gfn = r->gfn[0];
		r->gfn[0] = r->gfn[1];
		r->gfn[1] = gfn;
	}
	return 0;
}

/* The exchange is a full barrier: what this thread stored before is seen before the access. */
static void request_post(struct engine *e, struct locked_request *r)
{
	r->next = atomic_load_explicit(&e->locked_posted, memory_order_relaxed);
	while (!atomic_compare_exchange_weak_explicit(&e->locked_posted, &r->next, r,
						      memory_order_seq_cst, memory_order_relaxed))
		;
	engine_wake(e);
}

int engine_locked(struct engine *e, struct locked_access *access)
{
	struct locked_request r = {.access = access};
	int err = request_fill(e, &r);

	if (err)
		return err;
	if (sem_init(&r.done, 0, 0))
		return -errno;
	request_post(e, &r);
	/* The engine answers all, at a loss and at its own end too. */
	while (sem_wait(&r.done))
		invariant(errno == EINTR);
	sem_destroy(&r.done);
	return r.result;
}

/* ---- The engine thread ----------------------------------------------------------------------- */

void engine_locked_take(struct engine *e)
{
	struct locked_queue *q = &e->locked;
	struct locked_request *posted, *next, *list = NULL, *last;

	posted = last = atomic_exchange_explicit(&e->locked_posted, NULL, memory_order_acquire);
	/* The latest is first. */
	for (; posted; posted = next) {
		next = posted->next;
		posted->next = list;
		list = posted;
	}
	if (!list)
		return;
	if (q->first)
		q->last->next = list;
	else
		q->first = list;
	q->last = last;
}

/* Takes the request out of the queue, behind `before` (NULL: it is the first), and answers it: its
 * thread may be gone when this returns. */
static void request_answer(struct engine *e, struct locked_request *before, int result)
{
	struct locked_queue *q = &e->locked;
	struct locked_request *r = before ? before->next : q->first;

	if (before)
		before->next = r->next;
	else
		q->first = r->next;
	if (q->last == r)
		q->last = before;
	r->result = result;
	sem_post(&r->done);
}

/* Nothing will come any more, or nothing may be built on what is here. */
static bool engine_over(const struct engine *e)
{
	return e->closing || e->failed ||
	       atomic_load_explicit(&e->peers_lost, memory_order_relaxed);
}

/* Asks for the page unless that was done; true if it is exclusive here and stays. */
static bool page_gather(struct engine *e, uint64_t gfn)
{
	const struct page_fault fault = {.gfn = gfn, .write = true};

	if (protocol_page_pinned(e->protocol, gfn))
		return true;
	if (e->locked.asked == gfn + 1)
		return false;
	if (engine_pin(e, gfn, true))
		return false;
	e->locked.asked = gfn + 1;
	engine_fault(e, &fault, clock_now_ns());
	return protocol_page_pinned(e->protocol, gfn);
}

static bool pages_gather(struct engine *e, const struct locked_request *r)
{
	for (unsigned k = 0; k < r->pages; k++)
		if (!page_gather(e, r->gfn[k]))
			return false;
	e->locked.asked = 0;
	return true;
}

/* Does r need no page but these, which are exclusive here and mapped for nobody? */
static bool pages_cover(const struct locked_request *r, const uint64_t gfn[2], unsigned pages)
{
	for (unsigned k = 0; k < r->pages; k++)
		if (r->gfn[k] != gfn[0] && r->gfn[k] != gfn[pages - 1])
			return false;
	return true;
}

static void request_perform(struct engine *e, struct locked_request *r)
{
	uint8_t *place[2] = {NULL, NULL};

	for (unsigned k = 0; k < 2; k++) {
		const struct locked_part *part = &r->access->part[k];

		if (part->bytes)
			place[k] = pages_frame(e->pages, part->gpa >> PAGE_SHIFT) +
				   part->gpa % PANGEA_PAGE_SIZE;
	}
	locked_perform(r->access, place);
	for (unsigned k = 0; k < r->pages; k++)
		engine_page_changed(e, r->gfn[k]);
}

/* The accesses in the queue, from the first on, that need no page but these. */
static void requests_perform(struct engine *e, const uint64_t gfn[2], unsigned pages)
{
	struct locked_request *before = NULL, *r = e->locked.first, *next;

	for (; r; r = next) {
		next = r->next;
		if (!pages_cover(r, gfn, pages)) {
			before = r;
			continue;
		}
		request_perform(e, r);
		request_answer(e, before, 0);
	}
}

/* The first access's pages are all here: does it, and lets them go. */
static void first_perform(struct engine *e)
{
	uint64_t gfn[2] = {e->locked.first->gfn[0], e->locked.first->gfn[1]};
	unsigned pages = e->locked.first->pages;

	for (unsigned k = 0; k < pages; k++)
		engine_page_hide(e, gfn[k]);
	if (e->failed)
		return;
	requests_perform(e, gfn, pages);
	for (unsigned k = 0; k < pages; k++)
		engine_page_show(e, gfn[k]);
	for (unsigned k = 0; k < pages; k++)
		(void)engine_pin(e, gfn[k], false);
}

void engine_locked_run(struct engine *e)
{
	struct locked_queue *q = &e->locked;

	if (!q->first || q->under_way)
		return;
	q->under_way = true;
	while (q->first && !engine_over(e) && pages_gather(e, q->first))
		first_perform(e);
	while (q->first && engine_over(e))
		request_answer(e, NULL, -ECANCELED);
	q->under_way = false;
}
