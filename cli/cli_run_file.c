/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a VM's description: by libyaml into its document, whose nodes know their line and column; then each key is
 * looked up in the command's own table of options and taken as that option. What a value may be only the option knows.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <yaml.h>

#include "cli/cli.h"
#include "cli/run_file.h"

#define AT_MAX 600

struct reading {
	const struct run_description *file;
	yaml_document_t doc;
	char dir[STATE_PATH_MAX]; /* of the description, with its slash; "": the working one */
};

static void at_format(const struct reading *reading, const yaml_node_t *node, char at[AT_MAX])
{
	snprintf(at, AT_MAX, "%.500s:%zu:%zu", reading->file->path, node->start_mark.line + 1,
		 node->start_mark.column + 1);
}

/* "FILE:LINE:COLUMN: sentence"; returns the exit code. */
__attribute__((format(printf, 3, 4))) static int bad(const struct reading *reading,
						     const yaml_node_t *node, const char *fmt, ...)
{
	char at[AT_MAX], text[CONTROL_WHY_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	control_text_clean(text);
	at_format(reading, node, at);
	return cli_usage(at, "%s", text);
}

/* ---- words ---- */

static const char *scalar_of(const yaml_node_t *node)
{
	const char *text;

	if (!node || node->type != YAML_SCALAR_NODE)
		return NULL;
	text = (const char *)node->data.scalar.value;
	/* A zero byte would hide what follows. */
	return strlen(text) == node->data.scalar.length ? text : NULL;
}

/* true or false, unless it is quoted; -1: neither. */
static int flag_of(const yaml_node_t *node)
{
	const char *text = scalar_of(node);

	if (!text || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return -1;
	if (strcmp(text, "true") == 0)
		return 1;
	return strcmp(text, "false") == 0 ? 0 : -1;
}

/* The string as long as the command runs. */
static const char *string_keep(const struct reading *reading, const char *text)
{
	json_t *string = json_string(text);

	if (!string || json_array_append_new(reading->file->strings, string) < 0)
		return NULL;
	return json_string_value(string);
}

/* A path, from the description's own place on; null when it is too long. */
static const char *path_resolve(const struct reading *reading, const char *text, char *out,
				size_t size)
{
	int n;

	if (text[0] == '/' || !text[0])
		return text;
	n = snprintf(out, size, "%s%s", reading->dir, text);
	return n > 0 && (size_t)n < size ? out : NULL;
}

/* ---- a list's entry that is a map: the text that the option takes ---- */

struct text {
	char bytes[4096];
	size_t used;
	bool full;
};

static void text_add(struct text *text, const char *piece)
{
	size_t len = strlen(piece);

	text->full |= len >= sizeof(text->bytes) - text->used;
	if (text->full)
		return;
	memcpy(text->bytes + text->used, piece, len + 1);
	text->used += len;
}

/* The head of an entry; a comma in it is written twice. */
static int head_add(const struct reading *reading, const struct run_file_key *key,
		    const yaml_node_t *value, struct text *text)
{
	const char *word = scalar_of(value);
	char path[STATE_PATH_MAX * 2], one[2] = "";

	if (word && key->head_path)
		word = path_resolve(reading, word, path, sizeof(path));
	if (!word)
		return bad(reading, value, "\"%s\" is one word", key->head);
	for (; *word; word++) {
		one[0] = *word;
		text_add(text, one);
		if (*word == ',' && key->head_path)
			text_add(text, one);
	}
	return -1;
}

/* NAME=VALUE, or NAME alone for true. */
static int word_add(const struct reading *reading, const char *name, const yaml_node_t *value,
		    struct text *text)
{
	const char *word = scalar_of(value);
	int flag = flag_of(value);

	if (!word || strchr(word, ','))
		return bad(reading, value, "\"%s\" is one word without a comma", name);
	if (flag == 0)
		return -1;
	if (text->used)
		text_add(text, ",");
	text_add(text, name);
	if (flag < 0) {
		text_add(text, "=");
		text_add(text, word);
	}
	return -1;
}

/* One field of an entry, whose value may be a list. */
static int field_add(struct reading *reading, const char *name, const yaml_node_t *value,
		     struct text *text)
{
	int code = -1;

	if (value->type != YAML_SEQUENCE_NODE)
		return word_add(reading, name, value, text);
	for (yaml_node_item_t *item = value->data.sequence.items.start;
	     item < value->data.sequence.items.top && code < 0; item++)
		code = word_add(reading, name, yaml_document_get_node(&reading->doc, *item), text);
	return code;
}

static int map_text(struct reading *reading, const struct run_file_key *key, yaml_node_t *map,
		    struct text *text)
{
	bool headed = !key->head;
	int code = -1;

	/* The head first, wherever it stands. */
	for (int pass = 0; pass < 2; pass++) {
		for (yaml_node_pair_t *pair = map->data.mapping.pairs.start;
		     pair < map->data.mapping.pairs.top && code < 0; pair++) {
			yaml_node_t *name = yaml_document_get_node(&reading->doc, pair->key),
				    *value = yaml_document_get_node(&reading->doc, pair->value);
			const char *word = scalar_of(name);
			if (!word || strpbrk(word, ",="))
				return bad(reading, name, "a key is one word");
			bool head = key->head && strcmp(word, key->head) == 0;
			if (head != (pass == 0))
				continue;
			if (head && headed)
				return bad(reading, name, "\"%s\" stands here twice", word);
			headed |= head;
			code = head ? head_add(reading, key, value, text)
				    : field_add(reading, word, value, text);
		}
		if (!headed)
			return bad(reading, map, "\"%s\" is missing", key->head);
	}
	if (code < 0 && text->full)
		return bad(reading, map, "this is too long");
	return code;
}

/* ---- keys ---- */

static const struct run_file_key *key_find(const struct run_description *file, const char *name)
{
	static const struct run_file_key plain = {0};

	for (const struct run_file_key *key = file->keys; key->name; key++)
		if (strcmp(key->name, name) == 0)
			return key;
	return &plain;
}

static const struct option *option_find(const struct run_description *file, const char *name)
{
	for (const struct option *option = file->options; option->name; option++)
		if (strcmp(option->name, name) == 0 && run_file_key_is(name))
			return option;
	return NULL;
}

static int value_give(struct reading *reading, const struct option *option, const yaml_node_t *node,
		      const char *text)
{
	char at[AT_MAX];
	const char *kept = string_keep(reading, text);

	if (!kept)
		return bad(reading, node, "\"%s\" is no text in UTF-8", option->name);
	at_format(reading, node, at);
	return reading->file->take(reading->file->arg, option->val, kept, at);
}

/* A value, or an entry of a list. Where it begins with a path, what follows the path stays behind it. */
static int value_take(struct reading *reading, const struct option *option,
		      const struct run_file_key *key, yaml_node_t *node)
{
	char path[STATE_PATH_MAX * 2 + 4096];
	struct text text = {0};
	const char *word = scalar_of(node);
	int code;

	/* Nothing stands behind a plain path. */
	if (node->type == YAML_MAPPING_NODE && key->list && !key->path) {
		code = map_text(reading, key, node, &text);
		return code < 0 ? value_give(reading, option, node, text.bytes) : code;
	}
	if (!word)
		return bad(reading, node,
			   key->list && !key->path ? "an entry of \"%s\" is a text or a map"
						   : "\"%s\" is one word, or a text in quotes",
			   option->name);
	if (key->path || key->head_path)
		word = path_resolve(reading, word, path, sizeof(path));
	if (!word)
		return bad(reading, node, "this path is too long");
	return value_give(reading, option, node, word);
}

static int list_take(struct reading *reading, const struct option *option,
		     const struct run_file_key *key, yaml_node_t *node)
{
	int code = -1;

	if (node->type != YAML_SEQUENCE_NODE)
		return value_take(reading, option, key, node);
	for (yaml_node_item_t *item = node->data.sequence.items.start;
	     item < node->data.sequence.items.top && code < 0; item++)
		code = value_take(reading, option, key,
				  yaml_document_get_node(&reading->doc, *item));
	return code;
}

/* An option without a value: on, or off, which is as if it were not there. */
static int flag_take(struct reading *reading, const struct option *option, const yaml_node_t *node)
{
	int flag = flag_of(node);
	char at[AT_MAX];

	if (flag < 0)
		return bad(reading, node, "\"%s\" is true or false", option->name);
	at_format(reading, node, at);
	return flag ? reading->file->take(reading->file->arg, option->val, NULL, at) : -1;
}

static int pair_take(struct reading *reading, const yaml_node_pair_t *pair)
{
	yaml_node_t *name = yaml_document_get_node(&reading->doc, pair->key),
		    *value = yaml_document_get_node(&reading->doc, pair->value);
	const char *word = scalar_of(name);
	const struct option *option = word ? option_find(reading->file, word) : NULL;
	const struct run_file_key *key;

	if (!option)
		return bad(reading, name,
			   "there is no key \"%.60s\": keys are the options of "
			   "'pangea run', without the dashes",
			   word ? word : "?");
	key = key_find(reading->file, word);
	if (reading->file->said(reading->file->arg, option->val))
		return -1;
	if (option->has_arg == no_argument)
		return flag_take(reading, option, value);
	return key->list ? list_take(reading, option, key, value)
			 : value_take(reading, option, key, value);
}

/* YAML forbids the same key twice; libyaml does not look. */
static int twice_check(struct reading *reading, const yaml_node_t *map)
{
	const yaml_node_pair_t *start = map->data.mapping.pairs.start;

	for (const yaml_node_pair_t *pair = start; pair < map->data.mapping.pairs.top; pair++) {
		const yaml_node_t *node = yaml_document_get_node(&reading->doc, pair->key);
		const char *word = scalar_of(node);
		for (const yaml_node_pair_t *other = start; word && other < pair; other++) {
			const char *before =
				scalar_of(yaml_document_get_node(&reading->doc, other->key));
			if (before && strcmp(before, word) == 0)
				return bad(reading, node, "the key \"%.60s\" is there twice", word);
		}
	}
	return -1;
}

static int document_take(struct reading *reading)
{
	yaml_node_t *root = yaml_document_get_root_node(&reading->doc);
	int code;

	if (!root || root->type != YAML_MAPPING_NODE)
		return cli_usage(reading->file->path, "a VM is described by keys and values, as "
						      "'pangea vm example' shows");
	/* Each option stands there once at most, and then some that do not exist. */
	if (root->data.mapping.pairs.top - root->data.mapping.pairs.start > 256)
		return bad(reading, root, "more keys than there are options");
	code = twice_check(reading, root);
	for (yaml_node_pair_t *pair = root->data.mapping.pairs.start;
	     pair < root->data.mapping.pairs.top && code < 0; pair++)
		code = pair_take(reading, pair);
	return code;
}

static int parser_fails(const struct reading *reading, const yaml_parser_t *parser)
{
	char at[AT_MAX];

	snprintf(at, sizeof(at), "%.500s:%zu:%zu", reading->file->path,
		 parser->problem_mark.line + 1, parser->problem_mark.column + 1);
	return cli_usage(at, "%s", parser->problem ? parser->problem : "this is no YAML");
}

int run_file_read_stream(const struct run_description *file, FILE *stream)
{
	struct reading reading = {.file = file};
	const char *slash = strrchr(file->path, '/');
	yaml_parser_t parser;
	int code;

	if (slash && (size_t)(slash - file->path) + 2 > sizeof(reading.dir))
		return cli_usage(file->path, "its path is too long");
	if (slash)
		snprintf(reading.dir, sizeof(reading.dir), "%.*s", (int)(slash - file->path) + 1,
			 file->path);
	if (!yaml_parser_initialize(&parser))
		return EXIT_ERROR;
	yaml_parser_set_input_file(&parser, stream);
	if (!yaml_parser_load(&parser, &reading.doc)) {
		code = parser_fails(&reading, &parser);
	} else {
		code = document_take(&reading);
		yaml_document_delete(&reading.doc);
	}
	yaml_parser_delete(&parser);
	return code;
}

int run_file_read(const struct run_description *file)
{
	FILE *stream = fopen(file->path, "re");
	struct stat st;
	int code;

	if (!stream || fstat(fileno(stream), &st) < 0) {
		code = cli_usage(file->path, "cannot be read: %s", error_text(-errno));
	} else if (!S_ISREG(st.st_mode) || st.st_size > (off_t)RUN_FILE_BYTES_MAX) {
		code = cli_usage(file->path, "is no description of a VM: no file of 1 MiB at most");
	} else {
		code = run_file_read_stream(file, stream);
	}
	if (stream)
		fclose(stream);
	return code;
}
