/* SPDX-License-Identifier: Apache-2.0 */
/* Every Criterion program's main: prints each skipped test with its reason, and ends with 77, which ctest
 * knows, where all of them were skipped. */
#include <criterion/criterion.h>
#include <criterion/hooks.h>
#include <stdio.h>

#define SKIPPED_EXIT 77

static size_t tests_skipped, tests_failed, tests_run;

/* Criterion takes skipped tests for passed ones. */
ReportHook(POST_FINI)(struct criterion_test_stats *stats)
{
	tests_run++;
	tests_failed += stats->test_status == CR_STATUS_FAILED;
	if (stats->test_status != CR_STATUS_SKIPPED)
		return;
	tests_skipped++;
	printf("skipped: %s.%s: %s\n", stats->test->category, stats->test->name,
	       stats->message ? stats->message : "no reason");
	fflush(stdout);
}

int main(int argc, char **argv)
{
	struct criterion_test_set *tests = criterion_initialize();
	int code = 0;

	if (criterion_handle_args(argc, argv, true))
		code = criterion_run_all_tests(tests) ? 0 : 1;
	criterion_finalize(tests);
	if (code == 0 && tests_run > 0 && tests_skipped == tests_run)
		return SKIPPED_EXIT;
	return code;
}
