/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon lets a slice say. A slice runs a guest and may be anybody's by now; what reaches
 * the coordinator is built here from checked fields, so that a bad report ends its slice alone.
 */
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "node/node.h"

/* As the coordinator's limits on statistics. */
#define STATS_MAX      64
#define PAGE_STATS_MAX 8
#define KEY_MAX	       40
/* Reports but for the console's: a slice says something every second, and a little more at its start
 * and end. */
#define REPORTS_BURST	   100
#define REPORTS_PER_SECOND 20

static int bad(char *why, const char *what)
{
	snprintf(why, CONTROL_WHY_MAX, "%s", what);
	return -PANGEA_ECONTROL;
}

/* A sentence, printable and bounded. */
static int sentence_copy(const json_t *msg, const char *key, json_t *out, char *why)
{
	char text[CONTROL_WHY_MAX];
	const char *said;
	int err = control_get_string(msg, key, &said, why);

	if (err)
		return err;
	snprintf(text, sizeof(text), "%s", said);
	control_text_clean(text);
	json_object_set_new(out, key, json_string(text));
	return 0;
}

static int order_check(struct node_slice *slice, enum slice_said from, const char *type, char *why)
{
	if (slice->said != from) {
		snprintf(why, CONTROL_WHY_MAX, "%s out of order", type);
		return -PANGEA_ECONTROL;
	}
	slice->said = from + 1;
	return 0;
}

static int listening_check(struct node_slice *slice, const json_t *msg, json_t *out, char *why)
{
	const char *cpu;
	unsigned port;
	int err = order_check(slice, SAID_NOTHING, "slice-listening", why);

	if (err || (err = control_get_uint(msg, "port", 1, 65535, &port, why)))
		return err;
	json_object_set_new(out, "port", json_integer((json_int_t)port));
	if (!json_object_get(msg, "cpu"))
		return 0;
	if ((err = control_get_string(msg, "cpu", &cpu, why)))
		return err;
	if (strcmp(cpu, "kvm") != 0 && strcmp(cpu, "soft") != 0)
		return bad(why, "slice-listening names an unknown CPU engine");
	json_object_set_new(out, "cpu", json_string(cpu));
	return sentence_copy(msg, "cpu_why", out, why);
}

static int connected_check(struct node_slice *slice, const json_t *msg, json_t *out, char *why)
{
	json_t *list, *value;
	size_t i;
	int err = order_check(slice, SAID_LISTENING, "slice-connected", why);

	if (err || !json_object_get(msg, "rtt_ns"))
		return err;
	if ((err = control_get_array(msg, "rtt_ns", SLICES_MAX, &list, why)))
		return err;
	json_array_foreach(list, i, value)
	{
		if (!json_is_integer(value))
			return bad(why, "slice-connected: \"rtt_ns\" has more than integers");
	}
	json_object_set(out, "rtt_ns", list);
	if (!json_object_get(msg, "links"))
		return 0;
	if ((err = control_get_links(msg, &list, why)))
		return err;
	json_object_set(out, "links", list);
	return 0;
}

static int started_check(struct node_slice *slice, const json_t *msg, json_t *out, char *why)
{
	(void)msg;
	(void)out;
	return order_check(slice, SAID_CONNECTED, "slice-started", why);
}

/* The integers of an object; its other members but those named are none of a slice's. */
static int integers_copy(const json_t *from, size_t max, json_t *out, char *why)
{
	const char *key;
	json_t *value;
	size_t count = 0;

	json_object_foreach((json_t *)from, key, value)
	{
		if (strcmp(key, "type") == 0 || strcmp(key, "hottest") == 0 ||
		    strcmp(key, "fault_places") == 0)
			continue;
		if (!json_is_integer(value) || strlen(key) > KEY_MAX)
			return bad(why, "slice-stats has more than integers of short names");
		if (count++ == max)
			return bad(why, "slice-stats has too many statistics");
		json_object_set(out, key, value);
	}
	return 0;
}

