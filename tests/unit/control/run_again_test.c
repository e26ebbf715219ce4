/* SPDX-License-Identifier: Apache-2.0 */
/* When `pangea run` starts its VM again: by how it ended, by its options, and not too often. */
#include <criterion/criterion.h>
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "cli/run.h"

/* Of cli_main.c: here it is enough that it was said. */
int cli_usage(const char *command, const char *fmt, ...)
{
	(void)command;
	(void)fmt;
	return EXIT_USAGE;
}

static enum run_next decide(struct run_again again, int code, bool reset)
{
	const char *cause;
	enum run_next next = run_again_decide(&again, code, reset, NS_PER_S, &cause);

	cr_expect_eq(cause == NULL, next == RUN_END);
	return next;
}

Test(run_again, by_code_and_option)
{
	static const int ends[] = {EXIT_OK,	   EXIT_ERROR,	 EXIT_NOFIT,	   EXIT_IMAGE,
				   EXIT_NODE_LOST, EXIT_STOPPED, EXIT_GUEST_FAILED};
	const struct run_again neither = {0}, reboot = {.on_reboot = true},
			       crash = {.on_crash = true}, both = {true, true, {0}, 0};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		cr_expect_eq(decide(both, ends[i], false), RUN_END, "code %d", ends[i]);
		/* A reset that came too late. */
		cr_expect_eq(decide(both, ends[i], true), RUN_END, "code %d", ends[i]);
	}
	cr_expect_eq(decide(neither, EXIT_RESET, false), RUN_END);
	cr_expect_eq(decide(crash, EXIT_RESET, false), RUN_END);
	cr_expect_eq(decide(reboot, EXIT_RESET, false), RUN_AGAIN);
	cr_expect_eq(decide(neither, EXIT_RESET, true), RUN_AGAIN);
	cr_expect_eq(decide(reboot, EXIT_PANIC, false), RUN_END);
	cr_expect_eq(decide(reboot, EXIT_TRIPLE_FAULT, false), RUN_END);
	cr_expect_eq(decide(crash, EXIT_PANIC, false), RUN_AGAIN);
	cr_expect_eq(decide(crash, EXIT_TRIPLE_FAULT, false), RUN_AGAIN);
}

/* Ten starts within any 60 s, not eleven; once the first of them is that old there is room for one. */
Test(run_again, not_too_often)
{
	struct run_again again = {.on_reboot = true};
	uint64_t now_ns = 5 * NS_PER_S;
	const char *cause;

	for (unsigned i = 0; i < RUN_AGAIN_MAX; i++, now_ns += NS_PER_S)
		cr_expect_eq(run_again_decide(&again, EXIT_RESET, false, now_ns, &cause),
			     RUN_AGAIN);
	cr_expect_eq(run_again_decide(&again, EXIT_RESET, false, now_ns, &cause), RUN_TOO_OFTEN);
	cr_expect_str_eq(cause, "the guest rebooted");
	now_ns = (5 + RUN_AGAIN_WINDOW_S) * NS_PER_S;
	cr_expect_eq(run_again_decide(&again, EXIT_RESET, false, now_ns - 1, &cause),
		     RUN_TOO_OFTEN);
	cr_expect_eq(run_again_decide(&again, EXIT_RESET, false, now_ns, &cause), RUN_AGAIN);
	cr_expect_eq(run_again_decide(&again, EXIT_RESET, false, now_ns, &cause), RUN_TOO_OFTEN);
	/* One that reboots every seven seconds does so for ever. */
	for (unsigned i = 0; i < 100; i++) {
		now_ns += 7 * NS_PER_S;
		cr_expect_eq(run_again_decide(&again, EXIT_RESET, false, now_ns, &cause),
			     RUN_AGAIN);
	}
}

Test(run_again, words_and_default)
{
	struct control_devices devices = {.count = 1};
	bool again = false;

	cr_expect_eq(run_again_option(&again, "on-crash", "restart", "x"), -1);
	cr_expect(again);
	cr_expect_eq(run_again_option(&again, "on-crash", "end", "x"), -1);
	cr_expect_not(again);
	cr_expect_eq(run_again_option(&again, "on-crash", "", "x"), EXIT_USAGE);
	cr_expect_eq(run_again_option(&again, "on-crash", "Restart", "x"), EXIT_USAGE);
	devices.list[0].type = CONTROL_DEVICE_NET;
	cr_expect_not(run_again_default(&devices));
	devices.list[devices.count++].type = CONTROL_DEVICE_BLK;
	cr_expect(run_again_default(&devices));
	devices.count = 0;
	cr_expect_not(run_again_default(&devices));
}
