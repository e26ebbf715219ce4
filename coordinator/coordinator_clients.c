/* SPDX-License-Identifier: Apache-2.0 */
/* What the command line asks for: lists, run, files, console, stop. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu_feature.h"
#include "base/log.h"
#include "coordinator/coordinator_internal.h"

/* A kernel of Debian has 10 MiB, a big initrd 100 MiB: far above both, far below a disk. */
#define FILE_BYTES_MAX (UINT64_C(512) << 20)

void client_error(struct coordinator *co, struct peer *peer, int code, const char *reason)
{
	char clean[CONTROL_WHY_MAX];

	snprintf(clean, sizeof(clean), "%s", reason);
	control_text_clean(clean);
	action_send(co, peer->id,
		    message_make("{s:s, s:i, s:s}", "type", "error", "code", code, "reason", clean),
		    NULL, 0);
}

static json_t *node_json(const struct node *node)
{
	const char *cpu = json_string_value(json_object_get(node->host, "cpu"));

	return message_make("{s:s, s:s, s:i, s:i, s:I, s:I, s:s, s:s, s:O*}", "name", node->name,
			    "state", node->peer ? "ready" : "away", "cpus", (int)node->cpus,
			    "cpus_free", (int)node->cpus_free, "mem_bytes",
			    (json_int_t)node->mem_bytes, "mem_free_bytes",
			    (json_int_t)node->mem_free, "data_address", node->data_address, "cpu",
			    cpu ? cpu : "soft", "host", node->host);
}

static int name_compare(const void *a, const void *b)
{
	const struct node *const *x = a, *const *y = b;

	return strverscmp((*x)->name, (*y)->name);
}

static void nodes_take(struct coordinator *co, struct peer *peer,
		       const struct coordinator_event *event)
{
	const struct node *sorted[NODES_MAX];
	json_t *list = json_array();
	size_t count = 0;

	(void)event;
	for (unsigned i = 0; i < NODES_MAX; i++)
		if (co->node[i].used)
			sorted[count++] = &co->node[i];
	qsort(sorted, count, sizeof(sorted[0]), name_compare);
	for (size_t i = 0; i < count; i++)
		invariant(json_array_append_new(list, node_json(sorted[i])) == 0);
	action_send(co, peer->id, message_make("{s:s, s:o}", "type", "nodes-list", "nodes", list),
		    NULL, 0);
}

/* A list with statistics of more slices might be longer than a message: 64 integers of at most 64
 * bytes each, and 16 pages of 8 such. */
#define STATS_SLICES_MAX 128u

static unsigned slices_count(const struct coordinator *co)
{
	unsigned count = 0;

	for (unsigned i = 0; i < VMS_MAX; i++)
		count += co->vm[i] ? co->vm[i]->slices : 0;
	return count;
}

static void vms_take(struct coordinator *co, struct peer *peer,
		     const struct coordinator_event *event)
{
	bool with_stats = slices_count(co) <= STATS_SLICES_MAX;
	json_t *list = json_array();

	for (unsigned i = 0; i < VMS_MAX; i++)
		if (co->vm[i])
			invariant(json_array_append_new(list, vm_json(co, co->vm[i], with_stats)) ==
				  0);
	for (unsigned i = 0; i < VMS_MAX; i++)
		if (co->kept[i].last && !vm_find(co, co->kept[i].name))
			invariant(json_array_append_new(list, kept_json(&co->kept[i])) == 0);
	if (json_is_true(json_object_get(event->msg, "all")))
		past_list(co, list);
	action_send(co, peer->id, message_make("{s:s, s:o}", "type", "vms-list", "vms", list), NULL,
		    0);
}

/* What a run message says besides its placement. */
struct request {
	const char *name; /* null: we invent one */
	const char *append;
	enum control_profile profile; /* whose words come before append */
	uint64_t kernel_bytes, initrd_bytes;
	bool console;
	const char *cpu;    /* static */
	const char *vendor; /* static; null: we choose */
	const char *model;  /* of the CPU, the message's; null: what all hosts can give */
	bool force, micro;
	struct cache_wish cache;
	unsigned distance;	/* 0: as measured */
	const char *transport;	/* static */
	const char *encryption; /* static */
	struct control_devices devices;
	struct control_images images;
	bool detached, unlisted;
	const uint8_t *seed; /* the contents of the device that is one; null: there is none */
};

