/* SPDX-License-Identifier: Apache-2.0 */
/* The decoder's edges: too few bytes, too many prefixes, where LOCK is legal. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/random.h"
#include "vmm/cpu/soft/soft_int.h"

#define INSN_MAX 15

static uint64_t random_next(uint64_t *seed)
{
	return random_xorshift(seed);
}

/* Prefixes sometimes, then an opcode of any map, then noise. */
static void random_insn(uint64_t *seed, unsigned mode, uint8_t bytes[INSN_MAX])
{
	static const uint8_t prefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x26,
					   0x2e, 0x36, 0x3e, 0x64, 0x65};
	unsigned n = 0;

	for (unsigned k = 0; k < INSN_MAX; k++)
		bytes[k] = (uint8_t)random_next(seed);
	while (n < 3 && random_next(seed) % 3 == 0)
		bytes[n++] = prefixes[random_next(seed) % sizeof(prefixes)];
	if (mode == 64 && random_next(seed) % 3 == 0)
		bytes[n++] = 0x40 | (random_next(seed) & 15);
	if (random_next(seed) % 2)
		bytes[n] = 0x0f;
}

/* Every proper beginning of an instruction asks for more, or is already known to be invalid. */
Test(softdecode, too_few_bytes)
{
	uint64_t seed = 0x5eed;

	for (unsigned n = 0; n < 20000; n++) {
		uint8_t bytes[INSN_MAX];
		struct insn whole, part;
		bool end;

		random_insn(&seed, 64, bytes);
		cr_assert(soft_decode_insn(bytes, INSN_MAX, 64, CPU_FEATURES_MASK, &whole, &end));
		for (unsigned len = 0; len < whole.len; len++)
			cr_assert_not(
				soft_decode_insn(bytes, len, 64, CPU_FEATURES_MASK, &part, &end));
		cr_assert(soft_decode_insn(bytes, whole.len, 64, CPU_FEATURES_MASK, &part, &end) ||
			  whole.len == 15);
	}
}

/* Fifteen prefixes and an opcode are too long: a handler that raises, not a wrong length. */
Test(softdecode, too_long)
{
	uint8_t bytes[16];
	struct insn out;
	bool end = false;

	memset(bytes, 0x66, sizeof(bytes));
	bytes[15] = 0x90;
	cr_assert(soft_decode_insn(bytes, sizeof(bytes), 64, CPU_FEATURES_MASK, &out, &end));
	cr_assert(end);
	cr_assert_neq((void *)out.fn, (void *)soft_op_ud);
}

/* LOCK is legal on few opcodes, with a memory destination only. */
Test(softdecode, lock)
{
	static const struct {
		uint8_t bytes[INSN_MAX];
		bool legal;
	} cases[] = {
		{{0xf0, 0x01, 0x18}, true},	   /* add [rax], ebx */
		{{0xf0, 0x01, 0xd8}, false},	   /* add eax, ebx */
		{{0xf0, 0x03, 0x18}, false},	   /* add ebx, [rax] */
		{{0xf0, 0x39, 0x18}, false},	   /* cmp [rax], ebx */
		{{0xf0, 0x83, 0x38, 0x01}, false}, /* cmp dword [rax], 1 */
		{{0xf0, 0x83, 0x30, 0x01}, true},  /* xor dword [rax], 1 */
		{{0xf0, 0xff, 0x08}, true},	   /* dec dword [rax] */
		{{0xf0, 0xff, 0x30}, false},	   /* push [rax] */
		{{0xf0, 0x0f, 0xab, 0x08}, true},  /* bts [rax], ecx */
		{{0xf0, 0x0f, 0xa3, 0x08}, false}, /* bt [rax], ecx */
		{{0xf0, 0x0f, 0xc7, 0x08}, true},  /* cmpxchg8b [rax] */
		{{0xf0, 0x89, 0x18}, false},	   /* mov [rax], ebx */
		{{0xf0, 0x90}, false},		   /* nop */
	};

	for (unsigned n = 0; n < sizeof(cases) / sizeof(cases[0]); n++) {
		struct insn out;
		bool end;

		cr_assert(soft_decode_insn(cases[n].bytes, INSN_MAX, 64, CPU_FEATURES_MASK, &out,
					   &end));
		cr_expect_eq(out.fn != soft_op_ud, cases[n].legal, "case %u", n);
	}
}
