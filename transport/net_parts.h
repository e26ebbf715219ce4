/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the transport between processes share: peers, connections, and who calls whom. */
#ifndef TRANSPORT_NET_PARTS_H
#define TRANSPORT_NET_PARTS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>

#include "transport/proof.h"
#include "transport/rdma_link.h"
#include "transport/shm_link.h"
#include "transport/tls_link.h"
#include "transport/transport.h"

/* Messages that may wait for one peer's socket or ring: with copied payloads 16 MiB, and far beyond what
 * the protocol can have outstanding, so a full queue means a peer that no longer reads. */
#define NET_QUEUE_MAX 4096u
/* Bytes read at once where headers are expected: 16 control messages; at most this much of a page
 * is copied instead of received in place. */
#define TCP_STAGE_SIZE 512u
/* Reads of one connection before the loop looks at the others again. */
#define TCP_READS_PER_TURN 16
/* Queue entries that one system call sends. */
#define TCP_SEND_BATCH 16
/* Connections that were accepted and have not said who they are; beyond it the oldest goes. */
#define NET_STRANGERS_MAX 80
/* A refused connect is tried again after this long. */
#define NET_RETRY_MS 20
/* A caller has so long to say and prove who it is. */
#define NET_STRANGER_MS 5000u

#define NET_WHY_MAX 256
/* "host:port", or the name of a local socket. */
#define NET_NAME_MAX 96

enum peer_state {
	PEER_UNUSED,  /* ourselves, or connect was not called */
	PEER_WAITING, /* no connection yet: to be tried again, or to be accepted */
	PEER_OPENING, /* a connection is being made, or its hello is awaited */
	PEER_UP,
	PEER_LOST, /* on_lost was called, or will be when its connection's handle has closed */
};

enum conn_state {
	CONN_CONNECTING, /* ours: connect() is under way */
	CONN_TLS,	 /* the TLS handshake is under way, or the first bytes of one are awaited */
	CONN_HELLO,	 /* the peer's hello is awaited */
	CONN_PROOF,	 /* no TLS: the peer's proof that it has the pair's key is awaited */
	CONN_MAPPING,	 /* the peer was sent shared memory, and has not said that it has it */
	CONN_RDMA,	 /* proven; whether RDMA takes its place is being tried (rdma_meet.c) */
	CONN_UP,
	CONN_CLOSING, /* the handle is closing, or will when what RDMA sent has arrived */
};

/* A message that waits for the socket, the ring, or credits. */
struct send_entry {
	uint8_t header[WIRE_HEADER_SIZE];
	const uint8_t *payload;
	uint8_t *copy; /* payload, when it is ours to free */
	uint32_t payload_len;
	uint32_t sent; /* bytes of header and payload that are gone; a ring takes all or nothing */
};

struct send_queue {
	struct send_entry *ring; /* NET_QUEUE_MAX entries, made when first needed */
	unsigned head, count;
};

/* The receiving side of a TCP connection. */
struct receiver {
	uint8_t stage[TCP_STAGE_SIZE];
	unsigned have;	      /* bytes in stage */
	struct wire_msg msg;  /* whose payload is being received, if payload is set */
	uint8_t *payload;     /* from payload_buffer */
	uint32_t payload_got; /* bytes of it that have arrived */
};

struct net;

struct conn {
	struct net *net;
	uv_poll_t poll;
	int fd;
	enum conn_state state;
	int events;		 /* what poll waits for */
	unsigned peer;		 /* SLICES_MAX: not known yet */
	bool accepted;		 /* the other side made it */
	bool local;		 /* over a local socket, to share memory */
	bool was_up;		 /* before it closed */
	char from[NET_NAME_MAX]; /* the other side's name */
	uint64_t since_ms;	 /* loop time of its making */
	bool encrypted;		 /* by TLS, here or in the kernel */
	struct tls_link *tls;	 /* NULL: no TLS, not yet, or it is the kernel's by now */
	unsigned claimed;	 /* accepted, by TLS: the slice whose key the caller has */
	uint8_t hello[WIRE_HELLO_SIZE], sent[WIRE_HELLO_SIZE]; /* the other side's, and ours */
	unsigned hello_have;
	uint8_t proof[PROOF_SIZE]; /* the other side's */
	unsigned proof_have;
	int memory_fd;		/* came with the proof; -1: none */
	struct shm_link *shm;	/* NULL: not shared memory, or not there yet */
	struct rdma_link *rdma; /* NULL: not RDMA; it is tried, or it carries the messages */
	struct receiver rx;
	struct send_queue tx;
	int err;	/* why it closes */
	bool transient; /* the reason may go away: try again until the deadline */
	char why[NET_WHY_MAX];
	struct conn *next; /* net->conns */
};

