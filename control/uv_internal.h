/* SPDX-License-Identifier: Apache-2.0 */
/* What uv_conn.c and uv_listen.c share; nobody else includes this. */
#ifndef CONTROL_UV_INTERNAL_H
#define CONTROL_UV_INTERNAL_H

#include "control/control.h"

enum conn_state {
	CONN_CONNECTING, /* TCP connect under way; the hello waits */
	CONN_HELLO,	 /* our hello is on its way, the peer's has not come */
	CONN_OPEN,
	CONN_FLUSHING, /* our side has ended: sending the rest, waiting for the peer's end */
	CONN_CLOSING,  /* handles are being closed */
};

struct control_conn {
	const struct control_ops *ops;
	void *user;
	struct control_listener *listener; /* null unless accepted */
	enum conn_state state;
	union {
		uv_tcp_t tcp;
		uv_pipe_t pipe;
		uv_stream_t stream;
		uv_handle_t handle;
	} h;
	uv_timer_t timer; /* the deadline of the state: hello or flush */
	uv_connect_t connect_req;
	uv_shutdown_t shutdown_req;
	unsigned handles_open; /* of h and timer */
	struct control_decoder dec;
	size_t queued_bytes;
	bool write_failed; /* nothing more can be sent; what the peer said is still read */
	enum control_role role;
	char token[CONTROL_TOKEN_MAX];
	char expect_token[CONTROL_TOKEN_MAX];
	bool has_expect;
	int err;
	char why[CONTROL_WHY_MAX];
	char read_buf[65536];
};

struct control_listener {
	uv_tcp_t tcp;
	struct control_options opts;
	char token[CONTROL_TOKEN_MAX];
	char expect_token[CONTROL_TOKEN_MAX];
	unsigned conns;
	bool closed;
};

/* A connection with nothing open yet but its timer; null without memory. */
struct control_conn *conn_new(const struct control_options *opts);
/* The stream is connected: sends our hello, starts reading and the hello's deadline. */
int conn_begin(struct control_conn *conn);
/* Closes the handles now; on_closed follows. The first reason given stays. */
void conn_end(struct control_conn *conn, int err, const char *why);
/* A connection of the listener is gone. */
void listener_conn_gone(struct control_listener *listener);

#endif
