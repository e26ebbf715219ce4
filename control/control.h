/* SPDX-License-Identifier: Apache-2.0 */
/* The control protocol: what coordinator, daemons, slices and CLI say to each other, and how. */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include <jansson.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/limits.h"
#include "pki/pki.h"

/*
 * A frame: u32 json_len, u32 blob_len (little endian), json_len bytes of one JSON object with a
 * string "type", blob_len raw bytes (console bytes, a piece of a file). The first frame each way is
 *   {"type":"hello","magic":"pangea","version":1,"role":"node|cli|coordinator|vmm","token":TEXT}
 * A side that will not go on says {"type":"refused","reason":SENTENCE} and closes.
 */
/*
 * Connections are leases (docs/design.md, "Control: leases, grace and incarnations"). Messages about
 * a VM or its slices carry its "incarnation", 16 hexadecimal digits. Those that make links again:
 *   register      node -> coordinator  its incarnation, "vms": records, "slices": the inventory,
 *                                      each {vm, incarnation, slice, vcpus, mem_bytes, reports}
 *   registered    coordinator -> node  the coordinator's incarnation
 *   slice-forget  coordinator -> node  this slice's end was heard
 *   vm-record     coordinator -> node  the VM's record has changed
 *   console-from  coordinator -> node  send the console from "offset" on
 *   attach        cli -> coordinator   vm, incarnation, owner (its token), console, console_bytes
 *   attached      coordinator -> cli   the VM's state; its owner is back
 *   leaving       node, cli -> coord.  it goes and does not come back
 * About the VM's devices (control/devices.h), which "run" and the record carry, and slice-start to slice 0's
 * node:
 *   run, files-begin    beside one whose devices have a seed travels what it contains
 *   slice-devices node -> coordinator  "ended": of which the back end has ended, {id, how}; all of them
 *   vm-warning    coordinator -> cli   a sentence: the VM goes on, but not all of it works
 */
/*
 * About VMs as such, of a client by their name, whether they run or have ended:
 *   run           "detached": it has no owner once its kernel has arrived; "on_reboot", "on_crash": restart or end,
 *                 of such a one; "rm": it is not listed when it has ended
 *                 "placement": spread or pack; "overcommit": of CPUs
 *   vms           "all": those that have ended, too
 *   inspect       vm-inspected: "vm", all that is known of it
 *   logs          log: a piece of its console's log from "offset" on, as a blob; "lost" bytes before it are not there
 *                 any more, "end" is the log's, and "live" says that more may come
 *   rm            vm-removed: one that has ended is off the list
 * A vm-ended with "restarts" is followed by a new life of a detached VM.
 */
/*
 * Connections over TCP are TLS 1.3, and each side shows a certificate with its role and name (pki/pki.h),
 * unless both were started with --plaintext. roles.c has who may say what. About certificates:
 *   join          who has none -> coordinator  id and secret of a join token, name, csr
 *   joined        coordinator -> it            certificate, crl; then it comes back with them
 *   renew         node, cli -> coordinator     csr: a new key of the same role and name
 *   renewed       coordinator -> node, cli     certificate
 *   revocations   coordinator -> node          crl: the authority's list as it is now
 */
#define CONTROL_MAGIC	"pangea"
#define CONTROL_VERSION 1

/* The longest message is the list of VMs: 64 VMs of 64 slices at about 450 bytes each, and of 12
 * devices with 15 KiB together; next, the list of nodes: 128 reports of hosts at about 4 KiB. */
#define CONTROL_JSON_MAX (3u << 20)
/* A whole console ring (64 KiB) fits, and a piece of a file. */
#define CONTROL_BLOB_MAX (256u << 10)
/* One piece of an uploaded file, and what one upload may have on its way: enough to hide two hops. */
#define CONTROL_UPLOAD_PIECE  (64u << 10)
#define CONTROL_UPLOAD_WINDOW (3 * CONTROL_UPLOAD_PIECE)
/* Bytes waiting for a slow peer: the windows of as many uploads as there can be VMs (64), those of
 * all clients' console input, and then some. */
#define CONTROL_QUEUE_MAX (16u << 20)
/* Console output is dropped, not queued, for a peer that is this far behind. */
#define CONTROL_CONSOLE_QUEUE_MAX (1u << 20)
/* Connections one listener holds whose peers said a good hello; each may cost JSON_MAX + BLOB_MAX of
 * memory. */
