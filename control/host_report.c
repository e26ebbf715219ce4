/* SPDX-License-Identifier: Apache-2.0 */
/* A host's report as JSON: what daemons register with, and what `pangea check --json` prints. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/cpu_feature.h"
#include "base/error.h"
#include "host/host.h"
#include "control/control.h"

/* A newer node may look at a few things more; 128 of them must fit into one list. */
#define ITEMS_MAX (HOST_ITEMS_MAX + 4)

/* What a kernel's files say may be anything; JSON and terminals get printable ASCII. */
static json_t *clean_text(const char *text)
{
	char clean[sizeof(((struct host_item *)0)->sentence)];

	snprintf(clean, sizeof(clean), "%s", text);
	control_text_clean(clean);
	return json_string(clean);
}

static json_t *item_json(const struct host_item *item)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", item->name, "matters",
			 host_matters_name(item->matters), "found", clean_text(item->found),
			 "sentence", clean_text(item->sentence), "mend", clean_text(item->mend));
}

static json_t *features_json(uint64_t kvm, uint64_t soft)
{
	return json_pack("{s:I, s:I}", "kvm", (json_int_t)kvm, "soft", (json_int_t)soft);
}

json_t *control_host_json(const struct host_report *report)
{
	json_t *items = json_array();

	for (unsigned i = 0; items && i < report->count; i++)
		if (json_array_append_new(items, item_json(&report->items[i])) < 0) {
			json_decref(items);
			return NULL;
		}
	return json_pack(
		"{s:s, s:s, s:I, s:b, s:o, s:o}", "cpu", host_fits_kvm(report) ? "kvm" : "soft",
		"vendor",
		report->live.svm   ? "amd"
		: report->live.vmx ? "intel"
				   : "",
		"tsc_hz", (json_int_t)report->live.tsc_hz, "tsc_scaling",
		(int)report->live.tsc_scaling, "features",
		features_json(report->live.kvm_features & CPU_FEATURES_MASK, cpu_features_soft()),
		"items", items);
}

static int text_check(const json_t *item, const char *key, size_t max, json_t *out, char *why)
{
	const char *text;
	int err = control_get_string(item, key, &text, why);

	if (!err && strlen(text) >= max) {
		snprintf(why, CONTROL_WHY_MAX,
			 "malformed control message: host: \"%s\" is too long", key);
		err = -PANGEA_ECONTROL;
	}
	if (!err && json_object_set_new(out, key, clean_text(text)) < 0)
		err = -ENOMEM;
	return err;
}

static int item_check(const json_t *item, json_t *items, char *why)
{
	static const struct host_item *const sizes = NULL;
	json_t *out = json_object();
	int err = out ? 0 : -ENOMEM;

	if (!err)
		err = text_check(item, "name", 32, out, why);
	if (!err)
		err = text_check(item, "matters", 8, out, why);
	if (!err)
		err = text_check(item, "found", sizeof(sizes->found), out, why);
	if (!err)
		err = text_check(item, "sentence", sizeof(sizes->sentence), out, why);
	if (!err)
		err = text_check(item, "mend", sizeof(sizes->mend), out, why);
	if (err)
		json_decref(out);
	else if (json_array_append_new(items, out) < 0)
		err = -ENOMEM;
	return err;
}

/* Of an older node: none. What a newer one knows beyond us is left out. */
static int features_check(const json_t *host, json_t **out, char *why)
{
	const json_t *features = json_object_get(host, "features");
	uint64_t kvm = 0, soft = 0;
	int err;

	if (features && ((err = control_get_u64(features, "kvm", 0, INT64_MAX, &kvm, why)) ||
			 (err = control_get_u64(features, "soft", 0, INT64_MAX, &soft, why))))
		return err;
	*out = features_json(kvm & CPU_FEATURES_MASK, soft & CPU_FEATURES_MASK);
	return *out ? 0 : -ENOMEM;
}

int control_host_check(const json_t *msg, json_t **out, char *why)
{
	const json_t *host = json_object_get(msg, "host");
	json_t *list, *item, *items, *features;
	const char *cpu, *vendor = "";
	uint64_t tsc_hz;
	bool scaling, kvm;
	size_t i;
	int err;

	if ((err = control_get_string(host, "cpu", &cpu, why)) ||
	    (json_object_get(host, "vendor") &&
	     (err = control_get_string(host, "vendor", &vendor, why))) ||
	    (err = control_get_u64(host, "tsc_hz", 0, CONTROL_TSC_HZ_MAX, &tsc_hz, why)) ||
	    (err = control_get_bool(host, "tsc_scaling", &scaling, why)) ||
	    (err = control_get_array(host, "items", ITEMS_MAX, &list, why)) ||
	    (err = features_check(host, &features, why)))
		return err;
	kvm = strcmp(cpu, "kvm") == 0;
	items = json_array();
	json_array_foreach(list, i, item) if (!err) err = item_check(item, items, why);
	if (err) {
		json_decref(items);
		json_decref(features);
		return err;
	}
	if (strcmp(vendor, "amd") != 0 && strcmp(vendor, "intel") != 0)
		vendor = "";
	*out = json_pack("{s:s, s:s, s:I, s:b, s:o, s:o}", "cpu", kvm ? "kvm" : "soft", "vendor",
			 vendor, "tsc_hz", (json_int_t)tsc_hz, "tsc_scaling", (int)scaling,
			 "features", features, "items", items);
	return *out ? 0 : -ENOMEM;
}