static int integer_list_copy(const json_t *msg, const char *key, size_t max, json_t *out, char *why)
{
	json_t *list, *value;
	size_t i;
	int err = control_get_array(msg, key, max, &list, why);

	if (err)
		return err;
	json_array_foreach(list, i, value)
	{
		if (!json_is_integer(value))
			return bad(why, "slice-stats: a list has more than integers");
	}
	json_object_set(out, key, list);
	return 0;
}

static int stats_check(struct node_slice *slice, const json_t *msg, json_t *out, char *why)
{
	json_t *list, *page, *kept;
	size_t i;
	int err = integers_copy(msg, STATS_MAX, out, why);

	(void)slice;
	if (!err && json_object_get(msg, "fault_places"))
		err = integer_list_copy(msg, "fault_places", (size_t)2 * FAULT_PLACES_MAX, out,
					why);
	if (err || !json_object_get(msg, "hottest"))
		return err;
	if ((err = control_get_array(msg, "hottest", HOT_PAGES_MAX, &list, why)))
		return err;
	kept = json_array();
	json_object_set_new(out, "hottest", kept);
	json_array_foreach(list, i, page)
	{
		json_t *one = json_object();
		json_array_append_new(kept, one);
		if (!json_is_object(page))
			return bad(why, "slice-stats: a page is no object");
		if ((err = integers_copy(page, PAGE_STATS_MAX, one, why)))
			return err;
	}
	return 0;
}

static int exit_check(struct node_slice *slice, const json_t *msg, json_t *out, char *why)
{
	unsigned code;
	int err = control_get_uint(msg, "code", 0, 255, &code, why);

	if (err)
		return err;
	slice->said = SAID_EXIT;
	json_object_set_new(out, "code", json_integer((json_int_t)code));
	return sentence_copy(msg, "reason", out, why);
}

/* Not more than it was given. */
static int taken_check(struct node_slice *slice, const json_t *msg, json_t *out, char *why)
{
	uint64_t bytes;
	int err = control_get_u64(msg, "bytes", 1, INT64_MAX, &bytes, why);

	if (err)
		return err;
	if (bytes > slice->input_owed)
		return bad(why, "console-taken: more than it was given");
	slice->input_owed -= bytes;
	json_object_set_new(out, "bytes", json_integer((json_int_t)bytes));
	return 0;
}

/* A beat ends here: the coordinator hears only of those that do not come. */
static int beat_check(struct node_slice *slice, const json_t *msg, json_t *out, char *why)
{
	unsigned silent_s;
	int err = control_get_uint(msg, "engine_silent_s", 0, UINT32_MAX, &silent_s, why);

	(void)out;
	if (!err)
		silence_beat(slice, silent_s);
	return err;
}

static const struct {
	const char *type;
	int (*check)(struct node_slice *slice, const json_t *msg, json_t *out, char *why);
	bool counted;
} reports[] = {
	{"slice-listening", listening_check, true}, {"slice-connected", connected_check, true},
	{"slice-started", started_check, true},	    {"slice-stats", stats_check, true},
	{"slice-exit", exit_check, true},	    {"console-taken", taken_check, false},
	{"slice-beat", beat_check, true},
};

int report_check(struct node_slice *slice, const json_t *msg, json_t **out, char *why)
{
	for (size_t i = 0; i < sizeof(reports) / sizeof(reports[0]); i++) {
		if (!control_is(msg, reports[i].type))
			continue;
		if (slice->said == SAID_EXIT)
			return bad(why, "it went on after its slice-exit");
		if (reports[i].counted && !rate_allows(&slice->report_rate, clock_now_ns(),
						       REPORTS_BURST, REPORTS_PER_SECOND))
			return bad(why, "it reports without a pause");
		*out = json_pack("{s:s, s:s, s:i}", "type", reports[i].type, "vm", slice->vm,
				 "slice", (int)slice->index);
		int err = *out ? reports[i].check(slice, msg, *out, why) : -ENOMEM;
		if (err) {
			json_decref(*out);
			*out = NULL;
		}
		return err;
	}
	snprintf(why, CONTROL_WHY_MAX, "it sent an unknown message \"%.40s\"", control_type(msg));
	return -PANGEA_ECONTROL;
}
