/* SPDX-License-Identifier: Apache-2.0 */
/* Reads that a write follows: pages that migrate are asked for with the right to write at once. */
#include "base/clock.h"
#include "base/hash.h"
#include "dsm/engine/engine_parts.h"

/*
 * A page that a slice reads and then writes costs it two remote faults, and most pages that kernels
 * share are of this kind (locks, counters, queues). So a slice remembers the pages that it upgraded
 * after a read, and takes the next reads of them for writes: the adaptive migratory protocols of
 * Cox and Fowler, and of Stenstroem, Brorsson and Sandberg (both ISCA 1993), decided by the
 * requester alone. Every so often it asks for a copy only, so as to learn when that has changed.
 */
#define PREDICT_USES 3u
/* A write that comes later than this after the read was asked for is another story: a few remote
 * faults. If many wait for the page, it counts from the page's coming. */
#define SOON_NS 250000

static struct prediction *prediction_of(struct engine *e, uint64_t gfn)
{
	struct prediction *p = &e->predictions[hash_u64(gfn) % PREDICTIONS];

	if (p->tag != gfn + 1)
		*p = (struct prediction){.tag = gfn + 1};
	return p;
}

bool engine_predict_write(struct engine *e, uint64_t gfn)
{
	struct prediction *p = prediction_of(e, gfn);

	if (p->read_only_once)
		p->uses = 0; /* the last copy was taken away, and never written to here */
	if (p->uses > 0) {
		p->uses--;
		return true;
	}
	p->read_only_once = true;
	p->asked_ns = clock_now_ns();
	return false;
}

void engine_predict_learn(struct engine *e, uint64_t gfn)
{
	struct prediction *p = prediction_of(e, gfn);
	uint64_t granted_ns = engine_use_granted_ns(e, gfn);
	uint64_t since_ns = granted_ns > p->asked_ns ? granted_ns : p->asked_ns;

	if (p->read_only_once && clock_now_ns() - since_ns < SOON_NS)
		p->uses = PREDICT_USES;
	p->read_only_once = false;
}
