/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the symbols of a guest's Linux, and finds those of a page or of an address. */
#include "cli/symbols.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

#define READ_STEP (UINT64_C(1) << 20)
/* What Linux leaves above its image for modules, and more. */
#define FUNCTION_MAX (UINT64_C(1) << 20)

struct entry {
	uint64_t address;
	uint32_t name; /* in text */
	char type;
};

/* Parts of the image whose pages Linux frees after the boot (free_initmem, mark_rodata_ro). */
static const struct {
	const char *start, *end;
} freed[] = {
	{"__init_begin", "__init_end"},
	{"_etext", "__start_rodata"},
	{"__end_rodata", "_sdata"},
};
#define FREED (sizeof(freed) / sizeof(freed[0]))

struct range {
	uint64_t start, end;
};

struct symbols {
	char *text;
	size_t size;
	struct entry *list; /* by address; those of one address as in the file */
	size_t count, room;
	struct range image; /* _text.._end */
	struct range hole[FREED];
	uint64_t text_gpa;
};

static int fail(char *why, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static int fail(char *why, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, SYMBOLS_WHY_MAX, fmt, ap);
	va_end(ap);
	return err;
}

/* ---- Reading --------------------------------------------------------------------------------- */

/* The file as a string. A pipe will do: its size is found by reading. */
static int text_read(struct symbols *s, FILE *in, char *why)
{
	for (size_t room = 0;;) {
		if (s->size + 1 >= room) {
			char *grown = realloc(s->text, room += READ_STEP);

			if (!grown)
				return fail(why, -ENOMEM, "no memory for it");
			s->text = grown;
		}
		s->size += fread(s->text + s->size, 1, room - 1 - s->size, in);
		if (s->size > SYMBOLS_FILE_MAX)
			return fail(why, -EFBIG, "it has more than %u MiB: no list of symbols has",
				    SYMBOLS_FILE_MAX >> 20);
		if (ferror(in))
			return fail(why, -EIO, "it cannot be read");
		if (feof(in))
			break;
	}
	s->text[s->size] = '\0';
	return 0;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\0';
}

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* A line "ADDRESS TYPE NAME", perhaps with "[MODULE]" behind it; its end is a NUL already. Cuts the name
 * off from what follows. */
static bool line_parse(char *line, struct entry *entry, char **name)
{
	size_t digits = 0, len = 0;

	entry->address = 0;
	for (; digits < 16 && hex_value(line[digits]) >= 0; digits++)
		entry->address = entry->address << 4 | (unsigned)hex_value(line[digits]);
	if (digits < 8 || line[digits] != ' ')
		return false;
	entry->type = line[digits + 1];
	if (!entry->type || line[digits + 2] != ' ')
		return false;
	*name = line + digits + 3;
	while (!is_blank((*name)[len]))
		if ((unsigned char)(*name)[len++] < ' ')
			return false;
	(*name)[len] = '\0';
	return len > 0 && len < SYMBOLS_NAME_MAX;
}

static bool is_text(char type)
{
	return memchr("tTwW", type, 4) != NULL;
}

/* Absolute symbols and undefined ones lie nowhere. */
static bool has_place(char type)
{
	return is_text(type) || memchr("dDbBrRvVgGsS", type, 12) != NULL;
}

static int entry_add(struct symbols *s, const struct entry *entry, char *why)
{
	if (s->count == SYMBOLS_COUNT_MAX)
		return fail(why, -EFBIG, "it has more than %u symbols: no kernel has",
			    SYMBOLS_COUNT_MAX);
	if (s->count == s->room) {
		size_t room = s->room ? s->room * 2 : 4096;
		struct entry *grown = realloc(s->list, room * sizeof(*grown));

		if (!grown)
			return fail(why, -ENOMEM, "no memory for it");
		s->list = grown;
		s->room = room;
	}
	s->list[s->count++] = *entry;
	return 0;
}

/* What the lines have said, beside the symbols. */
struct seen {
	size_t lines;	/* of symbols */
	size_t nonzero; /* addresses */
	bool stub;	/* Debian's System.map, which says where the real one is */
};

static int line_take(struct symbols *s, char *line, struct seen *seen, char *why)
{
	struct entry entry;
	char *name;

	if (strstr(line, "The real System.map is in")) {
		seen->stub = true;
		return 0;
	}
	if (!line_parse(line, &entry, &name))
		return 0;
	seen->lines++;
	if (!entry.address)
		return 0;
	seen->nonzero++;
	entry.name = (uint32_t)(name - s->text);
	return has_place(entry.type) ? entry_add(s, &entry, why) : 0;
}

