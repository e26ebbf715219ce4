/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a slice's process and putting its end into words. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "node/node.h"

/* Where the child finds its files; above them nothing is left open. */
#define CHILD_SOCK   3
#define CHILD_KERNEL 4
#define CHILD_INITRD 5

/* So much likelier than its daemon, in thousandths of the host's memory, a slice is what the kernel
 * kills when the host has no memory left. */
#define OOM_MORE 200
#define OOM_MOST 1000
#define OOM_FILE "/proc/self/oom_score_adj"

/* Out of the way of the numbers it is going to get. */
static int fd_lift(int fd)
{
	return fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 64);
}

static int fd_put(int fd, int number)
{
	if (fd < 0) {
		close(number);
		return 0;
	}
	return dup2(fd, number);
}

/* The child's oom_score_adj as text. */
static void oom_text(char *out, size_t size)
{
	char own[16] = "";
	int fd = open(OOM_FILE, O_RDONLY | O_CLOEXEC);
	long value;

	/* What cannot be read counts as 0, the kernel's default. */
	if (fd >= 0 && read(fd, own, sizeof(own) - 1) < 0)
		own[0] = 0;
	if (fd >= 0)
		close(fd);
	value = strtol(own, NULL, 10) + OOM_MORE;
	snprintf(out, size, "%ld", value < OOM_MOST ? value : OOM_MOST);
}

/* In the child. Everybody may raise his own; a host without that file goes without. */
static void oom_raise(const char *text)
{
	int fd = open(OOM_FILE, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		errno = 0;
	close(fd);
}

/* Descriptors behind the first ones: of devices, one for new connections of theirs, of images. */
#define SPAWN_FDS_MAX (CONTROL_DEVICES_MAX + 1 + CONTROL_IMAGES_MAX)

/* What the child is told. */
struct child {
	const char *path;
	char oom[24];
	int sock, kernel, initrd;
	unsigned devices;
	int device[SPAWN_FDS_MAX];
};

/* In the child: every descriptor has its number, and there are no others. */
static bool child_descriptors(const struct child *child)
{
	int sock = fd_lift(child->sock);
	int kernel = fd_lift(child->kernel);
	int initrd = fd_lift(child->initrd);
	int device[SPAWN_FDS_MAX];

	for (unsigned i = 0; i < child->devices; i++)
		device[i] = fd_lift(child->device[i]);
	if (fd_put(sock, CHILD_SOCK) < 0 || fd_put(kernel, CHILD_KERNEL) < 0 ||
	    fd_put(initrd, CHILD_INITRD) < 0)
		return false;
	for (unsigned i = 0; i < child->devices; i++)
		if (dup2(device[i], NODE_DEVICE_FD_FIRST + (int)i) < 0)
			return false;
	close_range(NODE_DEVICE_FD_FIRST + child->devices, ~0u, 0);
	return true;
}

/* In the child: only what is safe after fork. */
static void child_run(const char *confine, void *arg)
{
	const struct child *child = arg;
	char name[] = "pangea-vmm", word[] = "--confine";
	char *argv[] = {name, word, (char *)(uintptr_t)confine, NULL};
	sigset_t none;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	/* Dies with the daemon, even if that is killed. If it is dead already, the socket's end says so. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (null < 0)
		_exit(127);
	oom_raise(child->oom);
	/* A group of its own: the terminal's Ctrl-C is for the daemon. */
	setpgid(0, 0);
	if (dup2(null, STDIN_FILENO) < 0 || !child_descriptors(child))
		_exit(127);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(child->path, argv);
	_exit(127);
}

pid_t vmm_spawn(struct node_slice *slice, int sock, int kernel, int initrd,
		const struct node_devices *devices, const int *images, unsigned images_count)
{
	const struct node_daemon *node = slice->node;
	char name[NAME_MAX_LEN + 64];
	struct child child = {
		.path = node->opts.vmm, .sock = sock, .kernel = kernel, .initrd = initrd};
	/* A VM of one slice speaks to nobody but its daemon. */
	struct confine_process process = {.name = name,
					  .vm = slice->incarnation,
					  .mem_bytes = slice->limit_bytes,
					  .network = slice->slices > 1,
					  .rdma = slice->slices > 1 && node->opts.rdma.allowed};

	snprintf(name, sizeof(name), "pangea-%s-%u.%d", slice->vm, slice->index, (int)getpid());
	oom_text(child.oom, sizeof(child.oom));
	for (; devices && child.devices < devices->count; child.devices++)
		child.device[child.devices] = devices->list[child.devices].slice_fd;
	if (devices && devices->handover[1] >= 0)
		child.device[child.devices++] = devices->handover[1];
	for (unsigned i = 0; i < images_count; i++)
		child.device[child.devices++] = images[i];
	return confine_spawn(&node->confine, &process, child_run, &child, &slice->hold);
}

void status_describe(int status, char *out, size_t size)
{
	if (WIFSIGNALED(status))
		snprintf(out, size, "killed by signal %d", WTERMSIG(status));
	else
		snprintf(out, size, "exited with code %d", WEXITSTATUS(status));
}
