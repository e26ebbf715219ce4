/* SPDX-License-Identifier: Apache-2.0 */
/* Runs programs of other packages: no shell, descriptors instead of names, a deadline, a limit on what they write. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/image.h"

/* Where administrators' programs are, which is not in everybody's PATH. */
#define PATH_MORE "/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin"

static bool descriptors_place(const struct tool *tool, int out, int complaints)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int in = tool->in_fd < 0 ? -1 : fcntl(tool->in_fd, F_DUPFD_CLOEXEC, 16);
	int more = tool->out_fd < 0 ? -1 : fcntl(tool->out_fd, F_DUPFD_CLOEXEC, 16);

	out = fcntl(out, F_DUPFD_CLOEXEC, 16);
	complaints = fcntl(complaints, F_DUPFD_CLOEXEC, 16);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
	    dup2(complaints, STDERR_FILENO) < 0)
		return false;
	if ((tool->in_fd >= 0 && dup2(in, TOOL_IN_FD) < 0) ||
	    (tool->out_fd >= 0 && dup2(more, TOOL_OUT_FD) < 0))
		return false;
	return close_range(TOOL_OUT_FD + 1, ~0u, 0) == 0;
}

_Noreturn static void child_run(const struct tool *tool, int out, int complaints, pid_t parent)
{
	struct rlimit bytes = {.rlim_cur = tool->bytes_max, .rlim_max = tool->bytes_max};
	const char *path = getenv("PATH");
	char more[4096];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent || !descriptors_place(tool, out, complaints) ||
	    setrlimit(RLIMIT_FSIZE, &bytes) < 0)
		_exit(126);
	snprintf(more, sizeof(more), "%s%s" PATH_MORE, path ? path : "", path ? ":" : "");
	/* Its sentences are shown as they are, and its pager is nobody's. */
	if (setenv("PATH", more, 1) < 0 || setenv("LC_ALL", "C", 1) < 0)
		_exit(126);
	signal(SIGPIPE, SIG_DFL);
	execvp(tool->words[0], (char *const *)tool->words);
	_exit(errno == ENOENT ? 127 : 126);
}

/* 0 or negative; the process has been reaped either way. */
static int child_wait(const struct tool *tool, pid_t pid, int *status)
{
	struct pollfd ended = {.fd = pidfd_open(pid, 0), .events = POLLIN};
	int n = ended.fd < 0 ? -1 : poll(&ended, 1, (int)tool->timeout_s * 1000);
	int err = n < 0 ? -errno : n == 0 ? -ETIMEDOUT : 0;

	if (err)
		kill(pid, SIGKILL);
	while (waitpid(pid, status, 0) < 0 && errno == EINTR)
		;
	if (ended.fd >= 0)
		close(ended.fd);
	return err;
}

/* All of a file that the program wrote; null without memory. */
static char *file_take(int fd, size_t max, size_t *bytes)
{
	off_t end = lseek(fd, 0, SEEK_END);
	size_t want = end < 0 ? 0 : (size_t)end > max ? max : (size_t)end, have = 0;
	char *text = malloc(want + 1);

	while (text && have < want) {
		ssize_t n = pread(fd, text + have, want - have, (off_t)have);
		if (n <= 0)
			break;
		have += (size_t)n;
	}
	if (text)
		text[have] = 0;
	*bytes = have;
	return text;
}

static void complaint_take(struct tool *tool, int fd)
{
	size_t bytes;
	char *text = file_take(fd, 16384, &bytes), *line;

	while (text && bytes && text[bytes - 1] == '\n')
		text[--bytes] = 0;
	line = text ? strrchr(text, '\n') : NULL;
	snprintf(tool->complaint, sizeof(tool->complaint), "%.190s",
		 line	? line + 1
		 : text ? text
			: "");
	control_text_clean(tool->complaint);
	free(text);
}

static int status_take(struct tool *tool, int status)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127 && !tool->complaint[0])
		return -ENOENT;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ ? -EFBIG : -EIO;
}

int tool_run(struct tool *tool)
{
	int said = memfd_create("said", MFD_CLOEXEC);
	int complaints = memfd_create("complaints", MFD_CLOEXEC);
	int out = tool->stdout_fd >= 0 ? tool->stdout_fd : said, status = 0, err = 0;
	pid_t self = getpid(), pid = -1;

	tool->said = NULL;
	tool->complaint[0] = 0;
	fflush(NULL);
	if (said >= 0 && complaints >= 0)
		pid = fork();
	if (pid < 0)
		err = -errno;
	else if (pid == 0)
		child_run(tool, out, complaints, self);
	else
		err = child_wait(tool, pid, &status);
	if (!err) {
		complaint_take(tool, complaints);
		err = status_take(tool, status);
	}
	if (!err && tool->stdout_fd < 0) {
		tool->said = file_take(said, IMAGE_LISTING_MAX, &tool->said_bytes);
		err = tool->said ? 0 : -ENOMEM;
	}
	if (said >= 0)
		close(said);
	if (complaints >= 0)
		close(complaints);
	return err;
}

int tool_blame(const struct tool *tool, int err, const char *package)
{
	const char *name = tool->words[0];

	if (err == -ENOENT)
		cli_say("there is no program %s here: install Debian's package %s", name, package);
	else if (err == -ETIMEDOUT)
		cli_say("%s did not end within %u s", name, tool->timeout_s);
	else if (err == -EFBIG)
		cli_say("%s wanted to write more than is believed of an image", name);
	else if (err == -EIO)
		cli_say("%s failed: %s", name,
			tool->complaint[0] ? tool->complaint : "it does not say why");
	else
		cli_say("%s cannot be run: %s", name, error_text(err));
	return EXIT_ERROR;
}