static int flag_parse(const json_t *msg, const char *key, bool *out, char *why)
{
	*out = false;
	return json_object_get(msg, key) ? control_get_bool(msg, key, out, why) : 0;
}

/* What runs the CPUs: each field may be missing. */
static int engine_parse(const json_t *msg, struct request *request, char *why)
{
	static const char *const names[] = {"auto", "kvm", "soft"};
	const char *cpu = names[0];
	int err;

	if ((json_object_get(msg, "cpu") && (err = control_get_string(msg, "cpu", &cpu, why))) ||
	    (err = flag_parse(msg, "force", &request->force, why)) ||
	    (err = flag_parse(msg, "micro", &request->micro, why)))
		return err;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(cpu, names[i]) != 0)
			continue;
		request->cpu = names[i];
		return 0;
	}
	snprintf(why, CONTROL_WHY_MAX, "the CPU engine is auto, kvm or soft, not \"%.20s\"", cpu);
	return -EINVAL;
}

/* What carries messages between slices; it may be missing. */
static int transport_parse(const json_t *msg, struct request *request, char *why)
{
	static const char *const words[] = {"auto", "shm", "rdma", "tcp"};
	const char *word = words[0];
	int err = 0;

	if (json_object_get(msg, "transport"))
		err = control_get_string(msg, "transport", &word, why);
	if (err)
		return err;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(word, words[i]) != 0)
			continue;
		request->transport = words[i];
		return 0;
	}
	snprintf(why, CONTROL_WHY_MAX, "the transport is auto, shm, rdma or tcp, not \"%.20s\"",
		 word);
	return -EINVAL;
}

/* Whether messages between hosts are encrypted; it may be missing. */
static int encryption_parse(const json_t *msg, struct request *request, char *why)
{
	static const char *const words[] = {"on", "required", "off"};
	const char *word = words[0];
	int err = 0;

	if (json_object_get(msg, "encryption"))
		err = control_get_string(msg, "encryption", &word, why);
	if (err)
		return err;
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		if (strcmp(word, words[i]) != 0)
			continue;
		request->encryption = words[i];
		return 0;
	}
	snprintf(why, CONTROL_WHY_MAX, "the encryption is on, required or off, not \"%.20s\"",
		 word);
	return -EINVAL;
}

/* Nothing encrypts what goes over RDMA. */
static int protection_check(const struct request *request, char *why)
{
	if (strcmp(request->transport, "rdma") != 0 || strcmp(request->encryption, "required") != 0)
		return 0;
	snprintf(why, CONTROL_WHY_MAX,
		 "the transport rdma is not encrypted, which is what required encryption refuses");
	return -EINVAL;
}

static int model_parse(const json_t *msg, struct request *request, char *why)
{
	uint64_t features;
	int err;

	request->model = NULL;
	if (!json_object_get(msg, "cpu_model"))
		return 0;
	err = control_get_string(msg, "cpu_model", &request->model, why);
	if (!err && cpu_model_parse(request->model, &features)) {
		snprintf(why, CONTROL_WHY_MAX, "the CPU model is v1, v2, v3 or max, not \"%.20s\"",
			 request->model);
		err = -EINVAL;
	}
	return err;
}

static int vendor_parse(const json_t *msg, struct request *request, char *why)
{
	const char *vendor;
	int err;

	request->vendor = NULL;
	if (!json_object_get(msg, "vendor"))
		return 0;
	err = control_get_string(msg, "vendor", &vendor, why);
	if (err)
		return err;
	if (strcmp(vendor, "intel") == 0)
		request->vendor = "intel";
	else if (strcmp(vendor, "amd") == 0)
		request->vendor = "amd";
	if (request->vendor)
		return 0;
	snprintf(why, CONTROL_WHY_MAX, "the CPU vendor is intel or amd, not \"%.20s\"", vendor);
	return -EINVAL;
}

