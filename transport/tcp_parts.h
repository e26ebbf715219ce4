/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the TCP transport share: peers, connections, and who calls whom. */
#ifndef TRANSPORT_TCP_PARTS_H
#define TRANSPORT_TCP_PARTS_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "transport/transport.h"

/* Messages that may wait for one peer's socket: with copied payloads 16 MiB, and far beyond what
 * the protocol can have outstanding, so a full queue means a peer that no longer reads. */
#define TCP_QUEUE_MAX 4096u
/* Bytes read at once where headers are expected: 16 control messages; at most this much of a page
 * is copied instead of received in place. */
#define TCP_STAGE_SIZE 512u
/* Reads of one connection before the loop looks at the others again. */
#define TCP_READS_PER_TURN 16
/* Queue entries that one system call sends. */
#define TCP_SEND_BATCH 16
/* Connections that were accepted and have not said who they are; beyond it the oldest goes. */
#define TCP_STRANGERS_MAX 80
/* A refused connect is tried again after this long. */
#define TCP_RETRY_MS 20

#define TCP_WHY_MAX 256

enum peer_state {
	PEER_UNUSED,  /* ourselves, or connect was not called */
	PEER_WAITING, /* no connection yet: to be tried again, or to be accepted */
	PEER_OPENING, /* a connection is being made, or its hello is awaited */
	PEER_UP,
	PEER_LOST, /* on_lost was called, or will be when its connection's handle has closed */
};

enum conn_state {
	CONN_CONNECTING, /* ours: connect() is under way */
	CONN_HELLO,	 /* the peer's hello is awaited */
	CONN_UP,
	CONN_CLOSING, /* the handle is closing; nothing is read or written any more */
};

/* A message that waits for the socket. */
struct send_entry {
	uint8_t header[WIRE_HEADER_SIZE];
	const uint8_t *payload;
	uint8_t *copy; /* payload, when it is ours to free */
	uint32_t payload_len;
	uint32_t sent; /* bytes of header and payload that are gone */
};

struct send_queue {
	struct send_entry *ring; /* TCP_QUEUE_MAX entries, made when first needed */
	unsigned head, count;
};

/* The receiving side of a connection. */
struct receiver {
	uint8_t stage[TCP_STAGE_SIZE];
	unsigned have;	      /* bytes in stage */
	struct wire_msg msg;  /* whose payload is being received, if payload is set */
	uint8_t *payload;     /* from payload_buffer */
	uint32_t payload_got; /* bytes of it that have arrived */
};

struct tcp;

struct conn {
	struct tcp *tcp;
	uv_poll_t poll;
	int fd;
	enum conn_state state;
	int events;    /* what poll waits for */
	unsigned peer; /* SLICES_MAX: not known yet */
	bool accepted; /* the other side made it */
	char from[64]; /* the other side's "host:port" */
	uint8_t hello[WIRE_HELLO_SIZE];
	unsigned hello_have;
	struct receiver rx;
	struct send_queue tx;
	int err;	/* why it closes */
	bool transient; /* the reason may go away: try again until the deadline */
	char why[TCP_WHY_MAX];
	struct conn *next; /* tcp->conns */
};

struct tcp_peer {
	enum peer_state state;
	struct conn *conn;
	struct sockaddr_storage address;
	socklen_t address_len;
	char name[64]; /* "host:port" */
	int err;       /* the last failure, for the deadline's sentence */
	char why[TCP_WHY_MAX];
};

struct tcp {
	struct transport transport;
	struct transport_config config;
	struct transport_stats stats;
	int listen_fd;
	uv_poll_t listen_poll;
	uv_timer_t retry_timer, deadline_timer;
	unsigned handles;	   /* open or closing; the memory goes with the last */
	bool connecting;	   /* connect was called */
	bool listener_closing;	   /* the listening handle is closing or closed */
	bool accept_paused;	   /* no descriptors were left: the retry timer starts it again */
	bool closed;		   /* the owner closed the transport */
	unsigned strangers;	   /* accepted connections that have not said who they are */
	char refused[TCP_WHY_MAX]; /* why the last stranger was refused, for the deadline's sentence
				    */
	struct conn *conns;	   /* newest first */
	struct tcp_peer peers[SLICES_MAX];
};

/* tcp_conn.c */
/* Wraps a connected or connecting socket (taken over, also on failure). NULL: no memory. */
struct conn *conn_create(struct tcp *tcp, int fd, bool accepted, unsigned peer);
/*
 * Begins the close; on_lost (or, if transient, another attempt) follows from the loop when the
 * connection is its peer's. The first reason counts.
 */
void conn_close(struct conn *conn, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same for a reason that may go away until the deadline. */
void conn_close_transient(struct conn *conn, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Waits for these events (UV_READABLE, UV_WRITABLE). */
void conn_watch(struct conn *conn, int events);
/* Counts one handle of tcp less, and frees it with the last. */
void tcp_handle_closed(struct tcp *tcp);
/* "host:port" of a socket address. */
void address_print(const struct sockaddr_storage *address, char *out, size_t size);

/* tcp_hello.c */
/* Sends our hello and waits for the other side's. */
void hello_begin(struct conn *conn);
/* Reads what there is of the hello; at its end the peer is up or refused. */
void hello_receive(struct conn *conn);

/* tcp_send.c */
int conn_send(struct conn *conn, const struct wire_msg *msg, const void *payload,
	      bool copy_payload);
/* Sends what waits, as far as the socket takes it. */
void conn_flush(struct conn *conn);
void send_queue_free(struct send_queue *queue);

/* tcp_receive.c */
/* Reads and hands on messages until the socket is empty or this turn is over. */
void conn_receive(struct conn *conn);

/* tcp_connect.c */
int tcp_connect(struct transport *t, const char *const *addresses);
/* A connection's handle has closed: try again, or tell the owner. */
void peer_conn_closed(struct conn *conn);
/* The peer's hello was right: it is up. */
void peer_up(struct conn *conn);

/* tcp_listen.c */
int tcp_listen(struct tcp *tcp, const char *host, unsigned port, unsigned *port_out);
/* Begins to accept; called again after it was paused for want of descriptors. */
void tcp_accept_start(struct tcp *tcp);
/* Stops listening and closes the connections that have not said who they are. */
void tcp_listener_close(struct tcp *tcp);

#endif
