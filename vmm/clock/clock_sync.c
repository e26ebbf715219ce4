/* SPDX-License-Identifier: Apache-2.0 */
/* The estimate of slice 0's clock, and the rate that leads there. */
#include "vmm/clock/clock_sync.h"

#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/log.h"

/* Before anything was measured: crystals differ by this much, more or less (one sigma). */
#define RATE_PRIOR 50e-6
/* Two crystals of 100 ppm, and some. */
#define RATE_LIMIT 250e-6
/* No round trip tells more than this: clock readings and interrupts cost as much. */
#define ERROR_FLOOR_NS 1000.0
/* An offset further than this from where the line leads is another line: a host that slept. */
#define JUMP_NS 2000000.0
/* The utmost rate at which a clock can leave slice 0's: its own correction and RATE_LIMIT. */
#define AWAY_PPM 750u

void clock_sync_init(struct clock_sync *s)
{
	memset(s, 0, sizeof(*s));
	s->interval_ns = CLOCK_SYNC_INTERVAL_MIN_NS;
}

void clock_sync_add(struct clock_sync *s, uint64_t sent_ns, uint64_t received_ns, uint64_t guest_ns)
{
	struct clock_sync_sample sample;

	if (received_ns < sent_ns)
		return;
	/* Rounded up: the middle is rounded down. */
	sample.error_ns = (received_ns - sent_ns + 1) / 2;
	sample.host_ns = sent_ns + (received_ns - sent_ns) / 2;
	sample.offset_ns = (int64_t)(guest_ns - sample.host_ns);
	if (!s->samples || sample.error_ns < s->best.error_ns)
		s->best = sample;
	s->samples++;
}

/* A line through the history: the offset at a host time, relative to a sample's, and its slope. */
struct line {
	double offset_ns, slope;
	double slope_error; /* one sigma */
};

static double weight_of(const struct clock_sync_sample *p)
{
	double error_s = fmax((double)p->error_ns, ERROR_FLOOR_NS) / 1e9;

	return 1 / (error_s * error_s);
}

/* Weighted least squares in seconds and nanoseconds relative to zero, so that doubles suffice. The
 * prior counts as one more observation of the slope: 0, give or take RATE_PRIOR. */
static struct line line_fit(const struct clock_sync *s, const struct clock_sync_sample *zero)
{
	double sum = 0, sum_t = 0, sum_o = 0, tt = 1 / (RATE_PRIOR * RATE_PRIOR), to = 0;
	struct line line;
	unsigned i;

	for (i = 0; i < s->used; i++) {
		double w = weight_of(&s->history[i]);

		sum += w;
		sum_t += w * (double)(int64_t)(s->history[i].host_ns - zero->host_ns) / 1e9;
		sum_o += w * (double)(s->history[i].offset_ns - zero->offset_ns) / 1e9;
	}
	for (i = 0; i < s->used; i++) {
		double t = (double)(int64_t)(s->history[i].host_ns - zero->host_ns) / 1e9;
		double o = (double)(s->history[i].offset_ns - zero->offset_ns) / 1e9;

		tt += weight_of(&s->history[i]) * (t - sum_t / sum) * (t - sum_t / sum);
		to += weight_of(&s->history[i]) * (t - sum_t / sum) * (o - sum_o / sum);
	}
	line.slope_error = 1 / sqrt(tt);
	line.slope = fmax(-RATE_LIMIT, fmin(RATE_LIMIT, to / tt));
	line.offset_ns = (sum_o / sum - line.slope * sum_t / sum) * 1e9;
	return line;
}

static void history_add(struct clock_sync *s, const struct clock_sync_sample *sample)
{
	struct line line;
	double away_ns;

	if (s->used) {
		line = line_fit(s, sample);
		away_ns = fabs(line.offset_ns) - (double)sample->error_ns - (double)s->error_ns;
		if (away_ns > JUMP_NS) {
			log_warn("the clocks of slice 0's host and this one moved apart by %.3f ms",
				 away_ns / 1e6);
			s->used = s->at = 0;
		}
	}
	s->history[s->at] = *sample;
	s->at = (s->at + 1) % CLOCK_SYNC_HISTORY;
	if (s->used < CLOCK_SYNC_HISTORY)
		s->used++;
}

static int64_t rate_fixed(double rate)
{
	return (int64_t)(fmax(-1, fmin(1, rate)) * (double)GUEST_CLOCK_RATE_ONE);
}

static void clock_step(struct clock_sync *s, struct guest_clock *clock, const struct line *line)
{
	const struct clock_sync_sample *b = &s->best;

	guest_clock_step(clock, b->host_ns, b->host_ns + (uint64_t)b->offset_ns,
			 rate_fixed(line->slope));
	s->away_ns = b->error_ns;
	s->error_ns = b->error_ns;
}

/* Until the new rate begins, the old one may lead away from what the burst measured. */
static uint64_t knee_away_ns(const struct clock_sync_sample *b, const struct guest_clock *clock)
{
	uint64_t knee_ns = guest_clock_host_ns(clock) + GUEST_CLOCK_LEAD_NS;

	return (knee_ns - b->host_ns) * AWAY_PPM / 1000000 + 1;
}

static void clock_slew(struct clock_sync *s, struct guest_clock *clock, const struct line *line)
{
	const struct clock_sync_sample *b = &s->best;
	/* How far the clock is behind slice 0's, by this burst alone and by the line. */
	int64_t behind_ns =
		b->offset_ns - (int64_t)(guest_clock_at(clock, b->host_ns) - b->host_ns);
	double line_behind_ns = line->offset_ns + (double)behind_ns;
	uint64_t away_ns = b->error_ns + (uint64_t)(behind_ns < 0 ? -behind_ns : behind_ns);

	guest_clock_slew(clock, rate_fixed(line->slope + line_behind_ns / (double)s->interval_ns));
	/* What is off by no more at both ends of a straight piece is so anywhere on it. */
	s->error_ns = away_ns > s->away_ns ? away_ns : s->away_ns;
	s->away_ns = away_ns + knee_away_ns(b, clock);
}

/*
 * The better the rate is known, the longer until the next burst: what is unknown of it makes an
 * eighth of the best burst's error by then. Steady, 16 bursts tell the rate well enough for 2.3
 * times their interval, so it grows.
 */
static void interval_choose(struct clock_sync *s, const struct line *line)
{
	uint64_t error_ns = UINT64_MAX;
	double wanted_ns;
	unsigned i;

	for (i = 0; i < s->used; i++)
		if (s->history[i].error_ns < error_ns)
			error_ns = s->history[i].error_ns;
	wanted_ns = fmax((double)error_ns, ERROR_FLOOR_NS) / 8 / line->slope_error;
	wanted_ns = fmin(wanted_ns, 2 * (double)s->interval_ns);
	wanted_ns = fmin(wanted_ns, CLOCK_SYNC_INTERVAL_MAX_NS);
	s->interval_ns = (uint64_t)fmax(wanted_ns, CLOCK_SYNC_INTERVAL_MIN_NS);
}

int clock_sync_close(struct clock_sync *s, struct guest_clock *clock, bool step)
{
	struct line line;

	if (!s->samples)
		return -EAGAIN;
	s->samples = 0;
	history_add(s, &s->best);
	line = line_fit(s, &s->best);
	if (step)
		clock_step(s, clock, &line);
	else
		clock_slew(s, clock, &line);
	interval_choose(s, &line);
	s->offset_ns = (int64_t)(guest_clock_at(clock, s->best.host_ns) - s->best.host_ns);
	s->bursts++;
	return 0;
}
