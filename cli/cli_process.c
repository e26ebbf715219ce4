/* SPDX-License-Identifier: Apache-2.0 */
/* Background processes: started, noted down, found again. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

_Noreturn static void child_run(char *const argv[], const char *log_path)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	setsid();
	if (null < 0 || log < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(log, STDOUT_FILENO) < 0 ||
	    dup2(log, STDERR_FILENO) < 0)
		_exit(127);
	close_range(3, ~0u, 0);
	signal(SIGPIPE, SIG_DFL);
	execv(argv[0], argv);
	_exit(127);
}

pid_t process_start(char *const argv[], const char *log_path)
{
	pid_t pid;

	if (access(argv[0], X_OK) < 0)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		child_run(argv, log_path);
	return pid;
}

/* The start time of a process (proc(5), field 22 of stat); 0 if it is gone or a zombie. */
static unsigned long long start_time(pid_t pid)
{
	char path[64], text[1024], *p;
	unsigned long long start = 0;
	char state = 'Z';

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	if (state_line_read(path, text, sizeof(text)) < 0)
		return 0;
	/* The name in parentheses may contain anything, parentheses too. */
	p = strrchr(text, ')');
	if (!p || sscanf(p + 1,
			 " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
			 "%*d %llu",
			 &state, &start) != 2)
		return 0;
	return state == 'Z' || state == 'X' ? 0 : start;
}

int process_note(pid_t pid, const char *path)
{
	FILE *file = fopen(path, "we");

	if (!file)
		return -errno;
	int bad = fprintf(file, "%d %llu\n", (int)pid, start_time(pid)) < 0;
	return fclose(file) != 0 || bad ? -EIO : 0;
}

pid_t process_noted(const char *path)
{
	unsigned long long start;
	char line[64];
	int pid;

	if (state_line_read(path, line, sizeof(line)) < 0 ||
	    sscanf(line, "%d %llu", &pid, &start) != 2 || pid <= 1 || start == 0)
		return 0;
	return start_time(pid) == start ? pid : 0;
}