#define CONTROL_CONNS_MAX 512
/* Connections it holds besides, of peers that have said none: all together, and of one address. For
 * a newcomer beyond it the one that has been silent for longest goes. */
#define CONTROL_STRANGERS_MAX	     64
#define CONTROL_STRANGERS_SOURCE_MAX 32
/* The longest hello, and so all that a stranger can make us keep. */
#define CONTROL_HELLO_MAX 4096u
/* A peer has this long to connect and say hello. */
#define CONTROL_HELLO_TIMEOUT_MS 5000
/* A link that was lost may be made again for this long, if no option says otherwise. */
#define CONTROL_GRACE_MS 60000
/* A slice that does not answer is shown after so long, and after so long its VM ends unless told
 * otherwise: generous, for a host whose CPUs all wait. */
#define CONTROL_WAIT_S	     3
#define CONTROL_DEADLINE_S   30
#define CONTROL_SILENT_MAX_S 86400
/* A closing connection has this long to send what is queued and see the peer's end. */
#define CONTROL_FLUSH_TIMEOUT_MS 2000
/* The longest sentence about an error, with its zero. */
#define CONTROL_WHY_MAX 384
/* The longest token (a shared secret), with its zero. */
#define CONTROL_TOKEN_MAX 129

enum control_role {
	CONTROL_ROLE_NODE,
	CONTROL_ROLE_CLI,
	CONTROL_ROLE_COORDINATOR,
	CONTROL_ROLE_VMM,
	CONTROL_ROLE_JOIN, /* it has no certificate yet */
};

/* ---- codec (codec.c): no I/O ---- */

#define CONTROL_HEAD_BYTES 8

/* Takes one frame: msg is an object with a string "type"; all is valid only during the call.
 * Returning false stops the decoder (control_decoder_feed returns 0 at once). */
typedef bool control_frame_fn(void *arg, json_t *msg, const uint8_t *blob, size_t len);

struct control_decoder {
	uint8_t head[CONTROL_HEAD_BYTES];
	size_t head_used;
	uint8_t *body; /* json_len + blob_len bytes while a frame's body is coming in */
	size_t body_used;
	uint32_t json_len, blob_len;
	uint32_t json_max, blob_max; /* limits; may be changed between frames */
};

/* With the limits CONTROL_JSON_MAX and CONTROL_BLOB_MAX. */
void control_decoder_init(struct control_decoder *dec);
void control_decoder_free(struct control_decoder *dec);
/*
 * Feeds bytes in pieces of any size; calls fn for each whole frame. Returns 0, -PANGEA_EWIRELEN (a
 * length beyond the limit), -PANGEA_ECONTROL (not a JSON object with a type) or -ENOMEM, with a
 * sentence in why (CONTROL_WHY_MAX bytes). After an error the decoder may only be freed.
 */
int control_decoder_feed(struct control_decoder *dec, const void *data, size_t len,
			 control_frame_fn *fn, void *arg, char *why);
/* The stream has ended: 0 between frames, else -PANGEA_ECONTROL and a sentence. */
int control_decoder_end(const struct control_decoder *dec, char *why);
/*
 * Encodes one frame into memory that control_frame_free frees. Errors: -EINVAL (msg is null, no object, or
 * cannot be written as JSON), -PANGEA_EWIRELEN, -ENOMEM.
 */
int control_frame_encode(const json_t *msg, const void *blob, size_t len, uint8_t **frame,
			 size_t *frame_len);
void control_frame_free(uint8_t *frame, size_t frame_len); /* and wipes it; it may be null */
/* From now on all JSON of this process is wiped when it is freed. Once, before there is any: for programs
 * through which keys of slices pass. */
void control_values_wipe(void);
/* Checks a hello: 0, -PANGEA_ECONTROL, -PANGEA_EPEERMAGIC, -PANGEA_EPEERVERSION, or -EACCES when
 * expect_token is not null and the token differs; the sentence is for both sides' users. */
int control_hello_check(const json_t *msg, const char *expect_token, enum control_role *role,
			char *why);
/* The name of a role in hello; static storage. */
const char *control_role_name(enum control_role role);

/* ---- fields of a message (fields.c) ----
 * Each returns 0, or -PANGEA_ECONTROL with a sentence in why that names the message and field.
 */
int control_get_string(const json_t *msg, const char *key, const char **out, char *why);
/* A name of a node or VM: see control_name_valid. */
int control_get_name(const json_t *msg, const char *key, const char **out, char *why);
int control_get_u64(const json_t *msg, const char *key, uint64_t min, uint64_t max, uint64_t *out,
		    char *why);
