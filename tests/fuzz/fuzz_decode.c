/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzes the software CPU's decoder: any bytes, in each mode, cut off anywhere. */
#include <string.h>

#include "base/log.h"
#include "tests/fuzz/fuzz.h"
#include "vmm/cpu/soft/soft.h"
#include "vmm/cpu/soft/soft_parts.h"

#define INSN_MAX 15u

static void insn_check(const struct insn *insn, unsigned len)
{
	invariant(insn->fn);
	invariant(insn->len <= len && insn->len <= INSN_MAX);
	invariant(insn->base <= REG_FAR && insn->index <= REG_FAR && insn->scale <= 3);
	invariant(insn->seg < SEG_COUNT);
}

/* One instruction after the other, as a block has them; each also with too few bytes. */
static void code_decode(const uint8_t *bytes, size_t size, uint8_t mode)
{
	while (size) {
		unsigned len = size < INSN_MAX ? (unsigned)size : INSN_MAX;
		struct insn insn, part;
		bool end;

		memset(&insn, 0, sizeof(insn));
		if (!soft_decode_insn(bytes, len, mode, CPU_FEATURES_MASK, &insn, &end)) {
			/* Fifteen bytes are always enough. */
			invariant(len < INSN_MAX);
			return;
		}
		insn_check(&insn, len);
		for (unsigned fewer = 1; fewer < insn.len; fewer++) {
			if (soft_decode_insn(bytes, fewer, mode, CPU_FEATURES_MASK, &part, &end))
				insn_check(&part, fewer);
		}
		bytes += insn.len ? insn.len : 1;
		size -= insn.len ? insn.len : 1;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	code_decode(data, size, 16);
	code_decode(data, size, 32);
	code_decode(data, size, 64);
	return 0;
}
