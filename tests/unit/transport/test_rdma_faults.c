/* SPDX-License-Identifier: Apache-2.0 */
/* RDMA on a device that fails: every step of the way back to TCP, and a device that says nothing or goes. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "tests/unit/transport/fake_rdma.h"
#include "tests/unit/transport/rdma_peer.h"

static const struct rdma_offer offer = {.port = 9, .slots = RDMA_SLOTS, .mtu = 1024};

static const struct transport_stats *stats_of(struct rdma_peer *peer)
{
	struct transport *t = peer->rig.slice[peer->slice].transport;

	return t->ops->stats(t);
}

static void up_by_tcp(struct rdma_peer *peer)
{
	cr_assert(rig_until(&peer->rig, &peer->rig.slice[peer->slice].ups, 1));
	cr_assert_eq(stats_of(peer)->links_tcp, 1);
	cr_assert_eq(stats_of(peer)->links_rdma + stats_of(peer)->refused, 0);
	cr_assert_eq(rig_send(&peer->rig, peer->slice, 1 - peer->slice, 0, 4096), 0);
	raw_await(&peer->rig, peer->fd, WIRE_HEADER_SIZE);
}

/* Slice 1 calls: its own end fails, and it says so. */
static void caller_fails(void)
{
	struct rdma_peer peer;
	char word;

	peer_called(&peer, TRANSPORT_AUTO, WIRE_TAKES_RDMA);
	peer_offers(&peer, &offer);
	cr_assert(rig_until(&peer.rig, &peer.rig.slice[1].ups, 1));
	raw_read(peer.fd, &word, 1);
	cr_assert_eq(word, RDMA_WORD_NO);
	up_by_tcp(&peer);
	peer_end(&peer);
}

/* Slice 0 is called: its own end fails, and the caller learns it by a rejection. */
static void callee_fails(void)
{
	uint8_t request[RDMA_REQUEST_SIZE];
	struct fake_faults faults = fake_faults;
	struct rdma_peer peer;

	/* Not the peer's own end. */
	memset(&fake_faults, 0, sizeof(fake_faults));
	peer_calls(&peer, TRANSPORT_AUTO);
	peer_request(&peer, request);
	peer_calls_by_rdma(&peer, request, sizeof(request));
	fake_faults = faults;
	cr_assert_eq(peer_hears(&peer), RDMA_CM_EVENT_REJECTED);
	peer_word(&peer, RDMA_WORD_NO);
	up_by_tcp(&peer);
	peer_end(&peer);
}

Test(rdma_faults, memory_that_cannot_be_registered_ends_in_tcp)
{
	fake_faults.registers_nothing = true;
	caller_fails();
	callee_fails();
}

Test(rdma_faults, a_queue_pair_that_cannot_be_made_ends_in_tcp)
{
	fake_faults.makes_no_pairs = true;
	caller_fails();
	callee_fails();
}

Test(rdma_faults, a_queue_pair_that_cannot_be_connected_ends_in_tcp)
{
	fake_faults.connects_no_pairs = true;
	callee_fails();
}

Test(rdma_faults, a_call_that_cannot_be_accepted_ends_in_tcp)
{
	fake_faults.accepts_nobody = true;
	callee_fails();
}

Test(rdma_faults, no_path_ends_in_tcp)
{
	fake_faults.finds_no_path = true;
	caller_fails();
}

Test(rdma_faults, where_only_rdma_may_be_the_reason_is_said)
{
	struct rdma_peer peer;

	fake_faults.registers_nothing = true;
	peer_called(&peer, TRANSPORT_RDMA, WIRE_TAKES_RDMA);
	peer_offers(&peer, &offer);
	peer_is_lost(&peer, -PANGEA_EPEERFEATURES, "KiB of memory cannot be registered: ");
	peer_end(&peer);
}

Test(rdma_faults, a_device_without_room_in_requests_carries_the_same)
{
	struct rig rig;

	fake_faults.inlines_nothing = true;
	rig_init(&rig, 2, RIG_RDMA);
	rig_up(&rig);
	for (unsigned i = 0; i < 200; i++)
		cr_assert_eq(rig_send(&rig, 0, 1, i, i % 2 ? 4096 : 0), 0);
	cr_assert(rig_until(&rig, &rig.slice[1].received, 200));
	cr_assert_eq(rig.slice[1].bad, 0);
	rig_destroy(&rig);
}

Test(rdma_faults, a_device_that_swallows_what_is_sent_is_noticed_after_the_silence)
{
	struct rdma_peer peer;

	peer_prepare(&peer, TRANSPORT_AUTO);
	peer.rig.silence_ms = 300;
	peer_calls_prepared(&peer);
	peer_up_by_rdma(&peer);
	fake_faults.swallows = true;
	for (unsigned i = 0; i < RDMA_SIGNAL_EVERY; i++)
		cr_assert_eq(rig_send(&peer.rig, 0, 1, i, 0), 0);
	peer_is_lost(&peer, -PANGEA_EPEERLOST, "slice 1 has taken nothing over RDMA for 300 ms");
	peer_end(&peer);
}

Test(rdma_faults, what_was_sent_arrives_though_its_sender_closes_before_it_has_gone)
{
	struct rig rig;

	rig_init(&rig, 2, RIG_RDMA);
	rig_up(&rig);
	fake_faults.delays = true;
	for (unsigned i = 0; i < 5; i++)
		cr_assert_eq(rig_send(&rig, 1, 0, i, 4096), 0);
	rig.slice[1].transport->ops->close(rig.slice[1].transport);
	rig.slice[1].transport = NULL;
	rig_run_ms(&rig, 50);
	cr_assert_eq(rig.slice[0].received + rig.slice[0].lost[1], 0);
	fake_release();
	cr_assert(rig_until(&rig, &rig.slice[0].lost[1], 1));
	cr_assert_eq(rig.slice[0].lost_err[1], -PANGEA_EPEERLOST);
	cr_assert_eq(rig.slice[0].received, 5);
	cr_assert_eq(rig.slice[0].bad, 0);
	rig_destroy(&rig);
}

/* rig_destroy() waits until every handle is closed. */
Test(rdma_faults, closing_does_not_wait_for_ever_for_what_was_sent, .timeout = 60)
{
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_up_by_rdma(&peer);
	fake_faults.swallows = true;
	cr_assert_eq(rig_send(&peer.rig, 0, 1, 0, 0), 0);
	rig_destroy(&peer.rig);
}

Test(rdma_faults, the_end_of_the_peer_ends_the_wait_for_what_was_sent)
{
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_up_by_rdma(&peer);
	fake_faults.swallows = true;
	cr_assert_eq(rig_send(&peer.rig, 0, 1, 0, 0), 0);
	shutdown(peer.fd, SHUT_WR);
	peer_end(&peer);
}

Test(rdma_faults, a_device_that_goes_away_takes_its_links_along)
{
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_up_by_rdma(&peer);
	fake_device_remove();
	peer_is_lost(&peer, -PANGEA_EPEERLOST, "the RDMA connection to slice 1 ended: ");
	peer_end(&peer);
}
