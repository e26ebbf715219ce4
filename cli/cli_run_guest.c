/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the micro-guests that are installed with this program. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/run.h"

/* In a build's folder; installed, wherever that is; installed by packages. */
#define GUESTS_BUILT	 "guests"
#define GUESTS_BESIDE	 "lib/pangea/guests"
#define GUESTS_INSTALLED "/usr/lib/pangea/guests"
#define GUESTS_DIRS	 3
/* Names in the sentence about an unknown one. */
#define LIST_BYTES 700

/* A regular file that begins as ELF files do. */
static bool program_is(const char *path)
{
	FILE *file = fopen(path, "re");
	char magic[4] = "";
	struct stat st;
	bool is = file && fstat(fileno(file), &st) == 0 && S_ISREG(st.st_mode) &&
		  fread(magic, sizeof(magic), 1, file) == 1 && memcmp(magic, "\177ELF", 4) == 0;

	if (file)
		fclose(file);
	return is;
}

/* (Directory of this program)/../PLACE; empty if it cannot be known. */
static void beside(const char *place, char *dir, size_t size)
{
	char self[STATE_PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	char *slash;

	dir[0] = 0;
	self[n > 0 ? n : 0] = 0;
	slash = strrchr(self, '/');
	if (!slash)
		return;
	*slash = 0;
	snprintf(dir, size, "%s/../%s", self, place);
}

static void guests_add(const char *dir, char *list, size_t size)
{
	struct dirent **entries;
	char path[4 * STATE_PATH_MAX];
	int count = scandir(dir, &entries, NULL, alphasort);

	for (int i = 0; i < count; i++) {
		size_t used = strlen(list);
		snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name);
		if (control_name_valid(entries[i]->d_name) && program_is(path))
			snprintf(list + used, size - used, "%s%s", used ? ", " : "",
				 entries[i]->d_name);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
}

int run_guest_find(const char *name, char *path, size_t size)
{
	char dirs[GUESTS_DIRS][STATE_PATH_MAX + 32] = {"", "", GUESTS_INSTALLED};
	char list[LIST_BYTES] = "";

	beside(GUESTS_BUILT, dirs[0], sizeof(dirs[0]));
	beside(GUESTS_BESIDE, dirs[1], sizeof(dirs[1]));
	/* The same folder by two names is one. */
	if (strcmp(dirs[1], "/usr/bin/../" GUESTS_BESIDE) == 0)
		dirs[1][0] = 0;
	for (int i = 0; i < GUESTS_DIRS; i++) {
		if (!dirs[i][0] || !control_name_valid(name))
			continue;
		snprintf(path, size, "%s/%s", dirs[i], name);
		if (program_is(path))
			return 0;
	}
	for (int i = 0; i < GUESTS_DIRS; i++)
		if (dirs[i][0])
			guests_add(dirs[i], list, sizeof(list));
	if (list[0])
		cli_say("there is no micro-guest \"%.60s\"; there are: %s", name, list);
	else
		cli_say("there is no micro-guest \"%.60s\", nor any other in %s or %s", name,
			dirs[0], dirs[1]);
	return EXIT_IMAGE;
}