struct net_peer {
	enum peer_state state;
	struct conn *conn;
	struct sockaddr_storage address;
	socklen_t address_len;
	char name[NET_NAME_MAX];     /* "host:port" */
	bool local_failed;	     /* shared memory was tried, and is not tried again */
	char local_why[NET_WHY_MAX]; /* why it is not by shared memory, as far as is known */
	char rdma_why[NET_WHY_MAX];  /* the same of RDMA */
	char why[NET_WHY_MAX];	     /* the last failure, for the deadline's sentence */
};

/* A socket that peers call. */
struct listener {
	struct net *net;
	uv_poll_t poll;
	int fd;
	bool local;
	bool open; /* its handle is neither closing nor closed */
};

struct net {
	struct transport transport;
	struct transport_config config;
	struct transport_stats stats;
	struct pair_keys *keys;	      /* in memory of its own; NULL once nobody is awaited */
	struct tls_context *tls;      /* NULL: without encryption */
	struct listener listeners[2]; /* TCP, and local */
	uv_timer_t retry_timer, deadline_timer;
	unsigned handles;	   /* open or closing; the memory goes with the last */
	bool connecting;	   /* connect was called */
	bool listeners_closed;	   /* or closing */
	bool accept_paused;	   /* no descriptors were left: the retry timer starts it again */
	bool closed;		   /* the owner closed the transport */
	unsigned strangers;	   /* accepted connections that have not said who they are */
	char refused[NET_WHY_MAX]; /* why the last stranger was refused, for the deadline's sentence
				    */
	struct conn *conns;	   /* newest first */
	bool shm_started;	   /* the next four exist (shm_loop.c) */
	uv_prepare_t shm_prepare;
	uv_check_t shm_check;
	uv_idle_t shm_again;
	uv_timer_t shm_silence;
	struct rdma_net *rdma;	    /* NULL: none is used */
	char rdma_why[NET_WHY_MAX]; /* why not, if it was wished for */
	struct net_peer peers[SLICES_MAX];
};

/* net_conn.c */
/* Wraps a connected or connecting socket (taken over, also on failure). NULL: no memory. */
struct conn *conn_create(struct net *net, int fd, bool local, bool accepted, unsigned peer);
/*
 * Begins the close; on_lost (or, if transient, another attempt) follows from the loop when the
 * connection is its peer's. The first reason counts.
 */
