/* SPDX-License-Identifier: Apache-2.0 */
/* One-shot deadlines on libuv timers that their owners can forget safely. */
#include <stdlib.h>

#include "control/control.h"

struct control_deadline {
	uv_timer_t timer;
	control_deadline_fn *fn;
	void *arg;
};

static void deadline_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void deadline_fired(uv_timer_t *timer)
{
	struct control_deadline *deadline = timer->data;
	control_deadline_fn *fn = deadline->fn;
	void *arg = deadline->arg;

	uv_close((uv_handle_t *)timer, deadline_closed);
	fn(arg);
}

struct control_deadline *control_deadline_start(uv_loop_t *loop, uint64_t ms,
						control_deadline_fn *fn, void *arg)
{
	struct control_deadline *deadline = calloc(1, sizeof(*deadline));

	if (!deadline)
		return NULL;
	deadline->fn = fn;
	deadline->arg = arg;
	uv_timer_init(loop, &deadline->timer);
	deadline->timer.data = deadline;
	/* The loop's own idea of now may be old after long work; a deadline counts from now. */
	uv_update_time(loop);
	uv_timer_start(&deadline->timer, deadline_fired, ms, 0);
	return deadline;
}

void control_deadline_cancel(struct control_deadline **deadline)
{
	if (*deadline)
		uv_close((uv_handle_t *)&(*deadline)->timer, deadline_closed);
	*deadline = NULL;
}
