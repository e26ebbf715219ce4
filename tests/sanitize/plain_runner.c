/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs Criterion tests under ThreadSanitizer, where Criterion's own runner cannot start: it maps
 * its arena at addresses that the sanitizer keeps. Stands in for libcriterion: the same test
 * sources, one process for each test, assertions, fixtures, expected signals and exit codes,
 * parameters, time limits.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Longer than any test's own limit; only a hang takes it. */
#define DEFAULT_LIMIT_S 300
/* What a child exits with when an assertion failed; no test expects it. */
#define FAILED_EXIT  99
#define SKIPPED_EXIT 77

struct criterion_options criterion_options; /* read by the assertion macros */

/* The linker gathers the tests and suites in these sections. */
extern struct criterion_test *__start_cr_tst[], *__stop_cr_tst[];
extern struct criterion_suite *__start_cr_sts[] __attribute__((weak));
extern struct criterion_suite *__stop_cr_sts[] __attribute__((weak));

/* The child's own state: one test, one parameter. */
static struct {
	const struct criterion_test *test;
	const struct criterion_test_extra_data *suite;
	void *param;
	jmp_buf after;
	bool failed;
} current;

void criterion_send_assert(struct criterion_assert_stats *stats)
{
	if (!stats->passed)
		fprintf(stderr, "%s:%u: assertion failed: %s\n", stats->file, stats->line,
			stats->message);
}

void cri_asserts_passed_incr(void)
{
}

void criterion_continue_test(void)
{
	current.failed = true;
}

void criterion_abort_test(void)
{
	current.failed = true;
	longjmp(current.after, 1);
}

void criterion_skip_test(const char *format, ...)
{
	va_list ap;
	printf("skipped: %s.%s: ", current.test->category, current.test->name);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	exit(SKIPPED_EXIT);
}

void cr_log(enum criterion_severity severity, const char *format, ...)
{
	va_list ap;
	(void)severity;
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int cr_asprintf(char **out, const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	int length = vasprintf(out, format, ap);
	va_end(ap);
	return length;
}

void cr_asprintf_free(char *text)
{
	free(text);
}

/* The first argument after the index is the stringified condition. */
char *cr_translate_assert_msg(int index, ...)
{
	va_list ap;
	va_start(ap, index);
	char *text = strdup(va_arg(ap, const char *));
	va_end(ap);
	return text;
}

void criterion_internal_test_setup(void)
{
	if (current.suite && current.suite->init)
		current.suite->init();
	if (current.test->data->init)
		current.test->data->init();
}

void criterion_internal_test_main(void (*fn)(void))
{
	if (setjmp(current.after) != 0)
		return;
	if (current.test->data->kind_ == CR_TEST_PARAMETERIZED)
		((void (*)(void *))fn)(current.param);
	else
		fn();
}

void criterion_internal_test_teardown(void)
{
	if (current.test->data->fini)
		current.test->data->fini();
	if (current.suite && current.suite->fini)
		current.suite->fini();
}

static const struct criterion_test_extra_data *suite_of(const struct criterion_test *test)
{
	for (struct criterion_suite **s = __start_cr_sts; s && s < __stop_cr_sts; s++)
		if (*s && strcmp((*s)->name, test->category) == 0)
			return (*s)->data;
	return NULL;
}

_Noreturn static void child_run(const struct criterion_test *test, void *param)
{
	double limit_s = test->data->timeout;
	current.test = test;
	current.suite = suite_of(test);
	current.param = param;
	if (!(limit_s > 0) && current.suite)
		limit_s = current.suite->timeout;
	/* A sanitizer slows everything down; the limit is there for what hangs. */
	alarm(limit_s > 0 ? (unsigned)(limit_s * 10) + 1 : DEFAULT_LIMIT_S);
	test->test();
	exit(current.failed ? FAILED_EXIT : 0);
}

enum result {
	PASSED,
	FAILED,
	SKIPPED,
	RESULTS
};

static unsigned results[RESULTS];

/* One test with one parameter, in a process of its own. */
static enum result test_run(const struct criterion_test *test, void *param)
{
	int status = 0;
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0)
		child_run(test, param);
	if (pid < 0 || waitpid(pid, &status, 0) != pid) {
		perror("plain_runner");
		return FAILED;
	}
	int got_signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
	int got_exit = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
	bool skipped = got_exit == SKIPPED_EXIT;
	bool passed = got_signal == test->data->signal &&
		      (got_signal != 0 || got_exit == test->data->exit_code);
	printf("[%s] %s::%s (signal %d, exit %d)\n",
	       skipped	? "SKIP"
	       : passed ? "PASS"
			: "FAIL",
	       test->category, test->name, got_signal, got_exit);
	return skipped ? SKIPPED : passed ? PASSED : FAILED;
}

/* All parameters of one test. */
static void test_run_all(const struct criterion_test *test)
{
	if (test->data->kind_ == CR_TEST_NORMAL) {
		results[test_run(test, NULL)]++;
		return;
	}
	struct criterion_test_params params = test->data->param_();
	for (size_t i = 0; i < params.length; i++)
		results[test_run(test, (char *)params.params + i * params.size)]++;
}

int main(void)
{
	for (struct criterion_test **t = __start_cr_tst; t < __stop_cr_tst; t++) {
		if (!*t || (*t)->data->disabled)
			continue;
		test_run_all(*t);
	}
	printf("%u tests passed, %u failed, %u skipped\n", results[PASSED], results[FAILED],
	       results[SKIPPED]);
	if (results[FAILED] > 0 || results[PASSED] + results[SKIPPED] == 0)
		return 1;
	return results[PASSED] > 0 ? 0 : SKIPPED_EXIT;
}