/* The limit on remote pages: a size, a percentage, that there is none, or nothing of these. */
static int cache_parse(const json_t *msg, struct cache_wish *cache, char *why)
{
	int err;

	*cache = (struct cache_wish){0};
	err = flag_parse(msg, "cache_none", &cache->none, why);
	if (!err && json_object_get(msg, "cache_bytes"))
		err = control_get_u64(msg, "cache_bytes", 1, GUEST_MEM_MAX, &cache->bytes, why);
	if (!err && json_object_get(msg, "cache_percent"))
		err = control_get_uint(msg, "cache_percent", 1, 100, &cache->percent, why);
	if (!err && (cache->bytes != 0) + (cache->percent != 0) + cache->none > 1) {
		snprintf(why, CONTROL_WHY_MAX,
			 "the cache is a size or a percentage or none, not two of these");
		err = -EINVAL;
	}
	return err;
}

/* It may be missing: who does not know of profiles wants none. */
static int profile_parse(const json_t *msg, struct request *request, char *why)
{
	const char *name;
	int err;

	request->profile = CONTROL_PROFILE_NONE;
	if (!json_object_get(msg, "profile"))
		return 0;
	err = control_get_string(msg, "profile", &name, why);
	if (err)
		return err;
	err = control_profile_parse(name, &request->profile);
	if (err)
		snprintf(why, CONTROL_WHY_MAX, "there is no profile \"%.20s\"", name);
	return err;
}

static int request_parse(const json_t *msg, struct request *request, char *why)
{
	int err;

	request->name = NULL;
	request->distance = 0;
	if (json_object_get(msg, "name") &&
	    (err = control_get_name(msg, "name", &request->name, why)))
		return err;
	if ((err = control_get_string(msg, "append", &request->append, why)) ||
	    (err = control_get_u64(msg, "kernel_bytes", 1, FILE_BYTES_MAX, &request->kernel_bytes,
				   why)) ||
	    (err = control_get_u64(msg, "initrd_bytes", 0, FILE_BYTES_MAX, &request->initrd_bytes,
				   why)) ||
	    (err = control_get_bool(msg, "console", &request->console, why)) ||
	    (err = engine_parse(msg, request, why)) || (err = vendor_parse(msg, request, why)) ||
	    (err = model_parse(msg, request, why)) ||
	    (err = cache_parse(msg, &request->cache, why)) ||
	    (err = transport_parse(msg, request, why)) ||
	    (err = encryption_parse(msg, request, why)) || (err = protection_check(request, why)) ||
	    (err = profile_parse(msg, request, why)) ||
	    (err = control_devices_get(msg, &request->devices, why)) ||
	    (err = control_images_get(msg, &request->images, why)) ||
	    (err = flag_parse(msg, "detached", &request->detached, why)) ||
	    (err = flag_parse(msg, "rm", &request->unlisted, why)) ||
	    (json_object_get(msg, "distance") &&
	     (err = control_get_uint(msg, "distance", NUMA_DISTANCE_MIN, NUMA_DISTANCE_MAX,
				     &request->distance, why))))
		return err;
	if (strlen(request->append) >= CMDLINE_MAX) {
		snprintf(why, CONTROL_WHY_MAX, "the kernel command line is longer than %d bytes",
			 CMDLINE_MAX - 1);
		return -EINVAL;
	}
	/* A micro-guest's words are its own. */
	return request->micro ? 0 : control_kernel_words_check(request->append, why);
}

/* One that waits to be started again has its name, too. */
static bool name_taken(struct coordinator *co, const char *name)
{
	return vm_find(co, name) || kept_find(co, name);
}

/* A seed's bytes come with the request, all of them and no others. */
static int seed_take(const struct coordinator_event *event, struct request *request, char *why)
{
	bool wanted = control_seed_wanted(&request->devices);

	request->seed = wanted ? event->blob : NULL;
	if (event->blob_len == (wanted ? CONTROL_SEED_BYTES : 0))
		return 0;
	snprintf(why, CONTROL_WHY_MAX, "%zu bytes of a seed came where %u are right",
		 event->blob_len, wanted ? CONTROL_SEED_BYTES : 0);
	return -EINVAL;
}

static void name_invent(struct coordinator *co, char *name, size_t size)
{
	do
		snprintf(name, size, "vm%u", ++co->vm_number);
	while (name_taken(co, name) || past_find(co, name));
}

