/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Back ends: the programs that serve a slice's disks, networks and folders, one process each, from before the slice is
 * configured until its process has ended.
 *
 * Timers, for each: every READY_EVERY_MS until it is ready, for at most START_MS; EXIT_MS after it was asked to end it
 * is killed; one that ended while its slice lives is told JUDGE_MS later, unless the slice has ended meanwhile: it may
 * only have seen its slice's end before we did. A disk's that is to be started again is so by then, at most
 * NODE_RESTARTS_MAX times in NODE_RESTART_S.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "node/node.h"

#define READY_EVERY_MS 10
#define START_MS       10000
#define EXIT_MS	       3000
#define JUDGE_MS       500
/* A network's program that does not confine itself as those do that we know is taken as ready after so long. */
#define NET_READY_MS 3000

/* Memory: the program, and for a disk the tables of its image and the host's cache of it. */
#define DISK_BYTES (UINT64_C(512) << 20)
#define NET_BYTES  (UINT64_C(256) << 20)
#define FS_BYTES   (UINT64_C(512) << 20)

/* What it says is logged line by line: so long ones, so many at once, and so many a second. */
#define LINE_MAX_BYTES	 400
#define LINES_BURST	 40
#define LINES_PER_SECOND 2

/* VHOST_USER_GET_FEATURES: a question that may be asked again, and its answer (QEMU's docs/interop/vhost-user.rst). */
#define VHOST_FEATURES	   1
#define VHOST_VERSION	   1
#define VHOST_REPLY	   4
#define VHOST_ANSWER_BYTES 20

struct node_backend {
	struct node_slice *slice;
	char id[CONTROL_ID_MAX];
	char path[CONTROL_DISK_PATH_MAX]; /* of a disk; "": it has none */
	enum control_device_type type;
	pid_t pid;
	int status;
	bool reaped, ready, ending;
	bool again;		/* in the place of one that ended */
	struct node_kept *kept; /* of one that may be started again; else null */
	struct confine_hold hold;
	uint64_t started_ns;
	/* until it is ready */
	int sock; /* a disk's or folder's: the slice's end of its connection; else -1 */
	uint8_t answer[VHOST_ANSWER_BYTES];
	size_t answered;
	struct control_deadline *ready_timer;
	struct control_deadline *deadline; /* to exit, or to be judged */
	/* what it says */
	uv_pipe_t said;
	bool said_open;
	char buffer[1024];
	char line[LINE_MAX_BYTES + 1];
	size_t line_used;
	char last[2][LINE_MAX_BYTES + 1]; /* the last two lines, the newer one first */
	struct rate rate;
	unsigned unlogged;
};

static uint64_t bytes_max(enum control_device_type type)
{
	if (type == CONTROL_DEVICE_BLK)
		return DISK_BYTES;
	return type == CONTROL_DEVICE_NET ? NET_BYTES : FS_BYTES;
}

/* ---- what it says ---- */

/* Not worth a line: there is no system log where it looks for one. */
static bool line_empty(const char *line)
{
	return !line[0] || (strncmp(line, "Failed to send ", 15) == 0 && strstr(line, "syslog"));
}

/* A program's own name and its option before the message say nothing to who gave neither. */
static const char *message_of(const char *line)
{
	const char *end = strstr(line, "}: ");

	return strstr(line, "--blockdev") && end ? end + 3 : line;
}

/* It knows its image by a number alone; people know it by its name. */
static void line_name(struct node_backend *backend)
{
	char number[32], rest[LINE_MAX_BYTES + 1], *at;

	snprintf(number, sizeof(number), "/proc/self/fd/%d", NODE_BACK_LAYER);
	at = strstr(backend->line, number);
	if (!backend->path[0] || !at || (at[strlen(number)] >= '0' && at[strlen(number)] <= '9'))
		return;
	snprintf(rest, sizeof(rest), "%s", at + strlen(number));
	snprintf(at, sizeof(backend->line) - (size_t)(at - backend->line), "%s%s", backend->path,
		 rest);
}

