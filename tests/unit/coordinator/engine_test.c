/* SPDX-License-Identifier: Apache-2.0 */
/* What runs a VM's CPUs: the wish travels, the hosts' reports count, the slices' answers come back.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu_feature.h"
#include "world.h"

#define ITEM                                                                                       \
	"{\"name\":\"kvm\",\"matters\":\"ok\",\"found\":\"works\",\"sentence\":\"s\",\"mend\":"    \
	"\"\"}"

/* A node of 4 CPUs and 1 GiB with a report. */
static void node_with(struct world *world, uint64_t peer, const char *name, const char *host)
{
	json_t *report = json_loads(host, JSON_DECODE_ANY, NULL);

	cr_assert(report, "%s", host);
	world_open(world, peer, CONTROL_ROLE_NODE);
	world_say(world, peer, "{s:s, s:s, s:i, s:I, s:s, s:o}", "type", "register", "name", name,
		  "cpus", 4, "mem_bytes", (json_int_t)GIB, "data_address", "127.0.0.1", "host",
		  report);
}

static void node_like(struct world *world, uint64_t peer, const char *cpu, json_int_t tsc_hz,
		      bool scaling)
{
	char name[16], host[256];

	snprintf(name, sizeof(name), "node%d", (int)peer - 1);
	snprintf(host, sizeof(host),
		 "{\"cpu\":\"%s\",\"tsc_hz\":%lld,\"tsc_scaling\":%s,\"items\":[" ITEM "]}", cpu,
		 (long long)tsc_hz, scaling ? "true" : "false");
	node_with(world, peer, name, host);
}

/* Runs 4 CPUs and 512 MiB with this wish, up to slice-start. */
static void run_with(struct world *world, const char *cpu, bool force, bool micro)
{
	world_open(world, 10, CONTROL_ROLE_CLI);
	world_say(world, 10, "{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:s, s:b, s:b}",
		  "type", "run", "slices", "append", "", "kernel_bytes", 5, "initrd_bytes", 0,
		  "console", 1, "cpus", 4, "mem_bytes", (json_int_t)(512 * MIB), "nodes", 0, "cpu",
		  cpu, "force", (int)force, "micro", (int)micro);
	world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
}

static bool start_flag(const struct world *world, const char *key)
{
	const json_t *flag = json_object_get(world_last(world, 2, "slice-start")->msg, key);

	cr_assert(json_is_boolean(flag), "slice-start has no %s", key);
	return json_is_true(flag);
}

Test(engine, what_carries_messages_travels)
{
	static const char *const words[] = {"auto", "shm", "tcp", "rdma", "quic"};
	struct world *world = world_at(STEP_STARTING);

	cr_expect_str_eq(world_text(world, 1, "slice-start", "transport"), "auto");
	world_free(world);
	for (int i = 0; i < 5; i++) {
		world = world_pair();
		world_open(world, 10, CONTROL_ROLE_CLI);
		world_say(world, 10, "{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:s}", "type",
			  "run", "slices", "append", "", "kernel_bytes", 5, "initrd_bytes", 0,
			  "console", 1, "cpus", 4, "mem_bytes", (json_int_t)(512 * MIB), "nodes", 0,
			  "transport", words[i]);
		if (i == 4) {
			cr_expect(strstr(world_text(world, 10, "error", "reason"), "quic"));
		} else {
			world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
			cr_expect_str_eq(world_text(world, 2, "slice-start", "transport"),
					 words[i]);
		}
		world_free(world);
	}
}

/* Whoever asks: the command line refuses it too. */
Test(engine, what_is_not_encrypted_is_refused_where_encryption_is_required)
{
	struct world *world = world_pair();

	world_open(world, 10, CONTROL_ROLE_CLI);
	world_say(world, 10, "{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:s, s:s}", "type",
		  "run", "slices", "append", "", "kernel_bytes", 5, "initrd_bytes", 0, "console", 1,
		  "cpus", 4, "mem_bytes", (json_int_t)(512 * MIB), "nodes", 0, "transport", "rdma",
		  "encryption", "required");
	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_USAGE);
	cr_expect_str_eq(world_text(world, 10, "error", "reason"),
			 "the transport rdma is not encrypted, which is what required encryption "
			 "refuses");
	world_free(world);
}