static void placed_log(struct coordinator *co, const struct vm *vm)
{
	char text[CONTROL_WHY_MAX] = "";

	for (unsigned i = 0; i < vm->slices; i++) {
		size_t used = strlen(text);
		snprintf(text + used, sizeof(text) - used, "%s%s (%u CPUs, %llu MiB)",
			 i ? ", " : "", vm->slice[i].node_name, vm->slice[i].vcpus,
			 (unsigned long long)(vm->slice[i].mem_bytes >> 20));
	}
	action_log(co, "VM %s is placed on %s", vm->name, text);
}

/* The VM exists: tells its owner and the boot node. */
static void run_begin(struct coordinator *co, struct peer *peer, struct vm *vm,
		      const struct request *request, const struct profile_cmdline *cmdline)
{
	peer->vm = vm;
	peer->owner = true;
	vm->owned = !request->detached;
	vm->unlisted = request->unlisted;
	peer->upload_owed = 0;
	peer->console = request->console;
	snprintf(vm->append, sizeof(vm->append), "%s", cmdline->text);
	vm->cpu = request->cpu;
	vm->vendor = request->vendor;
	vm->features_open = !request->model || strcmp(request->model, "max") == 0;
	(void)cpu_model_parse(request->model ? request->model : "max", &vm->features);
	vm->force = request->force;
	vm->micro = request->micro;
	vm->distance = request->distance;
	vm->transport = request->transport;
	vm->encryption = request->encryption;
	vm->devices = request->devices;
	vm->images = request->images;
	action_send(co, peer->id,
		    message_make("{s:s, s:s, s:O, s:s, s:o, s:o, s:o, s:I, s:o}", "type",
				 "run-placed", "profile", control_profile_name(cmdline->profile),
				 "words", cmdline->words, "vm", vm->name, "slices",
				 vm_slices_json(vm, false), "incarnation",
				 control_id_json(vm->incarnation), "owner",
				 control_id_json(vm->owner), "grace_ms", (json_int_t)co->grace_ms,
				 "devices", vm_devices_json(vm)),
		    NULL, 0);
	action_send(co, vm->slice[0].node->peer,
		    message_make("{s:s, s:s, s:o, s:I, s:I}", "type", "files-begin", "vm", vm->name,
				 "incarnation", control_id_json(vm->incarnation), "kernel_bytes",
				 (json_int_t)request->kernel_bytes, "initrd_bytes",
				 (json_int_t)request->initrd_bytes),
		    request->seed, request->seed ? CONTROL_SEED_BYTES : 0);
	images_ask(co, vm);
	placed_log(co, vm);
	vm_state_set(co, vm, VM_PLACING);
}

/* No VM is made. One that was to be started again may be tried later. */
static void run_refuse(struct coordinator *co, struct peer *peer, const struct request *request,
		       int code, const char *why)
{
	struct kept *kept = peer->own && request->name ? kept_find(co, request->name) : NULL;

	client_error(co, peer, code, why);
	if (kept)
		kept_failed(co, kept, code, why);
}

/* Whether the request may have its name, and be kept if it is to be. 0, or an exit code and a sentence. */
static int run_admit(struct coordinator *co, const struct peer *peer, const json_t *msg,
		     const struct request *request, char *why)
{
	bool taken = request->name && (peer->own ? vm_find(co, request->name) != NULL
						 : name_taken(co, request->name));

	if (taken) {
		snprintf(why, CONTROL_WHY_MAX, "a VM named %s exists already", request->name);
		return EXIT_ERROR;
	}
	if (request->detached && !peer->own &&
	    kept_room(co, msg, request->kernel_bytes + request->initrd_bytes, why))
		return EXIT_NOFIT;
	return 0;
}

/* Where it runs, and with which words. */
static int run_plan(struct coordinator *co, const json_t *msg, const struct request *request,
		    struct placement *placement, struct profile_cmdline *cmdline, char *why)
{
	int err = placement_find(co, msg, placement, why);

	if (!err)
		err = features_plan(request->model, request->cpu, placement, why);
	if (!err)
		err = cache_plan(&request->cache, placement, why);
	if (!err)
		err = profile_apply(request->profile, placement, request->append, cmdline, why);
	return err;
}

