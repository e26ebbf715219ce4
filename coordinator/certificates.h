/* SPDX-License-Identifier: Apache-2.0 */
/* The coordinator's own certificate, the revocations it goes by, and what it issues to others. */
#ifndef COORDINATOR_CERTIFICATES_H
#define COORDINATOR_CERTIFICATES_H

#include "control/control.h"

/* One thread, the loop's. Zeroed: no TLS, nothing is issued. */
struct certificates {
	char dir[PKI_PATH_MAX];
	struct control_tls *tls; /* null: plaintext */
	const char *ca_dir;	 /* null: it issues nothing */
	struct pki_ca *ca;
	uint64_t stamp, ca_stamp; /* of the directories when they were read last */
};

/* Reads the directory (null: the usual one), and that of an authority (null: none). 0, or -errno, having
 * logged what mends it. */
int certificates_open(struct certificates *certs, const char *dir, const char *ca_dir);
void certificates_close(struct certificates *certs);
/*
 * Looks whether the directories have changed (or as if, when asked), whether the own certificate must be
 * renewed, and reads them again. True: who is connected must be judged again and told the revocations.
 */
bool certificates_refresh(struct certificates *certs, bool asked);
/* The answers to join and renew, new references; null, and a sentence for the peer. A join's token is used
 * up before anything is signed. */
json_t *certificates_join(struct certificates *certs, const json_t *msg, char *why);
json_t *certificates_renew(struct certificates *certs, const struct pki_identity *id,
			   const json_t *msg, char *why);
/* The message with the revocations; null: there is no list. */
json_t *certificates_revocations(const struct certificates *certs);

#endif
