/* SPDX-License-Identifier: Apache-2.0 */
/* What a daemon tells the service manager that started it (sd_notify): ready, status, alive, stopping. */
#ifndef CONTROL_SERVICE_H
#define CONTROL_SERVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#define SERVICE_STATUS_MAX 256

/*
 * Writes one line of what the daemon does now into status; returns whether it is ready. Called on the loop's thread.
 */
typedef bool (*service_state)(void *user, char *status, size_t size);

struct service {
	uv_timer_t timer;
	service_state state;
	void *user;
	bool told;		 /* there is a service manager: the timer runs */
	bool ready;		 /* it has been told */
	uint64_t ready_until_ms; /* then it is told in any case, on the loop's clock */
	char status[SERVICE_STATUS_MAX];
};

/*
 * Begins to tell the service manager of $NOTIFY_SOCKET; does nothing where there is none. It hears READY once `state`
 * says so, at the latest after ready_ms: whoever waits for a daemon that waits for another machine waits no longer than
 * that. It hears each change of the status within a second, and WATCHDOG in half of $WATCHDOG_USEC, from the loop, so
 * that a loop that stands still is noticed. The service and user must outlive the loop.
 */
void service_start(struct service *service, uv_loop_t *loop, uint64_t ready_ms, service_state state,
		   void *user);
/* Says STOPPING with this status, and lets the loop end. May be called for a service that was not started. */
void service_stop(struct service *service, const char *status);

#endif