Test(engine, the_wish_travels)
{
	struct world *world = world_at(STEP_STARTING);

	cr_expect_str_eq(world_text(world, 1, "slice-start", "cpu"), "auto");
	cr_expect_not(start_flag(world, "force"));
	cr_expect_not(start_flag(world, "micro"));
	world_free(world);

	for (int i = 0; i < 4; i++) {
		world = world_pair();
		run_with(world, i & 1 ? "kvm" : "soft", i & 1, i & 2);
		cr_expect_str_eq(world_text(world, 2, "slice-start", "cpu"),
				 i & 1 ? "kvm" : "soft");
		cr_expect_eq(start_flag(world, "force"), (i & 1) != 0);
		cr_expect_eq(start_flag(world, "micro"), (i & 2) != 0);
		world_free(world);
	}
}

Test(engine, unknown_ones_are_refused)
{
	struct world *world = world_pair();

	run_with(world, "tcg", false, false);
	cr_expect_eq(world_int(world, 10, "error", "code"), EXIT_USAGE);
	cr_expect_str_eq(world_text(world, 10, "error", "reason"),
			 "the CPU engine is auto, kvm or soft, not \"tcg\"");
	cr_expect_eq(world_count(world, 0, "slice-start"), 0);
	world_free(world);
}

/* The rate that slice-start carries; 0: none. */
static json_int_t rate(const char *cpu, const char *cpu0, json_int_t hz0, bool scaling0,
		       const char *cpu1, json_int_t hz1, bool scaling1)
{
	struct world *world = world_new();
	json_int_t hz[2];

	node_like(world, 1, cpu0, hz0, scaling0);
	node_like(world, 2, cpu1, hz1, scaling1);
	run_with(world, cpu, false, true);
	for (unsigned i = 0; i < 2; i++)
		hz[i] = world_int(world, i + 1, "slice-start", "tsc_hz");
	cr_expect_eq(hz[0], hz[1]);
	world_free(world);
	return hz[0];
}

Test(engine, one_tsc_rate_for_all)
{
	/* The software CPU can do any; so can scaling processors. */
	cr_expect_eq(rate("auto", "soft", 2600000000, false, "soft", 2500000000, false), 0);
	cr_expect_eq(rate("soft", "kvm", 2600000000, false, "kvm", 2500000000, false), 0);
	cr_expect_eq(rate("auto", "kvm", 2600000000, true, "kvm", 2500000000, true), 0);
	/* One that cannot scale decides, whoever it is. */
	cr_expect_eq(rate("auto", "kvm", 2600000000, false, "soft", 2500000000, false), 2600000000);
	cr_expect_eq(rate("auto", "kvm", 2600000000, true, "kvm", 2500000000, false), 2500000000);
	cr_expect_eq(rate("auto", "soft", 2600000000, false, "kvm", 2500000000, false), 2500000000);
	/* Of two that disagree the first. */
	cr_expect_eq(rate("auto", "kvm", 2600000000, false, "kvm", 2500000000, false), 2600000000);
	/* Asked for, also where auto would not take it; unless KVM is not there at all. */
	cr_expect_eq(rate("kvm", "soft", 2600000000, false, "kvm", 2500000000, true), 2600000000);
	cr_expect_eq(rate("kvm", "soft", 0, false, "kvm", 2500000000, true), 0);
}