static int lines_take(struct symbols *s, struct seen *seen, char *why)
{
	char *line = s->text, *end = s->text + s->size;
	int err = 0;

	while (!err && line < end) {
		char *eol = memchr(line, '\n', (size_t)(end - line));

		if (!eol)
			eol = end;
		*eol = '\0';
		err = line_take(s, line, seen, why);
		line = eol + 1;
	}
	return err;
}

/* ---- What it says as a whole ----------------------------------------------------------------- */

static int entry_compare(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->address != y->address)
		return x->address < y->address ? -1 : 1;
	return (x->name > y->name) - (x->name < y->name);
}

/* 0: there is none. */
static uint64_t address_of(const struct symbols *s, const char *name)
{
	for (size_t i = 0; i < s->count; i++)
		if (strcmp(s->text + s->list[i].name, name) == 0)
			return s->list[i].address;
	return 0;
}

static int seen_check(const struct seen *seen, char *why)
{
	if (seen->stub)
		return fail(why, -EINVAL,
			    "it is a placeholder without symbols: take a copy of the guest's "
			    "/proc/kallsyms, or "
			    "the System.map of the package linux-image-VERSION-dbg");
	if (!seen->lines)
		return fail(why, -EINVAL,
			    "no line of it is a symbol: give a System.map or a copy of the guest's "
			    "/proc/kallsyms");
	if (!seen->nonzero)
		return fail(why, -EINVAL,
			    "all addresses in it are 0, since the guest hides them: copy "
			    "/proc/kallsyms as root "
			    "after 'sysctl -w kernel.kptr_restrict=1'");
	return 0;
}

static int places_find(struct symbols *s, uint64_t text_gpa, char *why)
{
	s->image.start = address_of(s, "_text");
	s->image.end = address_of(s, "_end");
	if (!s->image.start || s->image.end <= s->image.start)
		return fail(why, -EINVAL,
			    "the kernel's own symbols _text and _end are not in it: give the whole "
			    "file");
	if (text_gpa == SYMBOLS_BASE_UNKNOWN) {
		if (s->image.start != SYMBOLS_MAP_START + SYMBOLS_TEXT_GPA)
			return fail(why, -EINVAL,
				    "its kernel has _text at %#llx, not where it is without KASLR: "
				    "boot with "
				    "'nokaslr', or give with --symbols-base where \"Kernel code\" "
				    "begins in the "
				    "guest's /proc/iomem",
				    (unsigned long long)s->image.start);
		text_gpa = SYMBOLS_TEXT_GPA;
	}
	s->text_gpa = text_gpa;
	for (size_t i = 0; i < FREED; i++) {
		s->hole[i].start = address_of(s, freed[i].start);
		s->hole[i].end = address_of(s, freed[i].end);
	}
	return 0;
}

int symbols_read(FILE *in, uint64_t text_gpa, struct symbols **out, char why[SYMBOLS_WHY_MAX])
{
	struct symbols *s = calloc(1, sizeof(*s));
	struct seen seen = {0};
	int err;

	if (!s)
		return fail(why, -ENOMEM, "no memory for it");
	err = text_read(s, in, why);
	if (!err)
		err = lines_take(s, &seen, why);
	if (!err)
		err = seen_check(&seen, why);
	if (!err && s->count)
		qsort(s->list, s->count, sizeof(*s->list), entry_compare);
	if (!err)
		err = places_find(s, text_gpa, why);
	if (err)
		symbols_free(s);
	else
		*out = s;
	return err;
}

void symbols_free(struct symbols *symbols)
{
	if (!symbols)
		return;
	free(symbols->list);
	free(symbols->text);
	free(symbols);
}

/* ---- Pages and addresses --------------------------------------------------------------------- */