/* Makes the VM; the words are the caller's. */
static void run_make(struct coordinator *co, struct peer *peer, const json_t *msg,
		     struct request *request, const struct placement *placement,
		     const struct profile_cmdline *cmdline)
{
	char why[CONTROL_WHY_MAX], name[NAME_MAX_LEN + 1];
	struct vm *vm;

	if (request->name)
		snprintf(name, sizeof(name), "%s", request->name);
	else
		name_invent(co, name, sizeof(name));
	if (control_devices_complete(&request->devices, name, why) ||
	    devices_place(&request->devices, placement, why)) {
		run_refuse(co, peer, request, EXIT_USAGE, why);
		return;
	}
	vm = vm_create(co, name, placement);
	if (!vm) {
		run_refuse(co, peer, request, EXIT_ERROR,
			   "the coordinator runs its 64 VMs already");
		return;
	}
	if (!peer->own)
		past_remove(co, name);
	if (!peer->own && request->detached)
		kept_add(co, vm, msg, request->kernel_bytes + request->initrd_bytes);
	if (!peer->own && request->detached && request->seed)
		kept_store_seed(co, vm, request->seed);
	run_begin(co, peer, vm, request, cmdline);
}

static void run_take(struct coordinator *co, struct peer *peer,
		     const struct coordinator_event *event)
{
	char why[CONTROL_WHY_MAX];
	struct placement placement;
	struct profile_cmdline cmdline;
	struct request request = {0};
	int err, code;

	if (peer->vm) {
		client_error(co, peer, EXIT_ERROR, "this connection has a VM already");
		return;
	}
	err = request_parse(event->msg, &request, why);
	if (!err)
		err = seed_take(event, &request, why);
	code = err ? EXIT_USAGE : run_admit(co, peer, event->msg, &request, why);
	if (!code) {
		err = run_plan(co, event->msg, &request, &placement, &cmdline, why);
		code = err == -PANGEA_ENOFIT ? EXIT_NOFIT : err ? EXIT_USAGE : 0;
	}
	if (code) {
		run_refuse(co, peer, &request, code, why);
		return;
	}
	run_make(co, peer, event->msg, &request, &placement, &cmdline);
	json_decref(cmdline.words);
}

/* A piece of the kernel or initrd: its fields checked, on to the boot node. */
static void chunk_take(struct coordinator *co, struct peer *peer,
		       const struct coordinator_event *event)
{
	struct vm *vm = peer->vm;
	char why[CONTROL_WHY_MAX];
	const char *file;
	uint64_t offset;

	static_assert((uint64_t)VMS_MAX * CONTROL_UPLOAD_WINDOW +
				      (uint64_t)PEERS_MAX * CONTROL_INPUT_WINDOW <
			      CONTROL_QUEUE_MAX - CONTROL_JSON_MAX / 2,
		      "what all clients may send to one node fits into its queue");
	if (!vm || !peer->owner || vm->state != VM_PLACING || !vm->slice[0].node)
		return; /* the VM ended while the piece was under way */
	if (control_get_string(event->msg, "file", &file, why) < 0 ||
	    control_get_u64(event->msg, "offset", 0, FILE_BYTES_MAX, &offset, why) < 0) {
		peer_refuse(co, peer, why);
		return;
	}
	if (event->blob_len > CONTROL_UPLOAD_WINDOW - peer->upload_owed) {
		snprintf(why, sizeof(why), "%zu bytes of a file came where %u were allowed",
			 event->blob_len, CONTROL_UPLOAD_WINDOW - peer->upload_owed);
		peer_refuse(co, peer, why);
		return;
	}
	peer->upload_owed += (unsigned)event->blob_len;
	if (!peer->own)
		kept_store(co, vm, file, offset, event->blob, event->blob_len);
	action_send(co, vm->slice[0].node->peer,
		    message_make("{s:s, s:s, s:o, s:s, s:I}", "type", "file-chunk", "vm", vm->name,
				 "incarnation", control_id_json(vm->incarnation), "file",
				 strcmp(file, "kernel") == 0 ? "kernel" : "initrd", "offset",
				 (json_int_t)offset),
		    event->blob, event->blob_len);
	vm_state_set(co, vm, VM_PLACING); /* renews the deadline */
}