static void line_take(struct node_backend *backend)
{
	backend->line[backend->line_used] = 0;
	backend->line_used = 0;
	/* The option that a message is about has numbers of files, too: it goes first. */
	memmove(backend->line, message_of(backend->line), strlen(message_of(backend->line)) + 1);
	line_name(backend);
	control_text_clean(backend->line);
	if (line_empty(backend->line))
		return;
	memcpy(backend->last[1], backend->last[0], sizeof(backend->last[0]));
	memcpy(backend->last[0], backend->line, sizeof(backend->last[0]));
	if (!rate_allows(&backend->rate, clock_now_ns(), LINES_BURST, LINES_PER_SECOND)) {
		backend->unlogged++;
		return;
	}
	if (backend->unlogged)
		log_info("VM %s: %s: %u lines are not shown here", backend->slice->vm, backend->id,
			 backend->unlogged);
	backend->unlogged = 0;
	log_info("VM %s: %s: %s", backend->slice->vm, backend->id, backend->line);
}

/* What does not fit into a line is left out. */
static void said_take(struct node_backend *backend, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (data[i] == '\n')
			line_take(backend);
		else if (backend->line_used < LINE_MAX_BYTES)
			backend->line[backend->line_used++] = data[i];
	}
}

static void said_alloc(uv_handle_t *handle, size_t wanted, uv_buf_t *out)
{
	struct node_backend *backend = handle->data;

	(void)wanted;
	*out = uv_buf_init(backend->buffer, sizeof(backend->buffer));
}

static void said_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void said_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct node_backend *backend = stream->data;

	if (n > 0)
		said_take(backend, buf->base, (size_t)n);
	else if (n < 0)
		uv_read_stop(stream);
}

/* What lies in the pipe of a process that has ended. */
static void said_drain(struct node_backend *backend)
{
	uv_os_fd_t fd;
	ssize_t n;

	if (!backend->said_open || uv_fileno((uv_handle_t *)&backend->said, &fd))
		return;
	/* At most a pipe's worth: children of its own may still write. */
	for (int i = 0; i < 64; i++) {
		n = read(fd, backend->buffer, sizeof(backend->buffer));
		if (n <= 0)
			break;
		said_take(backend, backend->buffer, (size_t)n);
	}
	if (backend->line_used)
		line_take(backend);
}

/* How it ended, with the last that it said. */
static void how_make(const struct node_backend *backend, bool oom, char *out, size_t size)
{
	status_describe(backend->status, out, size);
	size_t used = strlen(out);

	if (oom)
		snprintf(out + used, size - used,
			 ": it wanted more than its limit of %llu MiB of memory",
			 (unsigned long long)bytes_max(backend->type) >> 20);
	else if (backend->last[1][0])
		snprintf(out + used, size - used, ": %.160s; %.160s", backend->last[1],
			 backend->last[0]);
	else if (backend->last[0][0])
		snprintf(out + used, size - used, ": %.300s", backend->last[0]);
}

/* ---- its end ---- */

/* Nothing of it is left but its handle, whose closing frees it. */
static void backend_free(struct node_backend *backend)
{
	struct node_slice *slice = backend->slice;

	for (unsigned i = 0; i < CONTROL_DEVICES_MAX; i++)
		if (slice->backend[i] == backend)
			slice->backend[i] = NULL;
	if (backend->sock >= 0)
		close(backend->sock);
	node_kept_free(backend->kept);
	control_deadline_cancel(&backend->ready_timer);
	control_deadline_cancel(&backend->deadline);
	if (backend->said_open)
		uv_close((uv_handle_t *)&backend->said, said_closed);
	else
		free(backend);
}

static int backend_again(struct node_backend *backend);

