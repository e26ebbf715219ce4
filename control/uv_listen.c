/* SPDX-License-Identifier: Apache-2.0 */
/* Accepting control connections on a TCP port. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "control/uv_internal.h"

/* Of a kind; after so many only each power of two has a line: nobody fills the disk from outside. */
#define REFUSALS_LOGGED 32u

static void listener_free(struct control_listener *listener)
{
	if (listener->closed && listener->conns == 0)
		free(listener);
}

static void listener_closed(uv_handle_t *handle)
{
	struct control_listener *listener = handle->data;

	listener->closed = true;
	listener_free(listener);
}

/* Takes it out of the strangers, if it is one. */
static void stranger_remove(struct control_listener *listener, const struct control_conn *conn)
{
	for (unsigned i = 0; i < listener->strangers; i++) {
		if (listener->stranger[i] != conn)
			continue;
		listener->strangers--;
		memmove(&listener->stranger[i], &listener->stranger[i + 1],
			(listener->strangers - i) * sizeof(listener->stranger[0]));
		return;
	}
}

static bool source_same(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a,
				  *b6 = (const struct sockaddr_in6 *)b;
	const struct sockaddr_in *a4 = (const struct sockaddr_in *)a,
				 *b4 = (const struct sockaddr_in *)b;

	if (a->ss_family != b->ss_family)
		return false;
	if (a->ss_family == AF_INET6)
		return memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr)) == 0;
	return a4->sin_addr.s_addr == b4->sin_addr.s_addr;
}

/* Makes room for one more stranger: of the same address if that has too many, else of any. */
static void stranger_room(struct control_listener *listener, const struct sockaddr_storage *source)
{
	struct control_conn *oldest = NULL;
	unsigned same = 0;

	for (unsigned i = 0; i < listener->strangers; i++) {
		if (!source_same(&listener->stranger[i]->source, source))
			continue;
		if (same++ == 0)
			oldest = listener->stranger[i];
	}
	if (same < CONTROL_STRANGERS_SOURCE_MAX)
		oldest =
			listener->strangers == CONTROL_STRANGERS_MAX ? listener->stranger[0] : NULL;
	if (!oldest)
		return;
	stranger_remove(listener, oldest);
	conn_end(oldest, -ETIMEDOUT, "it said no hello, and others wait");
}

void listener_conn_known(struct control_listener *listener, struct control_conn *conn)
{
	stranger_remove(listener, conn);
	conn->known = true;
	listener->known++;
}

void listener_refusal_note(struct control_conn *conn, enum pki_verdict verdict, const char *why)
{
	struct control_listener *listener = conn->listener;
	char address[80], clean[CONTROL_WHY_MAX];
	unsigned count;

	if (!listener)
		return;
	count = ++listener->refused[verdict];
	if (count > REFUSALS_LOGGED && (count & (count - 1)) != 0)
		return;
	snprintf(clean, sizeof(clean), "%s", why);
	control_text_clean(clean);
	control_address_format((struct sockaddr *)&conn->source, address, sizeof(address));
	log_warn("refused %s: %s (peers %s: %u so far)", address, clean, pki_verdict_name(verdict),
		 count);
}

unsigned control_listener_refused(const struct control_listener *listener, enum pki_verdict verdict)
{
	return listener->refused[verdict];
}

void listener_conn_gone(struct control_listener *listener, struct control_conn *conn)
{
	stranger_remove(listener, conn);
	listener->known -= conn->known;
	listener->conns--;
	listener_free(listener);
}

static void surplus_closed(uv_handle_t *handle)
{
	free(handle);
}

/* Too many, or no memory: takes the connection off the backlog and closes it. */
static void surplus_drop(struct control_listener *listener)
{
	uv_tcp_t *tcp = calloc(1, sizeof(*tcp));

	if (!tcp)
		return;
	uv_tcp_init(listener->opts.loop, tcp);
	uv_accept((uv_stream_t *)&listener->tcp, (uv_stream_t *)tcp);
	uv_close((uv_handle_t *)tcp, surplus_closed);
}

static void hello_answer(struct control_conn *conn)
{
	int err = conn_begin(conn);

	if (!err)
		err = control_sendf(conn, "{s:s, s:s, s:i, s:s, s:s}", "type", "hello", "magic",
				    CONTROL_MAGIC, "version", CONTROL_VERSION, "role",
				    control_role_name(conn->role), "token", conn->token);
	if (err)
		conn_end(conn, err, error_text(err));
}

static void connection_came(uv_stream_t *stream, int status)
{
	struct control_listener *listener = stream->data;
	struct control_conn *conn;
	int err;

	if (status < 0) {
		log_warn("cannot accept a control connection: %s", error_text(status));
		return;
	}
	conn = listener->known < CONTROL_CONNS_MAX ? conn_new(&listener->opts) : NULL;
	if (!conn) {
		log_warn("too many control connections: one was closed");
		surplus_drop(listener);
		return;
	}
	conn->listener = listener;
	listener->conns++;
	uv_tcp_init(listener->opts.loop, &conn->h.tcp);
	conn->over_tcp = true;
	conn->h.handle.data = conn;
	err = uv_accept(stream, &conn->h.stream);
	if (err) {
		conn_end(conn, err, error_text(err));
		return;
	}
	int len = sizeof(conn->source);
	uv_tcp_getpeername(&conn->h.tcp, (struct sockaddr *)&conn->source, &len);
	stranger_room(listener, &conn->source);
	listener->stranger[listener->strangers++] = conn;
	uv_tcp_nodelay(&conn->h.tcp, 1);
	uv_tcp_keepalive(&conn->h.tcp, 1, 30);
	hello_answer(conn);
}

static struct control_listener *listener_new(const struct control_options *opts)
{
	struct control_listener *listener = calloc(1, sizeof(*listener));

	if (!listener)
		return NULL;
	listener->opts = *opts;
	if (opts->token) {
		snprintf(listener->token, sizeof(listener->token), "%s", opts->token);
		listener->opts.token = listener->token;
	}
	if (opts->expect_token) {
		snprintf(listener->expect_token, sizeof(listener->expect_token), "%s",
			 opts->expect_token);
		listener->opts.expect_token = listener->expect_token;
	}
	uv_tcp_init(opts->loop, &listener->tcp);
	listener->tcp.data = listener;
	return listener;
}

static int port_get(const struct control_listener *listener, unsigned *port)
{
	struct sockaddr_storage addr;
	int len = sizeof(addr);
	int err = uv_tcp_getsockname(&listener->tcp, (struct sockaddr *)&addr, &len);

	if (err)
		return err;
	if (addr.ss_family == AF_INET6)
		*port = ntohs(((struct sockaddr_in6 *)&addr)->sin6_port);
	else
		*port = ntohs(((struct sockaddr_in *)&addr)->sin_port);
	return 0;
}

int control_listen(const struct control_options *opts, const char *address,
		   struct control_listener **out, unsigned *port)
{
	struct sockaddr_storage addr;
	struct control_listener *listener;
	int err;

	err = control_address_resolve(address, &addr);
	if (err)
		return err;
	listener = listener_new(opts);
	if (!listener)
		return -ENOMEM;
	err = uv_tcp_bind(&listener->tcp, (struct sockaddr *)&addr, 0);
	if (!err)
		err = uv_listen((uv_stream_t *)&listener->tcp, 64, connection_came);
	if (!err && port)
		err = port_get(listener, port);
	if (err) {
		control_listener_close(listener);
		return err;
	}
	*out = listener;
	return 0;
}

void control_listener_close(struct control_listener *listener)
{
	uv_close((uv_handle_t *)&listener->tcp, listener_closed);
}
