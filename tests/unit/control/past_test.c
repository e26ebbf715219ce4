/* SPDX-License-Identifier: Apache-2.0 */
/* The past of a console for a terminal: what it would answer is left out, all else stays. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "cli/console.h"

#define LEN(text) (sizeof(text) - 1)

static const struct {
	const char *past, *shown;
	size_t past_len, shown_len;
} cases[] = {
#define CASE(past, shown) {past, shown, LEN(past), LEN(shown)}
	CASE("", ""),
	CASE("/ # \x1b[6necho\r\n", "/ # echo\r\n"),
	CASE("\x1b[6n\x1b[6n\x1b[5n\x1b[?6n", ""),
	CASE("a\x1b[cb\x1b[>0cc\x1b[=cd\x1bZe", "abcde"),
	CASE("\x1b[?25$p\x1b[18t\x1b[x.", "."),
	/* colours, places, modes, a soft reset */
	CASE("\x1b[1;31mred\x1b[0m\x1b[2J\x1b[H\x1b[?25l\x1b[!p",
	     "\x1b[1;31mred\x1b[0m\x1b[2J\x1b[H\x1b[?25l\x1b[!p"),
	/* no sequence, or not all of one */
	CASE("[6n n c\x1b", "[6n n c\x1b"),
	CASE("\x1b[", "\x1b["),
	CASE("\x1b[6", "\x1b[6"),
	CASE("\x1b[6\0n", "\x1b[6\0n"),
	CASE("\x1b\x1b[6n", "\x1b"),
	CASE("\0\xff\x1b[6\xff", "\0\xff\x1b[6\xff"),
#undef CASE
};

Test(past, asks_nothing_and_keeps_the_rest)
{
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		/* Of its own size: an address sanitizer sees a look beyond it. */
		uint8_t *data = malloc(cases[i].past_len + !cases[i].past_len);
		memcpy(data, cases[i].past, cases[i].past_len);
		cr_expect_eq(console_past_quiet(data, cases[i].past_len), cases[i].shown_len,
			     "case %zu", i);
		cr_expect_eq(memcmp(data, cases[i].shown, cases[i].shown_len), 0, "case %zu", i);
		free(data);
	}
}