/* The same for what fits an unsigned. */
int control_get_uint(const json_t *msg, const char *key, unsigned min, unsigned max, unsigned *out,
		     char *why);
int control_get_bool(const json_t *msg, const char *key, bool *out, char *why);
/* An incarnation, key or token: 16 hexadecimal digits. */
int control_get_id(const json_t *msg, const char *key, uint64_t *out, char *why);
/* The same backwards; a new reference. */
json_t *control_id_json(uint64_t id);
/* An array of at most max entries; borrowed from msg. */
int control_get_array(const json_t *msg, const char *key, size_t max, json_t **out, char *why);
/* The message's type, "" if it has none. */
const char *control_type(const json_t *msg);
bool control_is(const json_t *msg, const char *type);

/* ---- a host's report (host_report.c), host/host.h ---- */

struct host_report;
/* Rates of time-stamp counters, beyond any processor's. */
#define CONTROL_TSC_HZ_MAX UINT64_C(10000000000)

/*
 * {"cpu":"kvm|soft" (what `auto` takes there), "vendor":"intel|amd|" (of a processor with VT-x or
 * SVM: whose CPU model its KVM can run), "tsc_hz":N (of KVM's guests; 0: unknown),
 * "tsc_scaling":BOOL, "features":{"kvm":MASK,"soft":MASK} (enum cpu_feature: what each engine can give a guest
 * there), "items":[{"name","matters","found","sentence","mend"}]}; a new reference,
 * null without memory.
 */
json_t *control_host_json(const struct host_report *report);
/* Takes a peer's report, msg's field "host": a new, bounded and clean copy. 0, -PANGEA_ECONTROL
 * with a sentence in why, or -ENOMEM. */
int control_host_check(const json_t *msg, json_t **out, char *why);

/* ---- words people write (text.c) ---- */

/* [a-z0-9-]{1,63}, not beginning with '-': safe in file names, tables and sentences. */
bool control_name_valid(const char *name);
/* This host's name as far as it is one of ours, else "node". */
void control_host_name(char name[NAME_MAX_LEN + 1]);
/* "4096", "512K", "512M", "1G", "2T" (also "MiB" etc.); 0, -EINVAL, or -ERANGE beyond 64 bits. */
int control_size_parse(const char *text, uint64_t *bytes);
/* "1 GiB", "1536 MiB", "4095 B": the largest unit that is exact. */
void control_size_format(uint64_t bytes, char *out, size_t size);
/* A decimal number within [min, max]; 0, -EINVAL or -ERANGE. */
int control_uint_parse(const char *text, unsigned min, unsigned max, unsigned *out);
/* "127.0.0.1:7420" or "[::1]:7420", numeric only; 0 or -EINVAL. */
int control_address_parse(const char *text, struct sockaddr_storage *out);
/* The longest host name, with its zero (as in the DNS). */
#define CONTROL_HOST_MAX 254
/* "host:port", "127.0.0.1:7420" or "[::1]:7420" into its parts (the brackets go); 0 or -EINVAL. It
 * asks nobody whether there is such a host. */
int control_address_split(const char *text, char host[CONTROL_HOST_MAX], char port[6]);
/* What the same text means, the first of its addresses; asks the resolver and may wait for it: not
 * in a loop. 0, -EINVAL, -ENOENT (no such host). */
int control_address_resolve(const char *text, struct sockaddr_storage *out);
/* An address that only this machine can reach. */
bool control_address_loopback(const struct sockaddr_storage *addr);
/* A numeric address backwards. */
void control_address_format(const struct sockaddr *addr, char *out, size_t size);
/* Replaces all but printable ASCII by '?': what peers say goes into logs, terminals and JSON. */
void control_text_clean(char *text);

/*
 * What carries the messages between two slices, in one word: "shm", "rdma", "tls", "tls(kernel)" or "tcp"; ""
 * for a slice and itself. Checks a report's "links", a list of such; the reference is msg's.
 */
int control_get_links(const json_t *msg, json_t **out, char *why);
/* Of an RDMA device, as the kernel names them. */
#define CONTROL_DEVICE_MAX 64
bool control_device_valid(const char *name);
/* Reads a token (one line) from a file of mode 0600 or stricter. 0, -errno, -EPERM when others can
 * read it, -EINVAL when it is empty or too long. */