/* The VM goes on without it: who runs it is told. */
static void judge(void *arg)
{
	struct node_backend *backend = arg;
	struct node_slice *slice = backend->slice;
	char how[CONTROL_WHY_MAX], brief[CONTROL_ENDED_MAX];

	backend->deadline = NULL;
	how_make(backend, false, how, sizeof(how));
	if (!slice->reaped && slice->said != SAID_EXIT && backend->kept) {
		log_warn("VM %s: %s: its back end ended (%s): it is started again", slice->vm,
			 backend->id, how);
		if (backend_again(backend) == 0)
			return;
		log_warn("VM %s: %s: its back end cannot be started again, or has ended too often",
			 slice->vm, backend->id);
		(void)node_handover_send(slice->handover_fd, backend->id, -1);
	}
	if (!slice->reaped && slice->said != SAID_EXIT) {
		log_warn("VM %s: %s: its back end ended (%s): the VM goes on without it", slice->vm,
			 backend->id, how);
		snprintf(brief, sizeof(brief), "%.*s", (int)sizeof(brief) - 1, how);
		slice_device_ended(slice, backend->id, brief);
	}
	backend_free(backend);
}

static void backend_over(struct node_backend *backend)
{
	struct node_slice *slice = backend->slice;
	char how[CONTROL_WHY_MAX], why[CONTROL_WHY_MAX];
	bool oom = confine_release(&slice->node->confine, &backend->hold);

	said_drain(backend);
	how_make(backend, oom, how, sizeof(how));
	control_deadline_cancel(&backend->ready_timer);
	control_deadline_cancel(&backend->deadline);
	if ((backend->ready || backend->again) && !backend->ending && !slice->reaped) {
		backend->deadline =
			control_deadline_start(&slice->node->loop, JUDGE_MS, judge, backend);
		if (backend->deadline)
			return;
	}
	log_info("VM %s: %s: its back end %s", slice->vm, backend->id, how);
	if (!backend->ready && !backend->ending && !slice->reaped) {
		snprintf(why, sizeof(why),
			 "%s cannot be started on node %.63s: its back end %.200s", backend->id,
			 slice->node->opts.name, how);
		slice_refuse(slice, why);
	}
	backend_free(backend);
}

void backends_reap(struct node_daemon *node)
{
	for (unsigned i = 0; i < NODE_SLICES_MAX; i++) {
		struct node_slice *slice = node->slice[i];
		bool any = false;

		for (unsigned d = 0; slice && d < CONTROL_DEVICES_MAX; d++) {
			struct node_backend *backend = slice->backend[d];
			if (!backend || backend->reaped ||
			    waitpid(backend->pid, &backend->status, WNOHANG) <= 0)
				continue;
			backend->reaped = any = true;
			backend_over(backend);
		}
		if (any)
			slice_finish_if_over(slice);
	}
}

static void exit_late(void *arg)
{
	struct node_backend *backend = arg;

	backend->deadline = NULL;
	log_warn("VM %s: %s: its back end does not exit: killing it", backend->slice->vm,
		 backend->id);
	kill(backend->pid, SIGKILL);
}

void backends_end(struct node_slice *slice)
{
	for (unsigned i = 0; i < CONTROL_DEVICES_MAX; i++) {
		struct node_backend *backend = slice->backend[i];

		if (!backend || backend->ending)
			continue;
		if (backend->reaped) {
			/* Its end is judged now: the slice has ended, too. */
			backend_free(backend);
			continue;
		}
		backend->ending = true;
		control_deadline_cancel(&backend->ready_timer);
		/* In good order, so that it writes down what it keeps of its image; there is nothing before it is
		 * ready, nor a handler of the signal, without which the first process of a name space ignores it. */
		kill(backend->pid, backend->ready ? SIGTERM : SIGKILL);
		backend->deadline =
			control_deadline_start(&slice->node->loop, EXIT_MS, exit_late, backend);
		if (!backend->deadline)
			kill(backend->pid, SIGKILL);
	}
}

/* ---- its beginning ---- */

bool backends_ready(const struct node_slice *slice)
{
	for (unsigned i = 0; i < CONTROL_DEVICES_MAX; i++)
		if (slice->backend[i] && !slice->backend[i]->ready)
			return false;
	return true;
}

