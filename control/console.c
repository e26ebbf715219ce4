/* SPDX-License-Identifier: Apache-2.0 */
/* The mark in a stream of console output whose reader was too slow. */
#include <inttypes.h>
#include <stdio.h>

#include "control/control.h"

size_t control_console_mark(uint64_t bytes, char out[CONTROL_MARK_MAX])
{
	return (size_t)snprintf(
		out, CONTROL_MARK_MAX,
		"\r\n[pangea: %" PRIu64 " bytes of console output were not shown here]\r\n", bytes);
}
