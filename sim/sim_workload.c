/* SPDX-License-Identifier: Apache-2.0 */
/* The workloads: which word of which page a vCPU wants next. */
#include "sim/sim_parts.h"

/* A write in so many clears the whole page. */
#define CLEAR_ONE_IN 48
#define HOT_PAGES    2u
/* Accesses to a page by one vCPU before it takes the next. */
#define MIGRATORY_STEPS 8u
#define FALSE_PAGES	4u
#define CONSUMERS	3u
/* One access in so many is to any page, whoever's favourite it is. */
#define AFFINE_OTHERS 10u

struct chooser {
	struct sim_random *random;
	unsigned node, vcpu, nodes, vcpus, pages, phase;
};

static struct access any(const struct chooser *c, unsigned pages, unsigned writes_one_in)
{
	return (struct access){.page = (uint32_t)random_below(c->random, pages),
			       .word = (uint8_t)random_below(c->random, WORDS),
			       .write = random_one_in(c->random, writes_one_in)};
}

static struct access hot_page(const struct chooser *c)
{
	unsigned hot = c->pages < HOT_PAGES ? c->pages : HOT_PAGES;
	return random_one_in(c->random, 10) ? any(c, c->pages, 3) : any(c, hot, 2);
}

static struct access migratory(const struct chooser *c, struct vcpu *vcpu)
{
	if (vcpu->step++ % MIGRATORY_STEPS == 0)
		vcpu->at = (uint32_t)random_below(c->random, c->pages);
	return (struct access){.page = vcpu->at,
			       .word = (uint8_t)(vcpu->step / 2 % WORDS),
			       .write = vcpu->step % 2 == 0};
}

static struct access producer_consumer(const struct chooser *c, struct vcpu *vcpu)
{
	unsigned step = vcpu->step++;
	uint8_t word = (uint8_t)(step % WORDS);
	/* Page p is written by slice p % nodes; the next slices read it. */
	unsigned of = c->node;
	bool write = step / WORDS % 2 == 0;
	if (!write)
		of += c->nodes - 1 - (unsigned)random_below(c->random, CONSUMERS) % c->nodes;
	unsigned rows = (c->pages + c->nodes - 1) / c->nodes;
	unsigned page = (unsigned)random_below(c->random, rows) * c->nodes + of % c->nodes;
	return (struct access){.page = page % c->pages, .word = word, .write = write};
}

static struct access false_sharing(const struct chooser *c)
{
	struct access access = any(c, c->pages < FALSE_PAGES ? c->pages : FALSE_PAGES, 2);
	access.word = (uint8_t)((c->node * c->vcpus + c->vcpu) % WORDS);
	return access;
}

static struct access scan(const struct chooser *c, struct vcpu *vcpu)
{
	struct access access = any(c, c->pages, 100);
	access.page = (vcpu->at++ + c->node * 7) % c->pages;
	return access;
}

/*
 * A tree of one root, up to 16 tables in the middle, leaves in the next quarter of the pages and
 * data in the rest: a walk reads one page of each level, and one walk in 20 changes a leaf.
 */
static struct access page_table(const struct chooser *c, struct vcpu *vcpu)
{
	unsigned middles = c->pages > 64 ? 16 : 1, leaves = c->pages > 8 ? c->pages / 4 : 1;
	unsigned level = vcpu->step++ % 4, page = 0;
	if (level == 0)
		vcpu->at = (uint32_t)random_below(c->random, c->pages);
	if (level == 1)
		page = 1 + vcpu->at % middles;
	else if (level == 2)
		page = 1 + middles + vcpu->at % leaves;
	else if (level == 3)
		page = vcpu->at;
	unsigned writes_one_in = level == 0 ? 2000 : level == 1 ? 400 : level == 2 ? 20 : 4;
	return (struct access){.page = page % c->pages,
			       .word = (uint8_t)(vcpu->at % WORDS),
			       .write = random_one_in(c->random, writes_one_in)};
}

/*
 * Page p lies at first at slice p % nodes, and is the favourite of another one, which changes with
 * the phase where there are three slices or more.
 */
static struct access affine(const struct chooser *c)
{
	struct access access = any(c, c->pages, 3);
	if (random_one_in(c->random, AFFINE_OTHERS))
		return access;
	unsigned row = access.page / c->nodes;
	unsigned beside = 1 + (row + c->phase) % (c->nodes - 1);
	access.page = (row * c->nodes + (c->node + c->nodes - beside) % c->nodes) % c->pages;
	return access;
}

static struct access choose(enum sim_workload workload, const struct chooser *c, struct vcpu *vcpu)
{
	switch (workload) {
	case SIM_UNIFORM:
	case SIM_WORKLOAD_COUNT:
		break;
	case SIM_HOT_PAGE:
		return hot_page(c);
	case SIM_MIGRATORY:
		return migratory(c, vcpu);
	case SIM_PRODUCER_CONSUMER:
		return producer_consumer(c, vcpu);
	case SIM_FALSE_SHARING:
		return false_sharing(c);
	case SIM_SCAN:
		return scan(c, vcpu);
	case SIM_PAGE_TABLE:
		return page_table(c, vcpu);
	case SIM_AFFINE:
		return affine(c);
	}
	return any(c, c->pages, 3);
}

struct access access_next(struct sim *sim, unsigned node, unsigned v)
{
	const struct sim_config *config = &sim->config;
	struct vcpu *vcpu = &sim->node[node].vcpu[v];
	unsigned phase = sim->epoch * SIM_PHASES / config->epochs;
	struct chooser c = {&vcpu->random, node,	  v,	config->nodes,
			    config->vcpus, config->pages, phase};
	struct access access = choose(config->workload, &c, vcpu);
	access.clear = access.write && random_one_in(&vcpu->random, CLEAR_ONE_IN);
	return access;
}