static uint32_t get32(const uint8_t *at)
{
	return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
	       (uint32_t)at[3] << 24;
}

/* A disk's answers once it serves; 0: not yet, 1: it does, negative: it speaks something else. */
static int disk_ready(struct node_backend *backend)
{
	ssize_t n = recv(backend->sock, backend->answer + backend->answered,
			 sizeof(backend->answer) - backend->answered, MSG_DONTWAIT);

	if (n <= 0) /* its end is seen by the process's */
		return 0;
	backend->answered += (size_t)n;
	if (backend->answered < sizeof(backend->answer))
		return 0;
	if (get32(backend->answer) != VHOST_FEATURES ||
	    get32(backend->answer + 4) != (VHOST_VERSION | VHOST_REPLY) ||
	    get32(backend->answer + 8) != sizeof(uint64_t))
		return -EPROTO;
	return 1;
}

/* How many lists of system calls a process is under. */
static int filters_of(pid_t pid)
{
	char path[32], line[128];
	int filters = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Seccomp_filters: %d", &filters) == 1)
			break;
	if (file)
		fclose(file);
	return filters;
}

/* A network's program says nothing; but it puts itself under a list of system calls when all is prepared. */
static int net_ready(const struct node_backend *backend)
{
	return filters_of(backend->pid) > filters_of(getpid()) ||
	       clock_now_ns() - backend->started_ns > NET_READY_MS * NS_PER_MS;
}

static void ready_look(void *arg);

static void ready_again(struct node_backend *backend)
{
	struct node_slice *slice = backend->slice;

	backend->ready_timer =
		control_deadline_start(&slice->node->loop, READY_EVERY_MS, ready_look, backend);
	if (!backend->ready_timer && backend->again)
		kill(backend->pid, SIGKILL);
	else if (!backend->ready_timer)
		slice_refuse(slice, error_text(-ENOMEM));
}

static void ready_look(void *arg)
{
	struct node_backend *backend = arg;
	struct node_slice *slice = backend->slice;
	int ready = node_device_listens(backend->type) ? disk_ready(backend) : net_ready(backend);
	char why[CONTROL_WHY_MAX];

	backend->ready_timer = NULL;
	if (ready == 0 && clock_now_ns() - backend->started_ns < START_MS * NS_PER_MS) {
		ready_again(backend);
		return;
	}
	if (ready <= 0 && backend->again) {
		log_warn("VM %s: %s: its back end is not ready", slice->vm, backend->id);
		kill(backend->pid, SIGKILL);
		return;
	}
	if (ready <= 0) {
		snprintf(why, sizeof(why), "%s cannot be started on node %.63s: its back end %s",
			 backend->id, slice->node->opts.name,
			 ready ? "speaks another protocol" : "is not ready within 10 s");
		backend->ending = true; /* its own end is no news then */
		kill(backend->pid, SIGKILL);
		slice_refuse(slice, why);
		return;
	}
	backend->ready = true;
	/* What it said of its start is not why it ends. */
	backend->last[0][0] = backend->last[1][0] = 0;
	if (backend->again && node_handover_send(slice->handover_fd, backend->id, backend->sock))
		log_warn("VM %s: %s: its new connection cannot be handed over", slice->vm,
			 backend->id);
	if (backend->sock >= 0)
		close(backend->sock);
	backend->sock = -1;
	log_info("VM %s: %s: its back end is process %d", slice->vm, backend->id,
		 (int)backend->pid);
	if (!backend->again && backends_ready(slice))
		slice_configure_go(slice);
}

/* What the child is told. */
struct child {
	char *const *words;
	int sock, said, null;
	const struct node_disk *disk;
	uid_t uid;
	gid_t gid;
	bool serves_folder, readonly;
	struct confine_folder folder;
};

