/* SPDX-License-Identifier: Apache-2.0 */
/* Questions that a guest has asked its terminal (ECMA-48, xterm): they are not asked again when the
 * past is shown, since a terminal's answers are typed at whatever program runs now. */
#include <string.h>

#include "cli/console.h"

#define ESC 0x1b

static bool between(uint8_t c, uint8_t first, uint8_t last)
{
	return c >= first && c <= last;
}

/* The length of the question that stands here, or 0. */
static size_t question_length(const uint8_t *at, size_t len)
{
	size_t i = 2;

	if (len < 2 || at[0] != ESC)
		return 0;
	if (at[1] == 'Z') /* who are you? */
		return 2;
	if (at[1] != '[')
		return 0;
	while (i < len && between(at[i], 0x20, 0x3f))
		i++;
	if (i == len)
		return 0;
	/* status and the cursor's place, who are you, parameters, the window; one mode */
	return memchr("ncxt", at[i], 4) || (at[i] == 'p' && at[i - 1] == '$') ? i + 1 : 0;
}

size_t console_past_quiet(uint8_t *data, size_t len)
{
	size_t kept = 0;

	for (size_t i = 0; i < len;) {
		size_t skip = question_length(data + i, len - i);
		if (skip == 0)
			data[kept++] = data[i++];
		i += skip;
	}
	return kept;
}
