/* SPDX-License-Identifier: Apache-2.0 */
/* Project error codes and exit codes, each from one table; functions return 0 or a negative code.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <errno.h>

/*
 * Codes that errno has no word for. They start above every Linux errno (4095 is the kernel's
 * MAX_ERRNO), so a negative return is either -errno or -PANGEA_E..., never both.
 */
#define ERROR_TABLE(X)                                                                             \
	X(PANGEA_EPEERMAGIC, 5000, "the peer does not speak Pangea (wrong magic)")                 \
	X(PANGEA_EPEERVERSION, 5001, "the peer speaks another version of the protocol")            \
	X(PANGEA_EPEERFEATURES, 5002, "the peer lacks a required feature")                         \
	X(PANGEA_EPEERVM, 5003, "the peer belongs to another virtual machine")                     \
	X(PANGEA_EWIRE, 5004, "malformed message")                                                 \
	X(PANGEA_EWIRELEN, 5005, "message length beyond the limit")                                \
	X(PANGEA_EPROTOCOL, 5006, "the peer violated the coherence protocol")                      \
	X(PANGEA_EPEERLOST, 5007, "connection to the peer lost")                                   \
	X(PANGEA_EKERNEL, 5008, "not a bootable x86-64 kernel")                                    \
	X(PANGEA_EINITRD, 5009, "the initrd does not fit into guest memory")                       \
	X(PANGEA_ENOFIT, 5010, "the virtual machine does not fit on the nodes")                    \
	X(PANGEA_ENODELOST, 5011, "a node was lost")                                               \
	X(PANGEA_ECONTROL, 5012, "malformed control message")                                      \
	X(PANGEA_EUNKNOWN, 5013, "no such object")                                                 \
	X(PANGEA_EDRIVER, 5014, "the guest's driver broke the rules of its device")

#define X(name, value, text) name = (value),
enum pangea_error {
	ERROR_TABLE(X) PANGEA_ERROR_END
};
#undef X

/*
 * Exit codes of `pangea run` and of `pangea-vmm` (docs/man/pangea-run.1 lists the same).
 * 0 guest powered off; 1 usage or a local error; the others say how the guest ended.
 */
#define EXIT_TABLE(X)                                                                              \
	X(EXIT_OK, 0, "the guest powered off")                                                     \
	X(EXIT_ERROR, 1, "error")                                                                  \
	X(EXIT_USAGE, 2, "wrong usage")                                                            \
	X(EXIT_UNREACHABLE, 3, "the coordinator cannot be reached")                                \
	X(EXIT_NOFIT, 4, "the virtual machine does not fit on the nodes")                          \
	X(EXIT_IMAGE, 5, "the kernel or initrd cannot be used")                                    \
	X(EXIT_REFUSED, 6, "the coordinator refused the connection")                               \
	X(EXIT_PANIC, 10, "the guest kernel panicked")                                             \
	X(EXIT_TRIPLE_FAULT, 11, "the guest ended in a triple fault")                              \
	X(EXIT_RESET, 12, "the guest asked for a reset")                                           \
	X(EXIT_NODE_LOST, 13, "a node or slice was lost")                                          \
	X(EXIT_STOPPED, 14, "the virtual machine was stopped from outside")                        \
	X(EXIT_GUEST_FAILED, 15, "the guest program failed")                                       \
	X(EXIT_SKIP, 77, "cannot run here (skipped)")

#define X(name, value, text) name = (value),
enum exit_code {
	EXIT_TABLE(X)
};
#undef X

/* The sentence for a negative error code (errno's or ours); static storage, any thread. */
const char *error_text(int err);
/* The symbolic name of a code ("PANGEA_EWIRE", "EINVAL"); static storage, any thread. */
const char *error_name(int err);
/* The sentence for an exit code; static storage, any thread. */
const char *exit_text(int code);

#endif
