/* SPDX-License-Identifier: Apache-2.0 */
/* Tells the service manager by a timer of the daemon's own loop. */
#include "control/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#define TICK_MS	  1000
#define US_PER_MS 1000

static void service_tell(struct service *service)
{
	char status[SERVICE_STATUS_MAX] = "";
	bool ready = service->state(service->user, status, sizeof(status)) ||
		     uv_now(service->timer.loop) >= service->ready_until_ms;
	bool first = ready && !service->ready;

	if (first || strcmp(status, service->status) != 0)
		sd_notifyf(0, "%sSTATUS=%s\nWATCHDOG=1", first ? "READY=1\n" : "", status);
	else
		sd_notify(0, "WATCHDOG=1");
	service->ready = service->ready || ready;
	memcpy(service->status, status, sizeof(status));
}

static void tick(uv_timer_t *timer)
{
	service_tell(timer->data);
}

void service_start(struct service *service, uv_loop_t *loop, uint64_t ready_ms, service_state state,
		   void *user)
{
	uint64_t watchdog_us = 0, every_ms = TICK_MS;

	*service = (struct service){.state = state, .user = user};
	if (!getenv("NOTIFY_SOCKET"))
		return;
	if (sd_watchdog_enabled(0, &watchdog_us) > 0 && watchdog_us / US_PER_MS / 2 < every_ms)
		every_ms = watchdog_us / US_PER_MS / 2 + 1;
	service->told = true;
	service->ready_until_ms = uv_now(loop) + ready_ms;
	uv_timer_init(loop, &service->timer);
	service->timer.data = service;
	uv_timer_start(&service->timer, tick, 0, every_ms);
}

void service_stop(struct service *service, const char *status)
{
	if (!service->told)
		return;
	service->told = false;
	sd_notifyf(0, "STOPPING=1\nSTATUS=%s", status);
	uv_close((uv_handle_t *)&service->timer, NULL);
}
