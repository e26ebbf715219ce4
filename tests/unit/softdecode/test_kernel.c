/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder against Zydis over all the executable text of the stock kernel, in one sweep.
 *
 * Environment: SOFT_ZYDIS_KERNEL, a bzImage or an ELF instead of the one deploy/fetch brings.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/softdecode/compare.h"
#include "tests/unit/softdecode/kernel.h"

static void absent_print(const struct comparison *c)
{
	for (unsigned n = 0; n <= ZYDIS_MNEMONIC_MAX_VALUE; n++)
		if (c->absent[n])
			printf("  %-12s %8lu  #UD\n", ZydisMnemonicGetString(n), c->absent[n]);
}

/* Bytes that are no instruction to Zydis (tables in the text) are stepped over one by one. */
static void section_sweep(struct comparison *c, const struct kernel_section *s)
{
	uint8_t last[2 * INSN_MAX] = {0};
	uint64_t at = 0;

	while (at < s->size) {
		const uint8_t *bytes = s->bytes + at;

		if (s->size - at < INSN_MAX) {
			memcpy(last, bytes, s->size - at);
			bytes = last;
		}
		comparison_add(c, bytes);
		at += c->length ? c->length : 1;
	}
	printf("  %-24s %9lu bytes\n", s->name, s->size);
}

Test(soft_zydis, kernel_text)
{
	static struct comparison c;
	struct handlers *handlers = handlers_load();
	const char *path = getenv("SOFT_ZYDIS_KERNEL");
	struct kernel kernel;
	const char *why = kernel_open(&kernel, path ? path : SOFT_ZYDIS_KERNEL);

	if (why)
		cr_skip_test("%s", why);
	cr_assert_not_null(handlers, "the program has no symbols");
	comparison_init(&c, handlers, 64, CPU_FEATURES_MASK);
	for (unsigned n = 0; n < kernel.sections; n++)
		section_sweep(&c, &kernel.section[n]);
	comparison_print(&c);
	absent_print(&c);
	kernel_close(&kernel);
	handlers_free(handlers);
	cr_assert_gt(c.verdicts[VERDICT_SAME], 1000000, "so little text is no kernel");
	cr_assert_eq(comparison_wrong(&c), 0);
}
