/* SPDX-License-Identifier: Apache-2.0 */
/* What uv_conn.c and uv_listen.c share; nobody else includes this. */
#ifndef CONTROL_UV_INTERNAL_H
#define CONTROL_UV_INTERNAL_H

#include "control/tls.h"

/* Read at a time before and after the peer's hello. */
#define STRANGER_READ_BYTES 1024u
#define READ_BYTES	    65536u

enum conn_state {
	CONN_CONNECTING, /* name look-up or TCP connect under way; what is sent waits in early */
	CONN_HELLO,	 /* our hello is on its way, the peer's has not come */
	CONN_OPEN,
	CONN_FLUSHING, /* our side has ended: sending the rest, waiting for the peer's end */
	CONN_CLOSING,  /* handles are being closed */
};

struct control_conn {
	const struct control_ops *ops;
	void *user;
	struct control_listener *listener; /* null unless accepted */
	struct sockaddr_storage source;	   /* of an accepted one */
	bool known;			   /* to the listener */
	enum conn_state state;
	union {
		uv_tcp_t tcp;
		uv_pipe_t pipe;
		uv_stream_t stream;
		uv_handle_t handle;
	} h;
	uv_timer_t timer; /* the deadline of the state: hello or flush */
	uv_connect_t connect_req;
	/* Of a name: its look-up, its addresses and the one that is tried. */
	uv_getaddrinfo_t resolve_req;
	struct addrinfo *addrs, *addr;
	bool reopening; /* h is closed and made again for the next address */
	struct conn_write *early, **early_end;
	uv_shutdown_t shutdown_req;
	unsigned handles_open; /* of h, timer and the look-up */
	struct control_decoder dec;
	struct tls_stream *stream; /* null: plaintext */
	bool heard;		   /* bytes have come */
	bool over_tcp;
	enum control_role peer_role; /* once its hello was good */
	size_t queued_bytes;
	bool ended;	   /* the peer closed its side in good order */
	bool write_failed; /* nothing more can be sent; what the peer said is still read */
	enum control_role role;
	char token[CONTROL_TOKEN_MAX];
	char expect_token[CONTROL_TOKEN_MAX];
	bool has_expect;
	int err;
	char why[CONTROL_WHY_MAX];
	/* A stranger has a small buffer: CONTROL_CONNS_MAX of them shall cost little. */
	char *read_buf;
	size_t read_room;
	char stranger_buf[STRANGER_READ_BYTES];
};

struct control_listener {
	uv_tcp_t tcp;
	struct control_options opts;
	char token[CONTROL_TOKEN_MAX];
	char expect_token[CONTROL_TOKEN_MAX];
	unsigned conns; /* all that are not yet freed */
	unsigned known; /* whose peers said a good hello */
	unsigned strangers;
	struct control_conn *stranger[CONTROL_STRANGERS_MAX]; /* the oldest first */
	unsigned refused[PKI_VERDICTS];
	bool closed;
};

/* A connection with nothing open yet but its timer; null without memory. */
struct control_conn *conn_new(const struct control_options *opts);
/* The stream is connected: sends our hello, starts reading and the hello's deadline. */
int conn_begin(struct control_conn *conn);
/* Closes the handles now; on_closed follows. The first reason given stays. */
void conn_end(struct control_conn *conn, int err, const char *why);
/* Ends our side in good order: what is queued goes first, the peer's end is waited for. */
void conn_flush(struct control_conn *conn, int err, const char *why);
/* Plain bytes of the peer. */
void conn_take(struct control_conn *conn, const void *data, size_t len);
/* The peer has closed its side (UV_EOF), or an error. */
void conn_stream_ended(struct control_conn *conn, int status);
/* Sends bytes as they are; they are the connection's to free. len counts as queued. 0 or -errno. */
int conn_raw_send(struct control_conn *conn, uint8_t *data, size_t len);
/* Sends what has waited for the connection (and its handshake). 0 or -errno. */
int conn_early_send(struct control_conn *conn);

/* ---- uv_tls.c; of connections with a stream ---- */
/* Bytes from the network. */
void conn_tls_take(struct control_conn *conn, const uint8_t *data, size_t len);
/* Begins the handshake of a client. 0 or -errno. */
int conn_tls_begin(struct control_conn *conn);
/* Encrypts a frame and sends it. 0 or -errno. */
int conn_tls_send(struct control_conn *conn, const uint8_t *frame, size_t len);
/* Tells the peer that our side ends. */
void conn_tls_end(struct control_conn *conn);

/* Counts a refusal by the listener, if it is one of its connections, and logs it. */
void listener_refusal_note(struct control_conn *conn, enum pki_verdict verdict, const char *why);
/* The peer of a connection of the listener has said a good hello. */
void listener_conn_known(struct control_listener *listener, struct control_conn *conn);
/* A connection of the listener is gone. */
void listener_conn_gone(struct control_listener *listener, struct control_conn *conn);

#endif