int control_token_read(const char *path, char token[CONTROL_TOKEN_MAX]);

/* ---- a Linux kernel's command line (kernel_words.c) ---- */

/* 0, or -EINVAL when it has a word with which Linux cannot come up here: the sentence in why
 * (CONTROL_WHY_MAX bytes) names it. Any thread. */
int control_kernel_words_check(const char *cmdline, char *why);
/* Whether the command line has a word of the same name as this one (NAME or NAME=VALUE). */
bool control_kernel_words_name(const char *cmdline, const char *word);

/* A second: no way between slices is as long, and it fits where ACPI wants it. */
#define CONTROL_LATENCY_NS_MAX 1000000000

/* ---- words for the shape of the machine (kernel_profile.c); any thread ---- */

enum control_profile {
	CONTROL_PROFILE_NONE,
	CONTROL_PROFILE_PLAIN,	  /* what any machine of ours wants */
	CONTROL_PROFILE_SPANNING, /* and what one of several slices wants */
	CONTROL_PROFILE_AUTO,	  /* spanning or plain, by the number of slices */
};

#define CONTROL_PROFILE_WORDS_MAX 16

struct control_profile_word {
	char text[64];
	const char *why; /* static */
};

/* 0, or -EINVAL when none has this name. */
int control_profile_parse(const char *name, enum control_profile *out);
const char *control_profile_name(enum control_profile profile);
/* What auto means for this many slices; all others mean themselves. */
enum control_profile control_profile_resolve(enum control_profile profile, unsigned slices);
/* The words for a machine of so many CPUs, but for those whose name the command line has already; returns how
 * many, at most CONTROL_PROFILE_WORDS_MAX. */
unsigned control_profile_words(enum control_profile profile, unsigned vcpus, const char *cmdline,
			       struct control_profile_word *words);

/* ---- the console's stream (console.c) ---- */

/* Input that one client may have on its way to the guest. All clients' windows together are what a
 * slice has room for. */
#define CONTROL_INPUT_WINDOW 4096u
/* The longest mark, with its zero. */
#define CONTROL_MARK_MAX 96
/*
 * Writes what stands in the stream of console output in place of bytes that were dropped:
 * "[pangea: N bytes of console output were not shown here]" on a line of its own; its length.
 */
size_t control_console_mark(uint64_t bytes, char out[CONTROL_MARK_MAX]);

/* ---- TLS (tls_context.c, tls_stream.c, roles.c) ---- */

/* What one side's connections show and believe. It must outlive them. */
struct control_tls;

/* Reads the directory of certificates; as pki_member_load. */
int control_tls_new(const char *dir, enum pki_role role, struct control_tls **out, char *why);
/* For a side that has a join token only: it shows nothing, and believes in the authority with this
 * fingerprint. 0 or -ENOMEM. */
int control_tls_join(const char *print, struct control_tls **out);
/* Reads the directory again, for the connections to come; on an error all stays as it was. */
int control_tls_reload(struct control_tls *tls, char *why);
void control_tls_free(struct control_tls *tls);
/* Its own certificate and what it believes; null for a side that joins. Valid until the next reload. */
struct pki_member *control_tls_member(const struct control_tls *tls);
const char *control_tls_dir(const struct control_tls *tls);

/* Whether a peer of this role may send this type of message; and whether anybody may. */
bool control_role_may(enum control_role role, const char *type);
bool control_type_known(const char *type);
/* Whether a node's register names whom its certificate names. 0, or -EACCES and a sentence. */
int control_name_check(const json_t *msg, const struct pki_identity *id, char *why);
/* Whether the certificate's role is what the hello says. 0, or -EACCES and a sentence. */
int control_role_check(enum control_role role, const struct pki_identity *id, char *why);

/* ---- connections (uv_conn.c, uv_listen.c, uv_tls.c) ----
 * Everything runs in the loop's thread; nothing here may be called from another one.
 */
struct control_conn;
struct control_listener;

struct control_ops {
	/* The peer has said a good hello. May be null. */
	void (*on_open)(struct control_conn *conn, enum control_role peer);
	/* One message; msg and blob are valid only during the call. */
	void (*on_msg)(struct control_conn *conn, json_t *msg, const uint8_t *blob, size_t len);
	/*
	 * The end, exactly once for each connection made, always from the loop; conn is freed after
	 * the return. err is 0 after control_close, else -errno or -PANGEA_E...; why is a sentence.
	 * -EACCES: the peer refused us, why is its reason. -EKEYREJECTED: we refused the peer, for what
	 * it is; -EKEYREVOKED: the same by control_recheck.
	 */
	void (*on_closed)(struct control_conn *conn, int err, const char *why);
};

