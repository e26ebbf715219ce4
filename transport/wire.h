/* SPDX-License-Identifier: Apache-2.0 */
/* The wire format between slices: the hello, the message header, and their codecs. No I/O. */
#ifndef TRANSPORT_WIRE_H
#define TRANSPORT_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WIRE_MAGIC   UINT64_C(0x31304145474e4150) /* "PANGEA01", little-endian */
#define WIRE_VERSION 3u
/* Features that there are; both slices must have the same. */
#define WIRE_FEATURE_TLS 1u /* messages between hosts are encrypted: TCP is TLS 1.3 */
#define WIRE_FEATURES	 WIRE_FEATURE_TLS

/* A TLS key update: who has its records made by the kernel does not. */
#define WIRE_TAKES_KEY_UPDATE 1u
/* RDMA instead of this connection: who has no device for it, or shall not use it, does not. */
#define WIRE_TAKES_RDMA 2u
#define WIRE_TAKES	(WIRE_TAKES_KEY_UPDATE | WIRE_TAKES_RDMA)

#define WIRE_HELLO_SIZE	 64u
#define WIRE_NONCE_SIZE	 16u
#define WIRE_HEADER_SIZE 32u
/* Pages that one message may be for (arg). */
#define WIRE_RUN_MAX 128u
/* One page is the only payload that coherence sends; no message is longer. */
#define WIRE_PAYLOAD_MAX 4096u

/*
 * Message types. The coherence messages (1..31) are those of docs/protocol.md; the machine
 * messages (64..) carry what the slices of one VM say to each other outside of memory, and the
 * transport and the DSM hand them on unread.
 */
#define WIRE_COHERENCE_TABLE(X)                                                                    \
	X(MSG_GET_S, 1)                                                                            \
	X(MSG_GET_M, 2)                                                                            \
	X(MSG_FWD_S, 3)                                                                            \
	X(MSG_FWD_M, 4)                                                                            \
	X(MSG_INV, 5)                                                                              \
	X(MSG_ACK, 6)                                                                              \
	X(MSG_DATA, 7)                                                                             \
	X(MSG_GRANT, 8)                                                                            \
	X(MSG_WB, 9)                                                                               \
	X(MSG_DONE, 10)                                                                            \
	X(MSG_PUT_M, 11)                                                                           \
	X(MSG_PUT_S, 12)                                                                           \
	X(MSG_PUT_ACK, 13)

#define X(name, value) name = (value),
enum wire_type {
	WIRE_COHERENCE_TABLE(X) MSG_COHERENCE_END,
	MSG_MACHINE_FIRST = 64
};
#undef X

/* Flags of a coherence message. */
#define MSG_FLAG_ZERO	   0x01u /* DATA, WB, PUT_M: the page is all zeroes and is not sent */
#define MSG_FLAG_EXCLUSIVE 0x02u /* DATA: state M is granted (else S) */

/*
 * One message. On the wire it is WIRE_HEADER_SIZE bytes, little-endian, at the offsets given,
 * then payload_len bytes. Machine messages use gfn and arg as two free words.
 */
struct wire_msg {
	uint8_t type;	    /*  0: enum wire_type */
	uint8_t flags;	    /*  1: MSG_FLAG_... */
	uint16_t requester; /*  2: slice that the transaction is for */
	uint32_t epoch;	    /*  4: VM membership epoch */
	uint64_t gfn;	    /*  8: guest frame number, or free (machine messages) */
	uint64_t arg;	    /* 16: free; coherence messages: pages behind gfn that it is for, too */
	uint16_t acks;	    /* 24: DATA, GRANT: number of ACKs to expect */
	uint16_t reserved;  /* 26: 0 */
	uint32_t payload_len; /* 28: 0 or up to WIRE_PAYLOAD_MAX */
};

/*
 * The first bytes on a data connection, each way, inside of TLS where there is TLS; the layout is
 * that of the fields, packed. Nothing in it is secret, and nothing is believed until the other side
 * has proved that it has the pair's key: by TLS, or by a proof over both hellos (proof.h).
 */
struct wire_hello {
	uint64_t magic;			/*  0 */
	uint32_t version;		/*  8 */
	uint32_t features;		/* 12 */
	uint64_t vm;			/* 16: the VM's incarnation */
	uint32_t epoch;			/* 24 */
	uint16_t slice;			/* 28: sender's slice index */
	uint16_t slices;		/* 30: number of slices in the VM */
	uint64_t ram_end;		/* 32: one past the last guest physical address of RAM */
	uint32_t takes;			/* 40: WIRE_TAKES_..., what its sender takes */
	uint32_t reserved;		/* 44: 0 */
	uint8_t nonce[WIRE_NONCE_SIZE]; /* 48: random, of this connection and side alone */
};

/*
 * May this coherence message be one for several pages in a row: a request, or the answer that they
 * are zero? Nobody else takes part in these, and they carry nothing.
 */
bool wire_msg_runs(const struct wire_msg *msg);

/* Writes WIRE_HEADER_SIZE bytes to buf. */
void wire_msg_encode(const struct wire_msg *msg, uint8_t *buf);
/*
 * Reads a header from len bytes at buf. Returns 0; -EAGAIN if len < WIRE_HEADER_SIZE;
 * -PANGEA_EWIRELEN if payload_len is beyond the limit; -PANGEA_EWIRE for an unknown type, a
 * reserved bit or field that is set, a run that may be none or is too long, or a payload that the
 * type may not carry (a coherence message carries either none or exactly one page, and only DATA,
 * WB and PUT_M carry one).
 */
int wire_msg_decode(const uint8_t *buf, size_t len, struct wire_msg *msg);

/* Writes WIRE_HELLO_SIZE bytes to buf. */
void wire_hello_encode(const struct wire_hello *hello, uint8_t *buf);
/*
 * Reads a hello. Returns 0; -EAGAIN if len is short (but -PANGEA_EPEERMAGIC as soon as a byte of
 * the magic differs, and -PANGEA_EPEERVERSION as soon as the version has come: hellos of other
 * versions have other lengths); -PANGEA_EPEERMAGIC, -PANGEA_EPEERVERSION, -PANGEA_EPEERFEATURES (one
 * that this version does not know); -PANGEA_EWIRE for a reserved field that is set.
 */
int wire_hello_decode(const uint8_t *buf, size_t len, struct wire_hello *hello);

/* "GET_S", ...; "MACHINE" for machine types; "?" else. Static storage. */
const char *wire_type_name(unsigned type);

#endif