/* The vendor that slice-start carries, of hosts with these; NULL: a report without one. */
static const char *vendor(struct world *world, const char *cpu, const char *cpu0,
			  const char *vendor0, const char *cpu1, const char *vendor1)
{
	const char *const cpus[] = {cpu0, cpu1}, *const vendors[] = {vendor0, vendor1};
	char name[16], host[300];

	for (unsigned i = 0; i < 2; i++) {
		snprintf(name, sizeof(name), "node%u", i);
		snprintf(host, sizeof(host),
			 "{\"cpu\":\"%s\",%s%s%s\"tsc_hz\":0,\"tsc_scaling\":true,\"items\":[" ITEM
			 "]}",
			 cpus[i], vendors[i] ? "\"vendor\":\"" : "", vendors[i] ? vendors[i] : "",
			 vendors[i] ? "\"," : "");
		node_with(world, i + 1, name, host);
	}
	run_with(world, cpu, false, true);
	cr_expect_str_eq(world_text(world, 1, "slice-start", "vendor"),
			 world_text(world, 2, "slice-start", "vendor"));
	return world_text(world, 2, "slice-start", "vendor");
}

static void vendor_is(const char *want, const char *cpu, const char *cpu0, const char *vendor0,
		      const char *cpu1, const char *vendor1)
{
	struct world *world = world_new();

	cr_expect_str_eq(vendor(world, cpu, cpu0, vendor0, cpu1, vendor1), want);
	world_free(world);
}

Test(engine, one_vendor_for_all)
{
	/* The software CPU is either; Intel's model asks less of a guest. */
	vendor_is("intel", "auto", "soft", "", "soft", "");
	vendor_is("intel", "soft", "kvm", "amd", "kvm", "amd");
	vendor_is("intel", "auto", "kvm", NULL, "soft", NULL);
	/* The first host that may use KVM decides. */
	vendor_is("amd", "auto", "kvm", "amd", "kvm", "amd");
	vendor_is("amd", "auto", "soft", "", "kvm", "amd");
	vendor_is("amd", "auto", "kvm", "amd", "kvm", "intel");
	vendor_is("intel", "kvm", "kvm", "intel", "kvm", "amd");
	vendor_is("intel", "auto", "kvm", "nonsense", "soft", "");
}

#define V2   ((long long)CPU_MODEL_V2)
#define REST ((long long)(CPU_BIT(CPU_AES) | CPU_BIT(CPU_SHA)))

static void node_of(struct world *world, unsigned i, const char *cpu, long long kvm, long long soft)
{
	char name[16], host[300], features[100] = "";

	snprintf(name, sizeof(name), "node%u", i);
	if (kvm >= 0)
		snprintf(features, sizeof(features), "\"features\":{\"kvm\":%lld,\"soft\":%lld},",
			 kvm, soft);
	snprintf(host, sizeof(host),
		 "{\"cpu\":\"%s\",%s\"tsc_hz\":0,\"tsc_scaling\":true,\"items\":[" ITEM "]}", cpu,
		 features);
	node_with(world, i + 1, name, host);
}

/* Runs with this --cpu and --cpu-model (NULL: none), up to slice-start if it is not refused. */
static void run_model(struct world *world, const char *cpu, const char *model)
{
	json_t *msg = json_pack("{s:s, s:[], s:s, s:i, s:i, s:b, s:i, s:I, s:i, s:s, s:b}", "type",
				"run", "slices", "append", "", "kernel_bytes", 5, "initrd_bytes", 0,
				"console", 1, "cpus", 4, "mem_bytes", (json_int_t)(512 * MIB),
				"nodes", 0, "cpu", cpu, "micro", 1);

	if (model)
		json_object_set_new(msg, "cpu_model", json_string(model));
	world_open(world, 10, CONTROL_ROLE_CLI);
	world_say_json(world, 10, msg);
	if (!world_count(world, 10, "error"))
		world_say(world, 1, "{s:s, s:s}", "type", "files-stored", "vm", "vm1");
}

