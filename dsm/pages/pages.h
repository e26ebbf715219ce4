/* SPDX-License-Identifier: Apache-2.0 */
/* Guest memory under the protocol: one memfd mapped twice, and userfaultfd on what vCPUs use. */
#ifndef DSM_PAGES_H
#define DSM_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

/*
 * G is the mapping that vCPUs use: registered with userfaultfd, every page invalid at first. A, the
 * alias, shows the same frames and is never registered: the engine reads and writes frames there
 * whatever G's state is. Both are sparse; a page costs memory once its frame was touched.
 *
 * Threads: the operations belong to one owner (the engine thread), which must never touch G.
 * G itself is for any other thread.
 */
struct pages;

/* A fault that a thread waits in. */
struct page_fault {
	uint64_t gfn;
	uint32_t tid; /* the thread */
	bool write;
};

/* Faults that one read takes at most. */
#define PAGE_FAULTS_MAX 16

/* Whose faults on G are told, and whether all of them are. */
enum pages_use {
	/* Those of threads that run user code: needs no privilege. */
	PAGES_USER = 0,
	/* Those that the kernel takes for a thread, as KVM does, too: needs one (pages_create). */
	PAGES_KERNEL = 1,
	/* Added to either: nobody else has this memory. Every page is mapped from the start, by the
	 * host, and no fault is told but on pages between pages_unmap and pages_map_exclusive. */
	PAGES_ALONE = 2,
};
/* Pages that may be unmapped at a time with PAGES_ALONE. */
#define PAGES_ALONE_MAX 2u

/*
 * Reserves the address space for guest memory up to ram_end (a multiple of the page size; not
 * inside the hole) and, but for PAGES_ALONE, registers it. PAGES_KERNEL takes a privilege
 * (/dev/userfaultfd, CAP_SYS_PTRACE, or vm.unprivileged_userfaultfd=1). The reason for a refusal is
 * logged as a sentence. Behind G the address space up to pages_ram() + room_end is reserved too,
 * inaccessible: its owner may map there what he likes, and it goes with G. 0: none. Errors: -EINVAL, -ENOMEM, -EPERM (userfaultfd refused), -ENOSYS (kernel too
 * old), others of the calls.
 */
int pages_create(uint64_t ram_end, uint64_t room_end, enum pages_use use, struct pages **out);
/* Unregisters and unmaps. Threads that still wait in a fault run into unmapped memory. */
void pages_destroy(struct pages *pages);

/* G: the page of gpa is at pages_ram() + gpa. The hole is inaccessible: SIGSEGV, not a hang. */
uint8_t *pages_ram(const struct pages *pages);
/* The frame of gfn in A; gfn must be RAM. */
uint8_t *pages_frame(const struct pages *pages, uint64_t gfn);
/* Is gfn RAM (not in the hole, not beyond the end)? */
bool pages_is_ram(const struct pages *pages, uint64_t gfn);

/* The descriptor that becomes readable when a fault waits (non-blocking). */
int pages_fault_fd(const struct pages *pages);
/* Takes waiting faults; returns how many (0: none), or a negative errno. */
int pages_read_faults(struct pages *pages, struct page_fault faults[PAGE_FAULTS_MAX]);

/*
 * The transitions of a page in G. All wake the threads that wait for the page where the new state
 * lets them go on. They are idempotent: a page that is mapped already stays mapped. Each returns 0
 * or a negative errno, which means that the host is out of memory or the page is not RAM.
 */
int pages_map_shared(struct pages *pages, uint64_t gfn);    /* invalid -> readable */
int pages_map_exclusive(struct pages *pages, uint64_t gfn); /* invalid -> writable */
int pages_upgrade(struct pages *pages, uint64_t gfn);	    /* readable -> writable */
int pages_protect(struct pages *pages, uint64_t gfn);	    /* writable -> readable */
/* Any state -> invalid: when it returns no CPU can read or write the page through G. */
int pages_unmap(struct pages *pages, uint64_t gfn);
/* invalid -> writable for count pages from gfn on, all invalid and RAM without a gap; at once. A frame
 * that does not exist yet is made, of zeroes. */
int pages_map_run(struct pages *pages, uint64_t gfn, uint64_t count);
/* Lets waiting threads try again. */
int pages_wake(struct pages *pages, uint64_t gfn);

/* Makes the frame exist, which mapping it needs and else does itself (slower). */
void pages_touch_frame(const struct pages *pages, uint64_t gfn);
/* Makes the frame all zeroes; gfn must be invalid in G. */
void pages_zero_frame(struct pages *pages, uint64_t gfn);
/* Is the frame all zeroes? */
bool pages_frame_is_zero(const struct pages *pages, uint64_t gfn);
/* Gives the memory of so many frames in a row back to the host: they read as zeroes then, and are invalid
 * in G. */
int pages_drop_frames(struct pages *pages, uint64_t gfn, uint64_t count);
/* Bytes of frames that exist now; any thread. */
uint64_t pages_frame_bytes(const struct pages *pages);

#endif