struct vm *client_vm_named(struct coordinator *co, struct peer *peer, const json_t *msg)
{
	char why[CONTROL_WHY_MAX];
	const char *name;
	struct vm *vm;

	if (control_get_name(msg, "vm", &name, why) < 0) {
		client_error(co, peer, EXIT_USAGE, why);
		return NULL;
	}
	vm = vm_find(co, name);
	if (vm)
		return vm;
	snprintf(why, sizeof(why), "there is no VM named %s", name);
	client_error(co, peer, EXIT_ERROR, why);
	return NULL;
}

static void console_attach(struct coordinator *co, struct peer *peer,
			   const struct coordinator_event *event)
{
	static_assert(CONSOLE_RING_BYTES <= CONTROL_BLOB_MAX, "the ring goes out as one blob");
	struct vm *vm = client_vm_named(co, peer, event->msg);
	uint8_t *past;
	size_t len;

	if (!vm)
		return;
	if (peer->vm) {
		client_error(co, peer, EXIT_ERROR, "this connection has a VM already");
		return;
	}
	peer->vm = vm;
	peer->console = true;
	peer->watches = json_is_true(json_object_get(event->msg, "watch"));
	past = vm_console_past(vm, SIZE_MAX, &len);
	action_send(co, peer->id,
		    message_make("{s:s, s:s, s:o, s:I, s:I}", "type", "console-attached", "vm",
				 vm->name, "incarnation", control_id_json(vm->incarnation),
				 "grace_ms", (json_int_t)co->grace_ms, "console_bytes",
				 (json_int_t)vm->console_bytes),
		    past, len);
	free(past);
	if (vm->state == VM_RUNNING)
		console_input_allow(co, peer);
}

static void detach_take(struct coordinator *co, struct peer *peer,
			const struct coordinator_event *event)
{
	struct vm *vm = peer->vm;

	(void)event;
	if (vm && peer->owner) {
		vm->owned = false;
		if (vm->state >= VM_STARTING)
			vm_record_keep(co, vm);
	}
	peer->vm = NULL;
	peer->owner = false;
	console_leave(peer);
	action_send(co, peer->id, message_make("{s:s}", "type", "detached"), NULL, 0);
}

/* It goes and does not come back. */
static void leaving_take(struct coordinator *co, struct peer *peer,
			 const struct coordinator_event *event)
{
	struct vm *vm = peer->owner ? peer->vm : NULL;

	(void)event;
	peer->vm = NULL;
	peer->owner = false;
	console_leave(peer);
	if (vm && owner_bound(vm))
		vm_end(co, vm, EXIT_STOPPED, NULL, "stopped: its terminal went away");
}

static void heartbeat_take(struct coordinator *co, struct peer *peer,
			   const struct coordinator_event *event)
{
	(void)event;
	action_send(co, peer->id, message_make("{s:s}", "type", "heartbeat"), NULL, 0);
}

static const struct {
	const char *type;
	void (*take)(struct coordinator *co, struct peer *peer,
		     const struct coordinator_event *event);
} requests[] = {
	{"nodes", nodes_take},
	{"vms", vms_take},
	{"run", run_take},
	{"file-chunk", chunk_take},
	{"image-chunk", image_chunk_take},
	{"stop", stop_take},
	{"button", button_take},
	{"reset", reset_take},
	{"rm", rm_take},
	{"inspect", inspect_take},
	{"logs", logs_take},
	{"console", console_attach},
	{"console-input", console_input_take},
	{"detach", detach_take},
	{"attach", attach_take},
	{"leaving", leaving_take},
	{"heartbeat", heartbeat_take},
};

void client_message(struct coordinator *co, struct peer *peer,
		    const struct coordinator_event *event)
{
	char why[CONTROL_WHY_MAX];

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		if (control_is(event->msg, requests[i].type)) {
			requests[i].take(co, peer, event);
			return;
		}
	}
	snprintf(why, sizeof(why), "malformed control message: unknown type \"%.40s\"",
		 control_type(event->msg));
	peer_refuse(co, peer, why);
}