void conn_close(struct conn *conn, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* The same for a reason that may go away until the deadline. */
void conn_close_transient(struct conn *conn, int err, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* What carries its messages. */
enum link_kind conn_link(const struct conn *conn);
/* Messages may go: counts the link. */
void conn_up(struct conn *conn);
/* Closes the handle of a connection that is closing already: what RDMA sent has arrived. */
void conn_handle_close(struct conn *conn);
/* Waits for these events (UV_READABLE, UV_WRITABLE). */
void conn_watch(struct conn *conn, int events);
/* Counts one handle of net less, and frees it with the last. */
void net_handle_closed(struct net *net);
/* "host:port" of a socket address. */
void address_print(const struct sockaddr_storage *address, char *out, size_t size);

/* net_keys.c */
/* Copies the keys to where no core dump has them. NULL: no memory. */
struct pair_keys *net_keys_keep(const struct pair_keys *keys);
/* Overwrites and frees them. */
void net_keys_forget(struct net *net);

/* net_tls.c: the way to an encrypted connection. */
/* A call of ours has reached somebody: begins the handshake, or says why it closes. */
void tls_begin(struct conn *conn);
/* CONN_TLS: goes on with the handshake; at its end hellos are exchanged. */
void tls_event(struct conn *conn);

/* net_hello.c */
/* Sends our hello and waits for the other side's. */
void hello_begin(struct conn *conn);
/* Reads what there is of the hello; at its end the peer is up, refused, or to prove who it is. */
void hello_receive(struct conn *conn);
/* The caller has the key of the slice that its hello names: it is up, or refused. */
void caller_proven(struct conn *conn);
/*
 * Closes, for it is not to be trusted: a caller's refusal is logged and counted. One that we called was
 * meant to be our peer, so this is its loss; of one that called us we know nothing before its
 * proof, and the peer that should have come is awaited further.
 */
void conn_refuse(struct conn *conn, int err, const char *why);
/* Counts a caller that is sent away, and logs it unless there are very many. */
void refusal_count(struct net *net, const char *from, const char *why);
/* Sends all of these few bytes, or fails. */
int conn_say(struct conn *conn, const void *bytes, size_t len);
/* Reads, with what carries the connection: how much; 0: the end; or a negative errno. */
ssize_t conn_hear(struct conn *conn, void *to, size_t room);

/* net_proof.c */
/* Our proof, of the hellos that were exchanged. */
void conn_prove(const struct conn *conn, uint8_t out[PROOF_SIZE]);
int proof_send(struct conn *conn);
/* CONN_PROOF: reads what there is; at its end the peer is up or refused. */
void proof_receive(struct conn *conn);

/* net_local.c: the way to shared memory. */
/* The name of the local socket beside this TCP address; returns the address's length. */
socklen_t local_address(const struct sockaddr_storage *tcp, struct sockaddr_un *out);
/* Calls the slice's local socket. A connected socket, or -1 and the sentence in why. */
int local_call(const struct net_peer *peer, char *why, size_t size);
/* Sends our proof and new memory to share, and awaits the word that it is mapped. */
void local_offer(struct conn *conn);
/* As recv, and takes the memory that came along. */
ssize_t local_receive(struct conn *conn, void *buf, size_t len);
/* The proof was right: maps the memory, says so, and the peer is up. */
void local_take(struct conn *conn);
/* CONN_MAPPING: reads the word. */
void local_mapped(struct conn *conn);

/* net_send.c */
int conn_send(struct conn *conn, const struct wire_msg *msg, const void *payload,
	      bool copy_payload);
/* The oldest message has gone. */
void send_queue_pop(struct send_queue *queue);
void send_queue_free(struct send_queue *queue);

/* net_deliver.c: what any carrier does with what it has got. */
/* A copy of a header: decodes it. False: the connection closes. */
bool header_decode(struct conn *conn, const uint8_t *bytes, struct wire_msg *msg);
/* Hands a whole message to the owner. */
void message_deliver(struct conn *conn, const struct wire_msg *msg, void *payload);
void message_refused(struct conn *conn, const struct wire_msg *msg, int err);

/* tcp_send.c */
/* Writes a message to the socket: how much of it went (0: it is full); negative: it closes. */
ssize_t tcp_write(struct conn *conn, const uint8_t *header, const void *payload,
		  uint32_t payload_len);
/* Sends what waits, as far as the socket takes it. */
void tcp_flush(struct conn *conn);

/* tcp_receive.c */
/* Reads and hands on messages until the socket is empty or this turn is over. */
void tcp_receive(struct conn *conn);

/* net_connect.c */
int net_connect(struct transport *t, const char *const *addresses);
/* A connection's handle has closed: try again, or tell the owner. */
void peer_conn_closed(struct conn *conn);
/* The peer is who it should be: RDMA is tried, or it is up. */
void peer_proven(struct conn *conn);
/* It is up. */
void peer_up(struct conn *conn);

/* net_listen.c */
int net_listen(struct net *net, const char *host, unsigned port, unsigned *port_out);
/* Begins to accept; called again after it was paused for want of descriptors. */
void net_accept_start(struct net *net);
/* Closes the connections of callers that have taken too long to say who they are. */
void net_strangers_tick(struct net *net);
/* Stops listening and closes the connections that have not said who they are. */
void net_listeners_close(struct net *net);

#endif
