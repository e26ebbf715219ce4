/* SPDX-License-Identifier: Apache-2.0 */
/* A log whose reader does not read: no line waits, and the reader learns how many it missed. And the journal. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

/* Far more than a pipe or a socket holds. */
#define LINES 20000u

/* All that is there now; the descriptor is non-blocking. */
static char *read_all(int fd)
{
	size_t size = 1 << 22, used = 0;
	char *text = malloc(size);
	ssize_t n;

	cr_assert(text);
	while (used < size - 1 && (n = read(fd, text + used, size - 1 - used)) > 0)
		used += (size_t)n;
	text[used] = 0;
	return text;
}

static unsigned lines_of(const char *text, const char *word)
{
	unsigned count = 0;

	for (; (text = strstr(text, word)); text += strlen(word))
		count++;
	return count;
}

/* What the notes in a text say was lost; one may fit where the line behind it did not. */
static unsigned lost_of(const char *text)
{
	unsigned sum = 0, lost;

	for (; (text = strchr(text, '(')); text++)
		if (sscanf(text, "(%u log lines lost", &lost) == 1)
			sum += lost;
	return sum;
}

/* Standard error is `out`, and `in` is its other end, which is read only at the end. */
static void nobody_reads(int in, int out)
{
	unsigned lost, came;
	char *text;

	alarm(60); /* a line that waits ends the test so */
	cr_assert_eq(dup2(out, STDERR_FILENO), STDERR_FILENO);
	cr_assert_neq(fcntl(in, F_SETFL, O_NONBLOCK), -1);
	log_init("tester", LOG_INFO);
	for (unsigned i = 0; i < LINES; i++)
		log_info("a line that nobody reads, number %u", i);
	text = read_all(in);
	came = lines_of(text, "a line that nobody reads");
	cr_assert_gt(came, 10, "only %u lines came", came);
	cr_assert_lt(came, LINES);
	lost = lost_of(text);
	free(text);
	log_info("somebody reads again");
	text = read_all(in);
	cr_assert_gt(lost_of(text), 0, "\"%s\"", text);
	lost += lost_of(text);
	cr_assert_eq(came + lost, LINES, "%u came, %u were lost", came, lost);
	cr_assert(strstr(text, "somebody reads again"));
	free(text);
}

Test(log, a_pipe_that_nobody_reads)
{
	int ends[2];

	cr_assert_eq(pipe(ends), 0);
	nobody_reads(ends[0], ends[1]);
	cr_assert_not(fcntl(ends[1], F_GETFL) & O_NONBLOCK,
		      "the flag is of the open file, which others share");
}

Test(log, a_socket_that_nobody_reads)
{
	int ends[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	nobody_reads(ends[0], ends[1]);
	cr_assert_not(fcntl(ends[1], F_GETFL) & O_NONBLOCK);
}

Test(log, a_file_keeps_what_it_holds)
{
	char name[] = "/tmp/pangea-log-XXXXXX", text[256] = {0};
	int fd = mkstemp(name);

	cr_assert_geq(fd, 0);
	unlink(name);
	cr_assert_eq(write(fd, "before\n", 7), 7);
	cr_assert_eq(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	log_init("tester", LOG_INFO);
	log_info("one");
	cr_assert_eq(write(fd, "between\n", 8), 8);
	log_info("two");
	cr_assert_gt(pread(fd, text, sizeof(text) - 1, 0), 0);
	cr_assert(strncmp(text, "before\n", 7) == 0, "%s", text);
	cr_assert(strstr(text, ": one\nbetween\n"), "%s", text);
	cr_assert(strstr(text, ": two\n"), "%s", text);
}

/* What one line is, on a socket that is the journal's or was. */
static void journal_line(bool stale, char *line, size_t size)
{
	int ends[2], fd = -1;
	char stream[64];
	struct stat st;
	ssize_t n;

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
	if (stale)
		fd = socket(AF_UNIX, SOCK_STREAM, 0);
	cr_assert_eq(fstat(stale ? fd : ends[1], &st), 0);
	snprintf(stream, sizeof(stream), "%llu:%llu", (unsigned long long)st.st_dev,
		 (unsigned long long)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	cr_assert_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
	log_init("tester", LOG_DEBUG);
	log_error("one");
	log_warn("two");
	log_info("three");
	log_debug("four");
	n = read(ends[0], line, size - 1);
	cr_assert_gt(n, 0);
	line[n] = 0;
}

Test(log, the_journal_gets_priorities_and_no_dates)
{
	char text[512];

	journal_line(false, text, sizeof(text));
	cr_assert_str_eq(text,
			 "<3>tester: one\n<4>tester: two\n<6>tester: three\n<7>tester: four\n");
}

Test(log, what_is_no_journal_any_more_gets_dates)
{
	char text[512];

	journal_line(true, text, sizeof(text));
	cr_assert(strstr(text, "Z tester error: one\n"), "%s", text);
	cr_assert_null(strchr(text, '<'));
}
