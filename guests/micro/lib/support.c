/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments, memory by node, random numbers, and the real functions that programs need. */
#include "guests/micro/lib/kernel.h"

#define SEED_DEFAULT 20240229ul
#define PI	     3.14159265358979323846

/* ---- arguments ---- */

/* The value behind "key=", or "" for the bare word; NULL if it is not there. */
static const char *arg_find(const char *key)
{
	const char *p = machine.cmdline;
	size_t len = strlen(key);

	while (*p) {
		while (*p == ' ')
			p++;
		if (memcmp(p, key, len) == 0) {
			if (p[len] == '=')
				return p + len + 1;
			if (p[len] == ' ' || !p[len])
				return p + len;
		}
		while (*p && *p != ' ')
			p++;
	}
	return NULL;
}

static unsigned digit_value(char c)
{
	if (c >= '0' && c <= '9')
		return (unsigned)(c - '0');
	if (c >= 'a' && c <= 'f')
		return (unsigned)(c - 'a') + 10;
	return 99;
}

static unsigned unit_shift(char c)
{
	switch (c) {
	case 'K':
		return 10;
	case 'M':
		return 20;
	case 'G':
		return 30;
	default:
		return 0;
	}
}

uint64_t arg_number(const char *key, uint64_t otherwise)
{
	const char *p = arg_find(key);
	uint64_t value = 0;
	unsigned base = 10;

	if (!p || !*p || *p == ' ')
		return otherwise;
	if (p[0] == '0' && p[1] == 'x') {
		base = 16;
		p += 2;
	}
	for (; digit_value(*p) < base; p++)
		value = value * base + digit_value(*p);
	if (unit_shift(*p))
		value <<= unit_shift(*p++);
	if (*p && *p != ' ')
		fail("argument %s= is not a number", key);
	return value;
}

bool arg_flag(const char *key)
{
	const char *p = arg_find(key);

	return p && p[0] != '0';
}

const char *arg_text(const char *key, const char *otherwise, char *out, size_t size)
{
	const char *p = arg_find(key);
	size_t i = 0;

	if (!p || !*p || *p == ' ')
		return otherwise;
	for (; p[i] && p[i] != ' ' && i + 1 < size; i++)
		out[i] = p[i];
	out[i] = '\0';
	return out;
}

/* ---- memory ---- */

void *node_alloc(unsigned node, size_t bytes)
{
	void *block = block_alloc(node, bytes, PAGE);

	if (!block)
		fail("out of memory: %lu bytes on node %u", bytes, node);
	return block;
}

uint64_t pages_free_count(void)
{
	uint64_t count = 0;

	for (unsigned i = 0; i < machine.regions_count; i++)
		count += (machine.regions[i].end - machine.regions[i].next) / PAGE;
	return count;
}

uint8_t *page_free_at(uint64_t index)
{
	for (unsigned i = 0; i < machine.regions_count; i++) {
		const struct region *r = &machine.regions[i];
		uint64_t count = (r->end - r->next) / PAGE;

		if (index < count)
			return (uint8_t *)(r->next + index * PAGE);
		index -= count;
	}
	fail("no free page of that number");
}

/* ---- numbers ---- */

/* splitmix64 (Steele, Lea and Flood, 2014). */
uint64_t random_next(struct random *r)
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15ul;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ul;
	z = (z ^ z >> 27) * 0x94d049bb133111ebul;
	return z ^ z >> 31;
}

void random_seed(struct random *r, uint64_t stream)
{
	r->state = arg_number("seed", SEED_DEFAULT) + stream * 0xd1342543de82ef95ul;
	random_next(r);
}

/* Taylor's series on [-pi, pi], to the last bit or two. */
double real_sin(double x)
{
	double term, sum, turns = x / (2 * PI);

	x -= (double)(long)(turns + (turns < 0 ? -0.5 : 0.5)) * 2 * PI;
	term = sum = x;
	for (int i = 1; i < 16; i++) {
		term *= -x * x / (double)(2 * i * (2 * i + 1));
		sum += term;
	}
	return sum;
}

double real_cos(double x)
{
	return real_sin(x + PI / 2);
}

double real_sqrt(double x)
{
	double root;

	__asm__("sqrtsd %1, %0" : "=x"(root) : "x"(x));
	return root;
}
