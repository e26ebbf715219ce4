/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of a test's own with an authority in it, removed with what is below it. */
#ifndef TESTS_UNIT_PKI_PKI_RIG_H
#define TESTS_UNIT_PKI_PKI_RIG_H

#include <criterion/criterion.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pki/pki.h"

struct rig {
	char top[64], dir[96]; /* dir: the authority's, in top */
	struct pki_ca *ca;
	char why[PKI_WHY_MAX];
};

static inline int rig_remove(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline void rig_open(struct rig *rig)
{
	snprintf(rig->top, sizeof(rig->top), "/tmp/pangea-pki-XXXXXX");
	cr_assert(mkdtemp(rig->top));
	snprintf(rig->dir, sizeof(rig->dir), "%s/ca", rig->top);
	cr_assert_eq(pki_ca_init(rig->dir, "cluster-1", rig->why), 0, "%s", rig->why);
	cr_assert_eq(pki_ca_open(rig->dir, &rig->ca, rig->why), 0, "%s", rig->why);
}

static inline void rig_close(struct rig *rig)
{
	pki_ca_free(rig->ca);
	nftw(rig->top, rig_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* A member's directory below the rig's. */
static inline const char *rig_issue(struct rig *rig, const char *name, const struct pki_wish *wish,
				    struct pki_identity *id)
{
	static char path[160];

	snprintf(path, sizeof(path), "%s/%s", rig->top, name);
	cr_assert_eq(pki_ca_issue(rig->ca, path, wish, id, rig->why), 0, "%s", rig->why);
	return path;
}

#endif