/* Of two hosts, the second like the first but for what its KVM has. */
static long long features(const char *cpu, const char *model, const char *best, long long kvm0,
			  long long kvm1)
{
	struct world *world = world_new();
	long long mask;

	node_of(world, 0, best, kvm0, V2 | REST);
	node_of(world, 1, best, kvm1, V2 | REST);
	run_model(world, cpu, model);
	cr_assert_eq(world_count(world, 2, "slice-start"), 1, "%s %s: no slice is started", cpu,
		     model ? model : "-");
	mask = json_integer_value(
		json_object_get(world_last(world, 2, "slice-start")->msg, "features"));
	cr_expect_eq(mask, json_integer_value(json_object_get(
				   world_last(world, 1, "slice-start")->msg, "features")));
	world_free(world);
	return mask;
}

Test(engine, one_set_of_features_for_all)
{
	/* What the software CPU has everywhere; what KVM has where it may run. */
	cr_expect_eq(features("soft", NULL, "kvm", 0, 0), V2 | REST);
	cr_expect_eq(features("auto", NULL, "soft", 0, 0), V2 | REST);
	cr_expect_eq(features("auto", NULL, "kvm", V2, V2 | REST), V2);
	cr_expect_eq(features("kvm", "max", "kvm", V2 | REST, REST), REST);
	/* As its owner says, if need be by the software CPU. */
	cr_expect_eq(features("auto", "v1", "kvm", V2, V2), 0);
	cr_expect_eq(features("auto", "v2", "kvm", V2 | REST, 0), V2);
	cr_expect_eq(features("kvm", "v2", "kvm", V2 | REST, V2), V2);
	/* An older node tells of nothing. */
	cr_expect_eq(features("soft", NULL, "soft", V2, -1), 0);
}

static void model_refused(const char *cpu, const char *model, long long kvm1, const char *word)
{
	struct world *world = world_new();
	const char *text;

	node_of(world, 0, "kvm", V2, V2 | REST);
	node_of(world, 1, "kvm", kvm1, V2 | REST);
	run_model(world, cpu, model);
	cr_expect_eq(world_count(world, 2, "slice-start"), 0);
	cr_assert_eq(world_count(world, 10, "error"), 1, "%s %s is not refused", cpu, model);
	text = world_text(world, 10, "error", "reason");
	cr_expect(strstr(text, word), "%s", text);
	world_free(world);
}

Test(engine, a_model_that_a_host_cannot_give_is_refused)
{
	model_refused("kvm", "v2", V2 & ~(long long)CPU_BIT(CPU_SSE42),
		      "node1 cannot give the CPU model v2: it lacks sse4.2");
	model_refused("auto", "v3", V2, "avx");
	model_refused("auto", "v9", V2, "v9");
}

static const json_t *slice_of(const json_t *list, size_t index)
{
	return json_array_get(json_object_get(list, "slices"), index);
}

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return text ? text : "";
}

Test(engine, slices_say_which_and_why)
{
	struct world *world = world_at(STEP_STARTING);
	char longer[600];
	const json_t *msg;

	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	longer[3] = '\n';
	world_say(world, 1, "{s:s, s:s, s:i, s:i, s:s, s:s}", "type", "slice-listening", "vm",
		  "vm1", "slice", 0, "port", 5000, "cpu", "kvm", "cpu_why", "it has VT-x");
	cr_expect_eq(world_count(world, 10, "vm-engines"), 0);
	world_say(world, 2, "{s:s, s:s, s:i, s:i, s:s, s:s}", "type", "slice-listening", "vm",
		  "vm1", "slice", 1, "port", 5001, "cpu", "soft", "cpu_why", longer);
	cr_expect_eq(world_count(world, 10, "vm-engines"), 1);
	msg = world_last(world, 10, "vm-engines")->msg;
	cr_expect_str_eq(text_of(slice_of(msg, 0), "cpu"), "kvm");
	cr_expect_str_eq(text_of(slice_of(msg, 0), "cpu_why"), "it has VT-x");
	cr_expect_str_eq(text_of(slice_of(msg, 1), "cpu"), "soft");
	cr_expect_eq(strlen(text_of(slice_of(msg, 1), "cpu_why")), 255);
	cr_expect_eq(text_of(slice_of(msg, 1), "cpu_why")[3], '?');

	world_open(world, 11, CONTROL_ROLE_CLI);
	world_say(world, 11, "{s:s}", "type", "vms");
	msg = json_array_get(json_object_get(world_last(world, 11, "vms-list")->msg, "vms"), 0);
	cr_expect_str_eq(text_of(slice_of(msg, 0), "cpu"), "kvm");
	cr_expect_str_eq(text_of(slice_of(msg, 0), "cpu_why"), "it has VT-x");
	world_free(world);
}

