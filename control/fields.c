/* SPDX-License-Identifier: Apache-2.0 */
/* Typed, checked access to the fields of a control message. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "control/control.h"

const char *control_type(const json_t *msg)
{
	const char *type = json_string_value(json_object_get(msg, "type"));

	return type ? type : "";
}

bool control_is(const json_t *msg, const char *type)
{
	return strcmp(control_type(msg), type) == 0;
}

static int field_bad(const json_t *msg, const char *key, const char *what, char *why)
{
	const char *type = control_type(msg);

	snprintf(why, CONTROL_WHY_MAX, "malformed control message: %.40s%s\"%s\" %s", type,
		 type[0] ? ": " : "", key, what);
	return -PANGEA_ECONTROL;
}

int control_get_string(const json_t *msg, const char *key, const char **out, char *why)
{
	const json_t *field = json_object_get(msg, key);

	if (!json_is_string(field))
		return field_bad(msg, key, "is missing or no string", why);
	*out = json_string_value(field);
	return 0;
}

int control_get_name(const json_t *msg, const char *key, const char **out, char *why)
{
	const char *name = NULL;
	int err = control_get_string(msg, key, &name, why);

	if (err)
		return err;
	if (!control_name_valid(name))
		return field_bad(msg, key,
				 "is no name (1 to 63 of a-z, 0-9 and '-', not first '-')", why);
	*out = name;
	return 0;
}

int control_get_u64(const json_t *msg, const char *key, uint64_t min, uint64_t max, uint64_t *out,
		    char *why)
{
	const json_t *field = json_object_get(msg, key);
	json_int_t value;
	char what[96];

	if (!json_is_integer(field))
		return field_bad(msg, key, "is missing or no integer", why);
	value = json_integer_value(field);
	if (value < 0 || (uint64_t)value < min || (uint64_t)value > max) {
		snprintf(what, sizeof(what), "is %lld, outside %llu..%llu", (long long)value,
			 (unsigned long long)min, (unsigned long long)max);
		return field_bad(msg, key, what, why);
	}
	*out = (uint64_t)value;
	return 0;
}

int control_get_uint(const json_t *msg, const char *key, unsigned min, unsigned max, unsigned *out,
		     char *why)
{
	uint64_t value;
	int err = control_get_u64(msg, key, min, max, &value, why);

	if (!err)
		*out = (unsigned)value;
	return err;
}

int control_get_bool(const json_t *msg, const char *key, bool *out, char *why)
{
	const json_t *field = json_object_get(msg, key);

	if (!json_is_boolean(field))
		return field_bad(msg, key, "is missing or neither true nor false", why);
	*out = json_is_true(field);
	return 0;
}

int control_get_array(const json_t *msg, const char *key, size_t max, json_t **out, char *why)
{
	json_t *field = json_object_get(msg, key);
	char what[64];

	if (!json_is_array(field))
		return field_bad(msg, key, "is missing or no array", why);
	if (json_array_size(field) > max) {
		snprintf(what, sizeof(what), "has %zu entries, at most %zu are allowed",
			 json_array_size(field), max);
		return field_bad(msg, key, what, why);
	}
	*out = field;
	return 0;
}

int control_get_id(const json_t *msg, const char *key, uint64_t *out, char *why)
{
	const char *text = NULL;
	int err = control_get_string(msg, key, &text, why);

	if (err)
		return err;
	for (unsigned i = 0; i < 16; i++)
		if (!isxdigit((unsigned char)text[i]))
			return field_bad(msg, key, "is not 16 hexadecimal digits", why);
	if (text[16])
		return field_bad(msg, key, "is not 16 hexadecimal digits", why);
	*out = strtoull(text, NULL, 16);
	return 0;
}

json_t *control_id_json(uint64_t id)
{
	char text[17];

	snprintf(text, sizeof(text), "%016" PRIx64, id);
	return json_string(text);
}

static bool link_word(const char *word)
{
	static const char *const words[] = {"", "shm", "rdma", "tls", "tls(kernel)", "tcp"};

	for (size_t i = 0; word && i < sizeof(words) / sizeof(words[0]); i++)
		if (strcmp(word, words[i]) == 0)
			return true;
	return false;
}

int control_get_links(const json_t *msg, json_t **out, char *why)
{
	json_t *list, *word;
	size_t i;
	int err = control_get_array(msg, "links", SLICES_MAX, &list, why);

	if (err)
		return err;
	json_array_foreach(list, i, word)
	{
		if (link_word(json_string_value(word)))
			continue;
		snprintf(why, CONTROL_WHY_MAX,
			 "malformed control message: \"links\" has an unknown word");
		return -PANGEA_ECONTROL;
	}
	*out = list;
	return 0;
}