struct control_options {
	uv_loop_t *loop;
	const struct control_ops *ops;
	void *user;		  /* first value of control_user of every connection */
	enum control_role role;	  /* what our hello says */
	const char *token;	  /* what our hello carries; null: none. Copied. */
	const char *expect_token; /* what the peer's must carry; null: anything. Copied. */
	struct control_tls *tls;  /* null: plaintext */
};

/*
 * Connects to HOST:PORT; a name is resolved without waiting, and its addresses are tried in turn.
 * Errors at once: -EINVAL (no HOST:PORT), -ENOMEM, -errno; later ones come to on_closed.
 */
int control_connect(const struct control_options *opts, const char *address,
		    struct control_conn **out);
/* Takes a connected AF_UNIX stream socket (inherited from the parent); owns fd on success. */
int control_open_fd(const struct control_options *opts, int fd, struct control_conn **out);
/*
 * Listens on HOST:PORT (a name is resolved at once); connections come to ops->on_open once they said
 * hello. port may be null. Errors: -EINVAL, -ENOENT (no such host), -EADDRINUSE, -EADDRNOTAVAIL,
 * -EACCES, other -errno.
 */
int control_listen(const struct control_options *opts, const char *address,
		   struct control_listener **out, unsigned *port);
/* Stops accepting; the connections live on. */
void control_listener_close(struct control_listener *listener);
/* How many peers were refused for this reason. The first 32 have a line in the log each, with their address, and
 * then each power of two. */
unsigned control_listener_refused(const struct control_listener *listener,
				  enum pki_verdict verdict);
/*
 * Sends one message; msg stays the caller's. Allowed from the first moment (queued behind our
 * hello). Errors: -EINVAL, -PANGEA_EWIRELEN, -ENOMEM as control_frame_encode; -ENOBUFS (the
 * queue's limit; nothing is sent); -EPIPE (closing).
 */
int control_send(struct control_conn *conn, const json_t *msg, const void *blob, size_t len);
/* control_send of json_pack(fmt, ...), without a blob. */
int control_sendf(struct control_conn *conn, const char *fmt, ...);
/* Bytes accepted by control_send and not yet taken by the kernel. */
size_t control_queued(const struct control_conn *conn);
/* Sends what is queued (for at most CONTROL_FLUSH_TIMEOUT_MS) and closes; then on_closed(0, why).
 */
void control_close(struct control_conn *conn, const char *why);
/* Says {"type":"refused","reason":why} and closes; then on_closed(err, why). */
void control_refuse(struct control_conn *conn, int err, const char *why);
/* Closes without sending anything more; then on_closed(0, "aborted"). */
void control_abort(struct control_conn *conn);
void *control_user(const struct control_conn *conn);
void control_set_user(struct control_conn *conn, void *user);
/* Who the peer is by its certificate; null: it showed none. */
const struct pki_identity *control_peer_identity(const struct control_conn *conn);
/* What its hello said; after on_open. */
enum control_role control_peer_role(const struct control_conn *conn);
/* The authority that a side that joins has met, for on_open; null: none. Borrowed. */
X509 *control_peer_authority(const struct control_conn *conn);
/* After control_tls_reload: refuses the peer if its certificate was revoked; then on_closed(-EKEYREVOKED). */
void control_recheck(struct control_conn *conn);
/* Notes that this peer is refused (log, count) and refuses it. */
void control_refuse_peer(struct control_conn *conn, enum pki_verdict verdict, const char *why);
/* In on_closed: the peer closed its side in good order, as the system does for a process that ends;
 * no error on the way. */
bool control_peer_ended(const struct control_conn *conn);

/* ---- deadlines (uv_deadline.c) ---- */

struct control_deadline;
typedef void control_deadline_fn(void *arg);
/* Calls fn(arg) once after ms; null without memory. Ends by firing or by cancel. */
struct control_deadline *control_deadline_start(uv_loop_t *loop, uint64_t ms,
						control_deadline_fn *fn, void *arg);
/* Cancels *deadline if not null and sets it to null. The callback itself must set its owner's
 * pointer to null instead. */
void control_deadline_cancel(struct control_deadline **deadline);

#endif