Test(engine, a_slice_without_cpus_says_nothing)
{
	struct world *world = world_at(STEP_CONNECTING);
	const json_t *msg = world_last(world, 10, "vm-engines")->msg;

	cr_expect_null(json_object_get(slice_of(msg, 0), "cpu"));
	world_free(world);
}

Test(engine, reasons_must_come_with_it)
{
	struct world *world = world_at(STEP_STARTING);

	world_say(world, 1, "{s:s, s:s, s:i, s:i, s:s}", "type", "slice-listening", "vm", "vm1",
		  "slice", 0, "port", 5000, "cpu", "kvm");
	cr_expect(strstr(world_end(world), "cpu_why"));
	world_free(world);
}

Test(engine, nodes_show_their_reports)
{
	struct world *world = world_new();
	const json_t *list, *host;

	node_like(world, 1, "kvm", 2600000000, true);
	world_node(world, 2, "node1", 4, GIB);
	world_open(world, 10, CONTROL_ROLE_CLI);
	world_say(world, 10, "{s:s}", "type", "nodes");
	list = json_object_get(world_last(world, 10, "nodes-list")->msg, "nodes");
	cr_expect_str_eq(text_of(json_array_get(list, 0), "cpu"), "kvm");
	host = json_object_get(json_array_get(list, 0), "host");
	cr_expect_eq(json_integer_value(json_object_get(host, "tsc_hz")), 2600000000);
	cr_expect_str_eq(text_of(json_array_get(json_object_get(host, "items"), 0), "found"),
			 "works");
	/* A node without a report takes part with the software CPU. */
	cr_expect_str_eq(text_of(json_array_get(list, 1), "cpu"), "soft");
	cr_expect_null(json_object_get(json_array_get(list, 1), "host"));
	/* It goes with its node, and the name is free again. */
	world_close(world, 1, "gone");
	node_like(world, 3, "soft", 0, false);
	world_free(world);
}

Test(engine, bad_reports_are_refused)
{
	static const char *const bad[] = {
		"7",
		"{}",
		"{\"cpu\":\"kvm\",\"tsc_hz\":-1,\"tsc_scaling\":true,\"items\":[]}",
		"{\"cpu\":\"kvm\",\"tsc_hz\":20000000000,\"tsc_scaling\":true,\"items\":[]}",
		"{\"cpu\":\"kvm\",\"tsc_hz\":0,\"tsc_scaling\":1,\"items\":[]}",
		"{\"cpu\":\"kvm\",\"tsc_hz\":0,\"tsc_scaling\":true,\"items\":[7]}",
		"{\"cpu\":\"kvm\",\"tsc_hz\":0,\"tsc_scaling\":true,\"items\":[" ITEM ",{}]}",
		"{\"cpu\":\"kvm\",\"tsc_hz\":0,\"tsc_scaling\":true,\"items\":[{\"name\":"
		"\"a name that is longer than any of the names\"}]}",
	};
	struct world *world = world_new();

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		node_with(world, i + 1, "node", bad[i]);
		cr_expect(strstr(world_refused(world, i + 1), "malformed control message"), "%s",
			  bad[i]);
	}
	world_free(world);
}