/* In the child: descriptors in their places, which are below all that were lifted. */
static bool child_descriptors(const struct child *child)
{
	int lifted[NODE_LAYERS_MAX], sock = fcntl(child->sock, F_DUPFD_CLOEXEC, 64);
	int layers = (int)child->disk->layers;

	for (int i = 0; i < layers; i++)
		lifted[i] = fcntl(child->disk->layer[i].fd, F_DUPFD_CLOEXEC, 64);
	if (dup2(child->null, STDIN_FILENO) < 0 || dup2(child->said, STDOUT_FILENO) < 0 ||
	    dup2(child->said, STDERR_FILENO) < 0 || dup2(sock, NODE_BACK_SOCKET) < 0)
		return false;
	for (int i = 0; i < layers; i++)
		if (dup2(lifted[i], NODE_BACK_LAYER + i) < 0)
			return false;
	close_range((unsigned)(NODE_BACK_LAYER + layers), ~0u, 0);
	return true;
}

/* In the child, which has no log. */
static void child_fail(const char *sentence)
{
	(void)!write(STDERR_FILENO, sentence, strlen(sentence));
	_exit(127);
}

/* In the child: only what is safe after fork. */
static void child_run(const char *option, void *arg)
{
	const struct child *child = arg;
	struct pollfd said = {.fd = STDERR_FILENO};
	sigset_t none;

	(void)option;
	/* A group of its own: the terminal's Ctrl-C is for the daemon. */
	setpgid(0, 0);
	if (!child_descriptors(child))
		_exit(127);
	if (child->serves_folder &&
	    confine_folder_show(NODE_BACK_LAYER, child->disk->real, child->readonly))
		child_fail("the folder cannot be shown to it alone\n");
	if (child->serves_folder ? confine_folder_enter(&child->folder)
				 : confine_helper(child->uid, child->gid))
		child_fail("its rights cannot be taken away\n");
	/* The daemon has ended before we asked to be told of that. */
	if (poll(&said, 1, 0) > 0 && (said.revents & POLLERR))
		_exit(127);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execv(child->words[0], child->words);
	child_fail("the program cannot be executed\n");
}

/* Whom it runs as: the owner of the disk's file, which a seed has not, or the VM's user; the daemon's own where that may not change. */
static void user_choose(const struct node_slice *slice, const struct node_device *device,
			struct child *child)
{
	const struct confine *confine = &slice->node->confine;

	child->uid = (uid_t)-1;
	child->gid = (gid_t)-1;
	if (confine->users && device->what.type != CONTROL_DEVICE_NET && !device->what.seed) {
		child->uid = device->disk.uid;
		child->gid = device->disk.gid;
	} else if (confine->users) {
		confine_user(confine, slice->incarnation, &child->uid, &child->gid);
	}
}

static int process_start(struct node_backend *backend, struct node_device *device, int said)
{
	struct node_slice *slice = backend->slice;
	bool network = backend->type == CONTROL_DEVICE_NET;
	char name[NAME_MAX_LEN + CONTROL_ID_MAX + 32];
	struct confine_process process = {.name = name,
					  .vm = slice->incarnation,
					  .mem_bytes = bytes_max(backend->type),
					  .network = network,
					  .helper = true,
					  .own_spaces = network};
	struct node_command command;
	struct child child = {.sock = device->back_fd, .said = said, .disk = &device->disk};
	int err = node_command_make(device, node_queues(slice->slices), &command);

	child.words = command.word;
	child.null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (!err && child.null < 0)
		err = -errno;
	user_choose(slice, device, &child);
	child.serves_folder = backend->type == CONTROL_DEVICE_FS;
	child.readonly = device->what.readonly;
	if (!err && child.serves_folder)
		err = confine_folder_make(&slice->node->confine, child.uid, child.gid,
					  &child.folder);
	snprintf(name, sizeof(name), "pangea-%s.%s.%d", slice->vm, backend->id, (int)getpid());
	if (!err)
		backend->pid = confine_spawn(&slice->node->confine, &process, child_run, &child,
					     &backend->hold);
	if (!err && backend->pid < 0)
		err = backend->pid;
	if (child.null >= 0)
		close(child.null);
	node_command_free(&command);
	return err;
}

