/* SPDX-License-Identifier: Apache-2.0 */
/* What sfdisk and debugfs say of an image, and how distributions name kernels; the image is trusted in nothing. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/image.h"

/* The digits at the end of "/proc/self/fd/3p15"; 0 if there are none. */
static unsigned part_number(const char *node)
{
	size_t len = node ? strlen(node) : 0;
	unsigned number = 0;

	while (len && node[len - 1] >= '0' && node[len - 1] <= '9')
		len--;
	if (!node || control_uint_parse(node + len, 1, 9999, &number) < 0)
		return 0;
	return number;
}

/* One partition within the image; false: it is not. */
static bool part_take(const json_t *one, uint64_t sector, uint64_t image_bytes,
		      struct image_part *out)
{
	json_int_t start = json_integer_value(json_object_get(one, "start"));
	json_int_t size = json_integer_value(json_object_get(one, "size"));
	uint64_t sectors = image_bytes / sector;

	if (start <= 0 || size <= 0 || (uint64_t)start >= sectors ||
	    (uint64_t)size > sectors - (uint64_t)start)
		return false;
	out->number = part_number(json_string_value(json_object_get(one, "node")));
	out->start = (uint64_t)start * sector;
	out->bytes = (uint64_t)size * sector;
	return out->number > 0;
}

int image_parts_parse(const char *text, size_t len, uint64_t image_bytes,
		      struct image_part parts[IMAGE_PARTS_MAX])
{
	json_t *all = json_loadb(text, len, 0, NULL), *one;
	const json_t *table = json_object_get(all, "partitiontable");
	const json_t *list = json_object_get(table, "partitions");
	const json_t *sector = json_object_get(table, "sectorsize");
	uint64_t sector_bytes = sector ? (uint64_t)json_integer_value(sector) : 512;
	int count = 0;
	size_t i;

	if (!json_is_array(list) || (sector_bytes != 512 && sector_bytes != 4096)) {
		json_decref(all);
		return -EINVAL;
	}
	json_array_foreach(list, i, one) if (count < IMAGE_PARTS_MAX) count +=
		part_take(one, sector_bytes, image_bytes, &parts[count]);
	json_decref(all);
	return count;
}

/* No name that means anything to a shell, a path or a terminal. */
bool image_name_plain(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz"
				  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+~-");

	return len > 0 && !name[len] && name[0] != '.' && name[0] != '-';
}

static bool number_take(const char *text, int base, uint64_t max, uint64_t *out)
{
	char *end;

	if (text[0] < '0' || text[0] > '9' || strlen(text) > 20)
		return false;
	errno = 0;
	*out = strtoull(text, &end, base);
	return !errno && !*end && *out <= max;
}

/* "/INODE/MODE/UID/GID/NAME/SIZE/", a directory's size being empty. */
bool image_entry_parse(const char *line, size_t len, struct image_entry *out)
{
	char copy[IMAGE_NAME_MAX + 128], *field[6], *at = copy;
	uint64_t inode, mode, bytes = 0;

	if (len < 2 || len >= sizeof(copy) || line[0] != '/' || line[len - 1] != '/' ||
	    memchr(line, 0, len))
		return false;
	memcpy(copy, line + 1, len - 2);
	copy[len - 2] = 0;
	for (int i = 0; i < 6; i++) {
		field[i] = strsep(&at, "/");
		if (!field[i])
			return false;
	}
	if (at || !number_take(field[0], 10, UINT32_MAX, &inode) || !inode ||
	    !number_take(field[1], 8, 0177777, &mode) ||
	    (field[5][0] && !number_take(field[5], 10, INT64_MAX, &bytes)) ||
	    strlen(field[4]) > IMAGE_NAME_MAX || !image_name_plain(field[4]))
		return false;
	memset(out, 0, sizeof(*out));
	out->inode = (uint32_t)inode;
	out->directory = (mode & 0170000) == 0040000;
	out->regular = (mode & 0170000) == 0100000;
	out->bytes = bytes;
	memcpy(out->name, field[4], strlen(field[4]));
	return true;
}

bool image_entry_next(const char **at, const char *end, struct image_entry *out)
{
	while (*at < end) {
		const char *line = *at;
		const char *stop = memchr(line, '\n', (size_t)(end - line));
		size_t len = stop ? (size_t)(stop - line) : (size_t)(end - line);

		*at = stop ? stop + 1 : end;
		if (image_entry_parse(line, len, out))
			return true;
	}
	return false;
}

#define KERNEL_PREFIX "vmlinuz-"

bool image_kernel_newer(const char *name, const char *best)
{
	const size_t prefix = strlen(KERNEL_PREFIX);

	/* Rescue kernels of Fedora's are named by a number that is no version. */
	if (strncmp(name, KERNEL_PREFIX, prefix) != 0 || !name[prefix] || strstr(name, "rescue") ||
	    strstr(name, ".old"))
		return false;
	return !best || strverscmp(name + prefix, best + prefix) > 0;
}

bool image_initrd_fits(const char *name, const char *kernel)
{
	static const struct {
		const char *before, *behind;
	} forms[] = {{"initrd.img-", ""}, {"initramfs-", ".img"}, {"initrd-", ""}};
	const char *version = kernel + strlen(KERNEL_PREFIX);
	char text[2 * IMAGE_NAME_MAX];

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		snprintf(text, sizeof(text), "%s%s%s", forms[i].before, version, forms[i].behind);
		if (strcmp(name, text) == 0)
			return true;
	}
	return false;
}

const char *image_magic(const uint8_t *head, size_t len)
{
	static const struct {
		const char *name;
		size_t at, bytes;
		const char *magic;
	} known[] = {
		{"ext", 1080, 2, "\x53\xef"},		{"xfs", 0, 4, "XFSB"},
		{"btrfs", 0x10040, 8, "_BHRfS_M"},	{"LVM", 512, 8, "LABELONE"},
		{"LUKS", 0, 6, "LUKS\xba\xbe"},		{"squashfs", 0, 4, "hsqs"},
		{"erofs", 1024, 4, "\xe2\xe1\xf5\xe0"}, {"f2fs", 1024, 4, "\x10\x20\xf5\xf2"},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (known[i].at + known[i].bytes <= len &&
		    memcmp(head + known[i].at, known[i].magic, known[i].bytes) == 0)
			return known[i].name;
	return "";
}

void image_ext_uuid(const uint8_t *head, char out[IMAGE_UUID_TEXT])
{
	const uint8_t *uuid = head + 1024 + 104;
	int used = 0;

	for (int i = 0; i < 16; i++)
		used += snprintf(out + used, (size_t)(IMAGE_UUID_TEXT - used), "%s%02x",
				 i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
}
