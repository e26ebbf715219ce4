/* SPDX-License-Identifier: Apache-2.0 */
/* Whether `pangea run` starts its VM again: --on-reboot, --on-crash, `pangea reset`, and the limit. */
#include <string.h>

#include "base/clock.h"
#include "cli/run.h"

int run_again_option(bool *again, const char *name, const char *value, const char *command)
{
	*again = strcmp(value, "restart") == 0;
	if (*again || strcmp(value, "end") == 0)
		return -1;
	return cli_usage(command, "--%s is restart or end, not \"%.20s\"", name, value);
}

bool run_again_default(const struct control_devices *devices)
{
	for (unsigned i = 0; i < devices->count; i++)
		if (devices->list[i].type == CONTROL_DEVICE_BLK)
			return true;
	return false;
}

/* What the VM did; null: it shall not be started again for that. */
static const char *cause_find(const struct run_again *again, int code, bool reset)
{
	if (reset && code == EXIT_RESET)
		return "the virtual machine was reset";
	if (again->on_reboot && code == EXIT_RESET)
		return "the guest rebooted";
	if (again->on_crash && (code == EXIT_PANIC || code == EXIT_TRIPLE_FAULT))
		return "the guest crashed";
	return NULL;
}

/* Counts one more start, unless there were too many of late. */
static bool start_allowed(struct run_again *again, uint64_t now_ns)
{
	/* The slot that the next one goes to has the oldest of the last RUN_AGAIN_MAX. */
	uint64_t *slot = &again->at_ns[again->count % RUN_AGAIN_MAX];

	if (again->count >= RUN_AGAIN_MAX && now_ns - *slot < RUN_AGAIN_WINDOW_S * NS_PER_S)
		return false;
	*slot = now_ns;
	again->count++;
	return true;
}

enum run_next run_again_decide(struct run_again *again, int code, bool reset, uint64_t now_ns,
			       const char **cause)
{
	*cause = cause_find(again, code, reset);
	if (!*cause)
		return RUN_END;
	return start_allowed(again, now_ns) ? RUN_AGAIN : RUN_TOO_OFTEN;
}
