/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder against Zydis: every opcode with every modrm under every mandatory prefix, and random
 * bytes, in the three modes.
 *
 * Environment: SOFT_ZYDIS_CASES, random encodings a mode; SOFT_ZYDIS_SEED.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "tests/unit/softdecode/compare.h"

#ifdef __SANITIZE_ADDRESS__
#define CASES_DEFAULT 200000
#else
#define CASES_DEFAULT 2000000
#endif

static const unsigned modes[] = {64, 32, 16};

static uint64_t env_number(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : otherwise;
}

static uint64_t random_next(uint64_t *seed)
{
	return random_xorshift(seed);
}

/* ---- Random bytes ---------------------------------------------------------------------------- */

/* Prefixes sometimes, then an opcode of any map, then noise. */
static void random_insn(uint64_t *seed, unsigned mode, uint8_t bytes[INSN_MAX])
{
	static const uint8_t prefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26,
					   0x2e, 0x36, 0x3e, 0x64, 0x65};
	unsigned n = 0, most = random_next(seed) % 64 ? 4 : INSN_MAX - 2;

	for (unsigned k = 0; k < INSN_MAX; k++)
		bytes[k] = (uint8_t)random_next(seed);
	while (n < most && random_next(seed) % 3 == 0)
		bytes[n++] = prefixes[random_next(seed) % sizeof(prefixes)];
	if (mode == 64 && random_next(seed) % 3 == 0)
		bytes[n++] = 0x40 | (random_next(seed) & 15);
	if (random_next(seed) % 2)
		bytes[n++] = 0x0f;
	/* Displacements that overflow together with the length are rare. */
	if (random_next(seed) % 64 == 0)
		memcpy(bytes + INSN_MAX - 5, "\xff\xff\xff\x7f", 4);
}

/* A bit of the last one flipped, a byte replaced: neighbours of what decoded. */
static void mutate_insn(uint64_t *seed, uint8_t bytes[INSN_MAX])
{
	unsigned at = random_next(seed) % 6;

	if (random_next(seed) % 2)
		bytes[at] ^= 1u << random_next(seed) % 8;
	else
		bytes[at] = (uint8_t)random_next(seed);
}

Test(softdecode, random_bytes)
{
	static struct comparison c;
	const uint64_t cases = env_number("SOFT_ZYDIS_CASES", CASES_DEFAULT);
	const uint64_t first = env_number("SOFT_ZYDIS_SEED", 1);
	struct handlers *handlers = handlers_load();
	uint64_t wrong = 0;

	cr_assert_not_null(handlers, "the program has no symbols");
	printf("random bytes, seed %lu\n", (unsigned long)first);
	for (unsigned m = 0; m < 3; m++) {
		uint64_t seed = first * UINT64_C(0x9e3779b97f4a7c15) + modes[m];
		uint8_t bytes[INSN_MAX];

		comparison_init(&c, handlers, modes[m], CPU_FEATURES_MASK);
		for (uint64_t n = 0; n < cases; n++) {
			if (n % 4 == 0)
				random_insn(&seed, modes[m], bytes);
			else
				mutate_insn(&seed, bytes);
			comparison_add(&c, bytes);
		}
		comparison_print(&c);
		wrong += comparison_wrong(&c);
	}
	handlers_free(handlers);
	cr_assert_eq(wrong, 0);
}

/* ---- Every opcode ---------------------------------------------------------------------------- */

static void form_compare(void *ctx, const uint8_t *bytes)
{
	comparison_add(ctx, bytes);
}

Test(softdecode, every_opcode)
{
	static struct comparison c;
	struct handlers *handlers = handlers_load();
	uint64_t wrong = 0;

	cr_assert_not_null(handlers, "the program has no symbols");
	for (unsigned m = 0; m < 3; m++) {
		comparison_init(&c, handlers, modes[m], CPU_FEATURES_MASK);
		forms_visit(modes[m], form_compare, &c);
		comparison_print(&c);
		wrong += comparison_wrong(&c);
	}
	handlers_free(handlers);
	cr_assert_eq(wrong, 0);
}