/* Asks a disk whether it serves; the answer comes when it does. */
static int question_send(struct node_backend *backend)
{
	const uint32_t question[3] = {VHOST_FEATURES, VHOST_VERSION, 0};

	if (!node_device_listens(backend->type))
		return 0;
	return send(backend->sock, question, sizeof(question), MSG_DONTWAIT | MSG_NOSIGNAL) ==
			       (ssize_t)sizeof(question)
		       ? 0
		       : -EIO;
}

static int backend_start(struct node_backend *backend, struct node_device *device)
{
	int fds[2], err;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	err = process_start(backend, device, fds[1]);
	close(fds[1]);
	if (!err && (fcntl(fds[0], F_SETFL, O_NONBLOCK) < 0 ||
		     uv_pipe_init(&backend->slice->node->loop, &backend->said, 0)))
		err = -ENOMEM;
	if (err) {
		close(fds[0]);
		return err;
	}
	backend->said.data = backend;
	backend->said_open = true;
	err = uv_pipe_open(&backend->said, fds[0]);
	if (err)
		close(fds[0]);
	else
		err = uv_read_start((uv_stream_t *)&backend->said, said_alloc, said_read);
	return err ? err : question_send(backend);
}

static struct node_backend *backend_new(struct node_slice *slice, struct node_device *device)
{
	struct node_backend *backend = calloc(1, sizeof(*backend));

	if (!backend)
		return NULL;
	backend->slice = slice;
	backend->type = device->what.type;
	snprintf(backend->id, sizeof(backend->id), "%s", device->what.id);
	snprintf(backend->path, sizeof(backend->path), "%s", device->what.path);
	backend->started_ns = clock_now_ns();
	backend->sock = -1;
	if (node_device_listens(backend->type)) {
		backend->sock = device->slice_fd;
		device->slice_fd = -1;
	}
	return backend;
}

/* Another process, with the same files, in the place of this one, which is freed. 0, or negative: it stays. */
static int backend_again(struct node_backend *backend)
{
	struct node_slice *slice = backend->slice;
	struct node_kept *kept = backend->kept;
	struct node_backend *next;
	unsigned slot = 0;
	int err;

	if (!node_kept_again(kept, clock_now_ns()))
		return -EAGAIN;
	err = node_device_connect(slice->node, &kept->device);
	if (err)
		return err;
	next = backend_new(slice, &kept->device);
	err = next ? backend_start(next, &kept->device) : -ENOMEM;
	close(kept->device.back_fd);
	kept->device.back_fd = -1;
	if (next && next->pid <= 0) {
		backend_free(next);
		return err;
	}
	if (!next)
		return err;
	while (slice->backend[slot] != backend)
		slot++;
	backend->kept = NULL;
	backend_free(backend);
	slice->backend[slot] = next;
	next->again = true;
	next->kept = kept;
	if (err)
		kill(next->pid, SIGKILL);
	else
		ready_again(next);
	return 0;
}

int backends_start(struct node_slice *slice, struct node_devices *devices, char *why)
{
	for (unsigned i = 0; i < devices->count; i++) {
		struct node_device *device = &devices->list[i];
		struct node_backend *backend;
		int err;

		if (device->what.ifname[0])
			continue;
		backend = backend_new(slice, device);
		err = backend ? backend_start(backend, device) : -ENOMEM;

		if (backend)
			slice->backend[i] = backend;
		if (!err && device->what.restart) {
			backend->kept = node_kept_new(device);
			err = backend->kept ? 0 : -ENOMEM;
		}
		if (backend && backend->pid <= 0)
			backend_free(backend);
		if (err) {
			snprintf(why, CONTROL_WHY_MAX, "%s cannot be started on node %.63s: %s",
				 device->what.id, slice->node->opts.name, error_text(err));
			return err;
		}
		ready_again(backend);
	}
	return 0;
}
