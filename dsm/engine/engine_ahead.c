/* SPDX-License-Identifier: Apache-2.0 */
/* Accesses that go on from page to page: the pages ahead are asked for with the one missed. */
#include "dsm/engine/engine_cache.h"
#include "dsm/engine/engine_parts.h"

/*
 * A stream is known by its misses: each at the page behind those that were asked for last, or at one
 * of those that has not come yet. Its window doubles with each, up to ahead_max; any other miss
 * is the beginning of another stream and asks for nothing ahead.
 *
 * Reads ask for copies: a page that somebody writes stays writable there until it is read here.
 * Writes would take pages from who uses them, so they ask ahead only while all that comes are
 * zeroes: a range that nobody has touched yet. These carry nothing, so that a whole window is a
 * message each way, and their window grows to ENGINE_ZEROES_TIMES times the one of reads.
 *
 * Upgrades are writes to pages that are here, and elsewhere as copies: a part of an array that others have
 * read, and that its writer now goes through again. They take copies, no more, and only behind three
 * misses in a row. The pages may be of any home; others' copies are called back one by one, but all are on their
 * way together.
 */

/* Pages of zeroes that must have come one after the other before writes ask ahead. */
#define ZEROES_MIN 2u
/* Upgrades that must have been missed one after the other before more are asked for ahead. */
#define UPGRADES_MIN 3u

/* Does the stream go on with a miss of gfn? */
static bool stream_has(const struct stream *s, uint64_t gfn)
{
	return s->missed_ns && gfn <= s->next && s->next - gfn <= s->window;
}

/* The stream that goes on with a miss of gfn; else the one that has been idle longest. */
static struct stream *stream_of(struct engine *e, uint64_t gfn, enum stream_kind kind)
{
	struct stream *oldest = &e->streams[0];

	for (unsigned i = 0; i < STREAMS; i++) {
		struct stream *s = &e->streams[i];

		if (stream_has(s, gfn) && s->kind == kind)
			return s;
		if (s->missed_ns < oldest->missed_ns)
			oldest = s;
	}
	return oldest;
}

void engine_ahead_learn(struct engine *e, uint64_t gfn, bool zero)
{
	for (unsigned i = 0; i < STREAMS; i++) {
		struct stream *s = &e->streams[i];

		if (s->kind != STREAM_WRITE || gfn >= s->next || s->next - gfn > s->window + 1)
			continue;
		s->zeroes = zero ? s->zeroes + 1 : 0;
		s->window = zero ? s->window : 0;
	}
}

/* May gfn be asked for, if there is a request for it and for every thread that may fault? */
static bool page_wanted(struct engine *e, uint64_t gfn, enum stream_kind kind)
{
	if (!pages_is_ram(e->pages, gfn))
		return false;
	if (protocol_requests_free(e->protocol) <= e->config.faulters_max + 1)
		return false;
	if (kind == STREAM_UPGRADE)
		return protocol_state(e->protocol, gfn) == PAGE_S;
	if (engine_home_is_self(e, gfn) || protocol_state(e->protocol, gfn) != PAGE_I)
		return false;
	return !e->cache || engine_cache_admit(e, gfn);
}

/* Asks for up to count pages from gfn on; how many it were. */
static unsigned pages_ask(struct engine *e, uint64_t gfn, unsigned count, enum stream_kind kind,
			  uint64_t now_ns)
{
	bool read = kind == STREAM_READ;
	struct protocol_event event = {.type = read ? EVENT_FAULT_READ : EVENT_FAULT_WRITE,
				       .now_ns = now_ns,
				       .ahead = true};
	unsigned asked = 0;

	engine_runs_begin(e);
	for (; asked < count && page_wanted(e, gfn + asked, kind); asked++) {
		event.gfn = gfn + asked;
		if (engine_step(e, &event) != 0)
			break;
	}
	engine_runs_end(e);
	e->pages_ahead += asked;
	return asked;
}

/* Where frames are few, each page asked for in vain costs one that is in use. */
static unsigned window_max(const struct engine *e, enum stream_kind kind)
{
	bool wide = kind == STREAM_WRITE && !(e->cache && e->cache->limited);

	return wide ? ENGINE_ZEROES_TIMES * e->config.ahead_max : e->config.ahead_max;
}

enum stream_kind engine_ahead_kind(const struct engine *e, uint64_t gfn, bool write)
{
	if (!write)
		return STREAM_READ;
	return protocol_state(e->protocol, gfn) == PAGE_S ? STREAM_UPGRADE : STREAM_WRITE;
}

/* Is so much known of the stream that it may ask ahead? */
static bool stream_sure(const struct stream *s)
{
	return s->kind == STREAM_READ || (s->kind == STREAM_WRITE && s->zeroes >= ZEROES_MIN) ||
	       (s->kind == STREAM_UPGRADE && s->misses >= UPGRADES_MIN);
}

void engine_ahead(struct engine *e, uint64_t gfn, enum stream_kind kind, uint64_t now_ns)
{
	struct stream *s;

	if (!e->config.ahead_max || (kind != STREAM_UPGRADE && engine_home_is_self(e, gfn)))
		return;
	s = stream_of(e, gfn, kind);
	if (!stream_has(s, gfn) || s->kind != kind) {
		*s = (struct stream){
			.next = gfn + 1, .missed_ns = now_ns, .kind = kind, .misses = 1};
		return;
	}
	s->missed_ns = now_ns;
	s->misses++;
	if (s->next == gfn) /* asked for by the miss itself */
		s->next++;
	if (!stream_sure(s))
		return;
	s->window = s->window ? 2 * s->window : 2;
	if (s->window > window_max(e, kind))
		s->window = window_max(e, kind);
	s->next += pages_ask(e, s->next, s->window, kind, now_ns);
}