/* The first symbol at or above an address. */
static size_t entry_find(const struct symbols *s, uint64_t address)
{
	size_t low = 0, high = s->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (s->list[middle].address < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* Where a symbol ends at the latest: where the next one begins. */
static uint64_t entry_end(const struct symbols *s, size_t at)
{
	size_t next = entry_find(s, s->list[at].address + 1);

	return next < s->count ? s->list[next].address : s->list[at].address;
}

/* The virtual addresses of a page of the image that stays the image's; false: it is none. */
static bool page_range(const struct symbols *s, uint64_t gfn, struct range *page)
{
	uint64_t image = s->image.start & ~(uint64_t)(PANGEA_PAGE_SIZE - 1);
	uint64_t first = s->text_gpa >> PAGE_SHIFT;

	if (gfn < first || gfn - first > (s->image.end - image) >> PAGE_SHIFT)
		return false;
	page->start = image + ((gfn - first) << PAGE_SHIFT);
	page->end = page->start + PANGEA_PAGE_SIZE;
	for (size_t i = 0; i < FREED; i++)
		if (s->hole[i].start && page->start >= s->hole[i].start &&
		    page->end <= s->hole[i].end)
			return false;
	return page->start < s->image.end;
}

/* The symbols of a page: [*first, return). */
static size_t page_symbols(const struct symbols *s, const struct range *page, size_t *first)
{
	size_t end = entry_find(s, page->end < s->image.end ? page->end : s->image.end);
	size_t begin = entry_find(s, page->start);

	/* What began before and reaches here: all of the last address before, if none is at the
	 * page's start. */
	if (begin && (begin == s->count || s->list[begin].address > page->start))
		begin = entry_find(s, s->list[begin - 1].address);
	if (begin < s->count && s->list[begin].address < s->image.start)
		begin = entry_find(s, s->image.start);
	*first = begin;
	return end > begin ? end : begin;
}

size_t symbols_page_count(const struct symbols *symbols, uint64_t gfn)
{
	struct range page;
	size_t first;

	if (!page_range(symbols, gfn, &page))
		return 0;
	return page_symbols(symbols, &page, &first) - first;
}

static struct symbol page_symbol(const struct symbols *s, const struct range *page, size_t at)
{
	uint64_t start = s->list[at].address, end = entry_end(s, at);
	struct symbol symbol = {.name = s->text + s->list[at].name, .type = s->list[at].type};

	if (start < page->start) {
		symbol.offset = page->start - start;
		start = page->start;
	}
	symbol.bytes = (end < page->end ? end : page->end) - start;
	return symbol;
}

struct symbol symbols_page_get(const struct symbols *symbols, uint64_t gfn, size_t n)
{
	struct range page;
	size_t first, end;

	if (!page_range(symbols, gfn, &page))
		return (struct symbol){0};
	end = page_symbols(symbols, &page, &first);
	return n < end - first ? page_symbol(symbols, &page, first + n) : (struct symbol){0};
}

/* Of those of one address the first that is no mark of the linker's (_sdata, __bss_start). */
static size_t address_best(const struct symbols *s, size_t at, size_t end)
{
	for (size_t i = at; i < end; i++)
		if (s->text[s->list[i].name] != '_')
			return i;
	return at;
}

/* The order of a table: what begins on the page, the largest first, then what reaches into it. */
static bool symbol_before(const struct symbol *a, const struct symbol *b)
{
	if (!a->offset != !b->offset)
		return !a->offset;
	return a->bytes > b->bytes;
}

size_t symbols_page_first(const struct symbols *symbols, uint64_t gfn, struct symbol *list,
			  size_t max, size_t *more)
{
	size_t count = 0, at, end, next;
	struct range page;

	*more = 0;
	if (!page_range(symbols, gfn, &page))
		return 0;
	end = page_symbols(symbols, &page, &at);
	for (; at < end; at = next) {
		for (next = at; next < end; next++)
			if (symbols->list[next].address != symbols->list[at].address)
				break;
		struct symbol symbol = page_symbol(symbols, &page, address_best(symbols, at, next));
		size_t place = count;

		while (place && symbol_before(&symbol, &list[place - 1]))
			place--;
		*more += count == max;
		count += count < max;
		for (size_t i = count; i-- > place + 1;)
			list[i] = list[i - 1];
		if (place < count)
			list[place] = symbol;
	}
	return count;
}

struct symbol symbols_function(const struct symbols *symbols, uint64_t address)
{
	size_t at = entry_find(symbols, address + 1);
	struct symbol symbol = {0};
	uint64_t start;

	if (!at || address + 1 == 0)
		return symbol;
	start = symbols->list[at - 1].address;
	for (at = entry_find(symbols, start); at < symbols->count; at++) {
		const struct entry *entry = &symbols->list[at];

		if (entry->address != start)
			break;
		if (!is_text(entry->type) || address - start >= FUNCTION_MAX)
			continue;
		symbol = (struct symbol){symbols->text + entry->name, address - start, 0,
					 entry->type};
		if (symbol.name[0] != '_')
			break;
	}
	return symbol;
}
