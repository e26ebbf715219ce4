/* SPDX-License-Identifier: Apache-2.0 */
/* What a service manager hears of a daemon: ready once, each status once, signs of life, the end. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/service.h"

/* The service manager's socket, and a daemon of which a test says how it is. */
struct manager {
	int fd;
	char path[64];
	uv_loop_t loop;
	uv_timer_t probe;
	struct service service;
	bool ready;
	const char *status;
	unsigned asked;
	char heard[4096]; /* all messages, each in brackets */
};

static bool state(void *user, char *status, size_t size)
{
	struct manager *m = user;

	m->asked++;
	snprintf(status, size, "%s", m->status);
	return m->ready;
}

static void manager_open(struct manager *m)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	memset(m, 0, sizeof(*m));
	m->status = "idle";
	snprintf(m->path, sizeof(m->path), "/tmp/pangea-notify-%d", (int)getpid());
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", m->path);
	unlink(m->path);
	m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	cr_assert_geq(m->fd, 0);
	cr_assert_eq(bind(m->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	setenv("NOTIFY_SOCKET", m->path, 1);
	cr_assert_eq(uv_loop_init(&m->loop), 0);
	uv_timer_init(&m->loop, &m->probe);
}

/* What has come since the last time. */
static const char *heard(struct manager *m)
{
	char msg[512];
	ssize_t n;

	m->heard[0] = 0;
	while ((n = recv(m->fd, msg, sizeof(msg), 0)) > 0) {
		size_t used = strlen(m->heard);

		snprintf(m->heard + used, sizeof(m->heard) - used, "[%.*s]", (int)n, msg);
	}
	return m->heard;
}

static void enough(uv_timer_t *timer)
{
	uv_stop(timer->loop);
}

/* The loop for so long. */
static void pass(struct manager *m, uint64_t ms)
{
	uv_timer_start(&m->probe, enough, ms, 0);
	uv_run(&m->loop, UV_RUN_DEFAULT);
}

static void manager_close(struct manager *m)
{
	uv_close((uv_handle_t *)&m->probe, NULL);
	uv_run(&m->loop, UV_RUN_DEFAULT);
	cr_assert_eq(uv_loop_close(&m->loop), 0, "the service keeps the loop from its end");
	close(m->fd);
	unlink(m->path);
}

/* 20 ms of watchdog: a sign every 11 ms. */
Test(service, ready_status_life_and_end, .timeout = 30)
{
	struct manager m;

	setenv("WATCHDOG_USEC", "20000", 1);
	manager_open(&m);
	service_start(&m.service, &m.loop, 3600000, state, &m);
	pass(&m, 100);
	cr_assert(strncmp(heard(&m), "[STATUS=idle\nWATCHDOG=1]", 24) == 0, "%s", m.heard);
	cr_assert_null(strstr(m.heard, "READY"), "%s", m.heard);
	cr_assert_null(strstr(m.heard + 1, "[STATUS"), "said twice: %s", m.heard);
	m.ready = true;
	m.status = "at work";
	pass(&m, 100);
	cr_assert(strstr(heard(&m), "[READY=1\nSTATUS=at work\nWATCHDOG=1]"), "%s", m.heard);
	cr_assert_null(strstr(strstr(m.heard, "READY") + 1, "READY"), "said twice: %s", m.heard);
	m.status = "at rest";
	m.ready = false;
	pass(&m, 100);
	cr_assert(strstr(heard(&m), "[STATUS=at rest\nWATCHDOG=1]"), "%s", m.heard);
	cr_assert_null(strstr(m.heard, "READY"), "ready is ready: %s", m.heard);
	cr_assert(strstr(m.heard, "[WATCHDOG=1]"), "%s", m.heard);
	service_stop(&m.service, "ending");
	service_stop(&m.service, "ending");
	cr_assert_str_eq(heard(&m), "[STOPPING=1\nSTATUS=ending]");
	manager_close(&m);
}

/* Who waits for a daemon that waits for another machine waits no longer than it was told. */
Test(service, ready_after_a_while_in_any_case, .timeout = 30)
{
	struct manager m;

	unsetenv("WATCHDOG_USEC");
	manager_open(&m);
	service_start(&m.service, &m.loop, 0, state, &m);
	pass(&m, 50);
	cr_assert_str_eq(heard(&m), "[READY=1\nSTATUS=idle\nWATCHDOG=1]");
	service_stop(&m.service, "ending");
	manager_close(&m);
}

Test(service, nobody_listens, .timeout = 30)
{
	struct manager m;

	manager_open(&m);
	unsetenv("NOTIFY_SOCKET");
	service_start(&m.service, &m.loop, 0, state, &m);
	service_stop(&m.service, "ending");
	cr_assert_eq(m.asked, 0);
	cr_assert_str_eq(heard(&m), "");
	manager_close(&m);
}
