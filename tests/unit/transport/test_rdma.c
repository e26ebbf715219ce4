/* SPDX-License-Identifier: Apache-2.0 */
/* RDMA against bad peers and bad luck, the ways back to TCP, and hosts without a device. */
#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/error.h"
#include "tests/unit/transport/rdma_peer.h"

static const struct transport_stats *stats_of(struct rdma_peer *peer)
{
	struct transport *t = peer->rig.slice[peer->slice].transport;

	return t->ops->stats(t);
}

/* A machine message of slice 1, numbered arg, with this length in its header. */
static size_t message(uint8_t *out, uint64_t arg, uint32_t payload_len)
{
	struct wire_msg msg = {.type = MSG_MACHINE_FIRST, .arg = arg, .payload_len = payload_len};

	memset(out, 0, WIRE_HEADER_SIZE + payload_len);
	wire_msg_encode(&msg, out);
	return WIRE_HEADER_SIZE;
}

/* Everywhere: no device has 127.0.0.1. */

static void loopback_rig(struct rig *rig, enum transport_wish wish)
{
	rig_init(rig, 2, RIG_TCP);
	rig->wish = wish;
	rig->rdma = (struct rdma_option){.allowed = true, .gid_index = -1};
}

Test(rdma, without_a_device_a_peer_that_only_rdma_may_reach_is_lost)
{
	struct rig rig;

	loopback_rig(&rig, TRANSPORT_RDMA);
	for (unsigned i = 0; i < 2; i++)
		rig_create(&rig, i, NULL);
	for (unsigned i = 0; i < 2; i++)
		rig_connect(&rig, i);
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert_eq(rig.slice[1].lost_err[0], -PANGEA_EPEERFEATURES);
	cr_assert(strstr(rig.slice[1].lost_why[0], "slice 0 cannot be reached by RDMA: "), "%s",
		  rig.slice[1].lost_why[0]);
	cr_assert(strstr(rig.slice[1].lost_why[0], "RDMA device"), "%s", rig.slice[1].lost_why[0]);
	cr_assert(rig_until(&rig, &rig.slice[0].lost[1], 1));
	cr_assert_eq(rig.slice[0].ups + rig.slice[1].ups, 0);
	rig_destroy(&rig);
}

Test(rdma, a_node_that_allows_none_says_so)
{
	struct rig rig;

	loopback_rig(&rig, TRANSPORT_RDMA);
	rig.rdma.allowed = false;
	for (unsigned i = 0; i < 2; i++)
		rig_create(&rig, i, NULL);
	for (unsigned i = 0; i < 2; i++)
		rig_connect(&rig, i);
	cr_assert(rig_until(&rig, &rig.slice[1].lost[0], 1));
	cr_assert(strstr(rig.slice[1].lost_why[0], "this node allows none"), "%s",
		  rig.slice[1].lost_why[0]);
	rig_destroy(&rig);
}

Test(rdma, without_a_device_all_else_goes_on)
{
	struct rig rig;

	loopback_rig(&rig, TRANSPORT_AUTO);
	rig_up(&rig);
	cr_assert_eq(rig_send(&rig, 0, 1, 0, 4096), 0);
	cr_assert(rig_until(&rig, &rig.slice[1].received, 1));
	cr_assert_eq(rig.slice[0].transport->ops->stats(rig.slice[0].transport)->links_shm, 1);
	rig_destroy(&rig);
}

/* Which device it is. */

static void refused_by_option(struct rig *rig, const char *says)
{
	for (unsigned i = 0; i < 2; i++)
		rig_create(rig, i, NULL);
	for (unsigned i = 0; i < 2; i++)
		rig_connect(rig, i);
	cr_assert(rig_until(rig, &rig->slice[1].lost[0], 1));
	cr_assert(strstr(rig->slice[1].lost_why[0], says), "%s", rig->slice[1].lost_why[0]);
	rig_destroy(rig);
}

Test(rdma, another_device_than_was_asked_for_is_not_used)
{
	struct rig rig;

	rig_init(&rig, 2, RIG_RDMA);
	strcpy(rig.rdma.device, "nothing_0");
	refused_by_option(&rig, "and nothing_0 was asked for");
}

Test(rdma, another_port_than_was_asked_for_is_not_used)
{
	struct rig rig;

	rig_init(&rig, 2, RIG_RDMA);
	rig.rdma.port = 7;
	refused_by_option(&rig, "and port 7 was asked for");
}

Test(rdma, a_gid_of_another_address_is_not_used)
{
	struct rig rig;

	rig_init(&rig, 2, RIG_RDMA);
	rig.rdma.gid_index = 99;
	refused_by_option(&rig, "GID 99 of device");
}

Test(rdma, an_mtu_that_is_none_is_not_used)
{
	struct rig rig;

	rig_init(&rig, 2, RIG_RDMA);
	rig.rdma.mtu = 1500;
	refused_by_option(&rig, "an MTU of 1500 bytes");
}

Test(rdma, the_smallest_mtu_carries_pages)
{
	struct rig rig;

	rig_init(&rig, 2, RIG_RDMA);
	rig.rdma.mtu = 256;
	rig_create(&rig, 0, NULL);
	rig.rdma.mtu = 0; /* one side's word is enough */
	rig_create(&rig, 1, NULL);
	rig_connect(&rig, 0);
	rig_connect(&rig, 1);
	cr_assert(rig_until(&rig, &rig.slice[0].ups, 1));
	cr_assert(rig_until(&rig, &rig.slice[1].ups, 1));
	for (unsigned i = 0; i < 20; i++) {
		cr_assert_eq(rig_send(&rig, 0, 1, i, 4096), 0);
		cr_assert_eq(rig_send(&rig, 1, 0, i, 4096), 0);
	}
	cr_assert(rig_until(&rig, &rig.slice[0].received, 20));
	cr_assert(rig_until(&rig, &rig.slice[1].received, 20));
	cr_assert_eq(rig.slice[0].bad + rig.slice[1].bad, 0);
	rig_destroy(&rig);
}

Test(rdma, links_are_counted_and_looked_at_without_the_loop)
{
	struct rig rig;
	struct transport *t;
	int got = 0;

	rig_init(&rig, 2, RIG_RDMA);
	rig_up(&rig);
	t = rig.slice[1].transport;
	cr_assert_eq(t->ops->stats(t)->links_rdma, 1);
	cr_assert_eq(t->ops->link(t, 0), LINK_RDMA);
	cr_assert_eq(t->ops->poll(t), 0);
	cr_assert_eq(rig_send(&rig, 0, 1, 0, 4096), 0);
	for (unsigned i = 0; i < 100000000 && got == 0; i++)
		got = t->ops->poll(t);
	cr_assert_eq(got, 1);
	cr_assert_eq(rig.slice[1].received, 1);
	cr_assert_eq(rig.slice[1].bad, 0);
	rig_destroy(&rig);
}

/* The ways back to TCP. */

static void message_by_tcp(struct rdma_peer *peer)
{
	uint8_t bytes[WIRE_HEADER_SIZE];

	raw_write(peer->fd, bytes, message(bytes, 0, 0));
	cr_assert(rig_until(&peer->rig, &peer->rig.slice[peer->slice].received, 1));
	cr_assert_eq(stats_of(peer)->links_tcp, 1);
	cr_assert_eq(stats_of(peer)->links_rdma, 0);
}

Test(rdma, a_caller_that_cannot_goes_on_by_tcp)
{
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_word(&peer, RDMA_WORD_NO);
	cr_assert(rig_until(&peer.rig, &peer.rig.slice[0].ups, 1));
	message_by_tcp(&peer);
	peer_end(&peer);
}

Test(rdma, a_caller_that_cannot_is_lost_where_only_rdma_may_be)
{
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_RDMA);
	peer_word(&peer, RDMA_WORD_NO);
	peer_is_lost(&peer, -PANGEA_EPEERFEATURES, "slice 1 cannot be reached by RDMA");
	peer_end(&peer);
}

Test(rdma, an_offer_that_leads_nowhere_ends_in_tcp)
{
	const struct rdma_offer offer = {.port = 9, .slots = RDMA_SLOTS, .mtu = 1024};
	struct rdma_peer peer;
	char word;

	peer_called(&peer, TRANSPORT_AUTO, WIRE_TAKES_RDMA);
	peer_offers(&peer, &offer);
	cr_assert(rig_until(&peer.rig, &peer.rig.slice[1].ups, 1));
	raw_read(peer.fd, &word, 1);
	cr_assert_eq(word, RDMA_WORD_NO);
	message_by_tcp(&peer);
	peer_end(&peer);
}

Test(rdma, an_offer_that_leads_nowhere_is_a_loss_where_only_rdma_may_be)
{
	const struct rdma_offer offer = {.port = 9, .slots = RDMA_SLOTS, .mtu = 1024};
	struct rdma_peer peer;

	peer_called(&peer, TRANSPORT_RDMA, WIRE_TAKES_RDMA);
	peer_offers(&peer, &offer);
	peer_is_lost(&peer, -PANGEA_EPEERFEATURES, "slice 0 cannot be reached by RDMA");
	peer_end(&peer);
}

Test(rdma, a_peer_without_rdma_is_reached_by_tcp)
{
	struct rdma_peer peer;

	peer_called(&peer, TRANSPORT_AUTO, 0);
	cr_assert(rig_until(&peer.rig, &peer.rig.slice[1].ups, 1));
	message_by_tcp(&peer);
	peer_end(&peer);
}

Test(rdma, a_peer_without_rdma_is_lost_where_only_rdma_may_be)
{
	struct rdma_peer peer;

	peer_called(&peer, TRANSPORT_RDMA, 0);
	peer_is_lost(&peer, -PANGEA_EPEERFEATURES, "it offers none");
	peer_end(&peer);
}

/* While it is being tried. */

Test(rdma, an_offer_that_is_none_is_nonsense)
{
	struct rdma_offer offer = {.port = 0, .slots = RDMA_SLOTS, .mtu = 1024};
	struct rdma_peer peer;

	peer_called(&peer, TRANSPORT_AUTO, WIRE_TAKES_RDMA);
	peer_offers(&peer, &offer);
	peer_is_lost(&peer, -PANGEA_EWIRE, "an offer of RDMA that is none");
	peer_end(&peer);
}

Test(rdma, a_word_that_is_none_is_a_violation)
{
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_word(&peer, 'x');
	peer_is_lost(&peer, -PANGEA_EPROTOCOL, "neither that RDMA works");
	peer_end(&peer);
}

Test(rdma, who_says_that_it_works_must_have_called)
{
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_word(&peer, RDMA_WORD_UP);
	peer_is_lost(&peer, -PANGEA_EPROTOCOL, "it has not called");
	peer_end(&peer);
}

Test(rdma, a_wrong_token_is_refused_and_the_right_one_still_taken)
{
	uint8_t request[RDMA_REQUEST_SIZE];
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_request(&peer, request);
	request[RDMA_REQUEST_SIZE - 1] ^= 1;
	cr_assert_eq(peer_connects(&peer, request, sizeof(request)), RDMA_CM_EVENT_REJECTED);
	cr_assert_eq(stats_of(&peer)->refused, 1);
	cr_assert_eq(peer.rig.slice[0].lost[1] + peer.rig.slice[0].ups, 0);
	peer_up_by_rdma(&peer);
	cr_assert_eq(stats_of(&peer)->links_rdma, 1);
	peer_end(&peer);
}

Test(rdma, a_token_is_good_once)
{
	uint8_t request[RDMA_REQUEST_SIZE];
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_request(&peer, request);
	cr_assert_eq(peer_connects(&peer, request, sizeof(request)), RDMA_CM_EVENT_ESTABLISHED);
	cr_assert_eq(peer_connects(&peer, request, sizeof(request)), RDMA_CM_EVENT_REJECTED);
	cr_assert_eq(stats_of(&peer)->refused, 1);
	peer_end(&peer);
}

static void request_is_refused(unsigned at, uint8_t byte, size_t len)
{
	uint8_t request[RDMA_REQUEST_SIZE];
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_request(&peer, request);
	request[at] = byte;
	cr_assert_eq(peer_connects(&peer, request, len), RDMA_CM_EVENT_REJECTED);
	cr_assert_eq(stats_of(&peer)->refused, 1);
	peer_word(&peer, RDMA_WORD_NO);
	cr_assert(rig_until(&peer.rig, &peer.rig.slice[0].ups, 1));
	message_by_tcp(&peer);
	peer_end(&peer);
}

Test(rdma, private_data_of_somebody_else_are_refused)
{
	request_is_refused(0, 'X', RDMA_REQUEST_SIZE);
}

Test(rdma, private_data_of_another_version_are_refused)
{
	request_is_refused(4, 9, RDMA_REQUEST_SIZE);
}

Test(rdma, private_data_that_are_cut_off_are_refused)
{
	request_is_refused(0, 'R', 8);
}

/* Once it is up. */

Test(rdma, messages_go_both_ways)
{
	uint8_t bytes[WIRE_HEADER_SIZE];
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_up_by_rdma(&peer);
	peer_sends(&peer, bytes, message(bytes, 0, 0), 0);
	cr_assert(rig_until(&peer.rig, &peer.rig.slice[0].received, 1));
	cr_assert_eq(rig_send(&peer.rig, 0, 1, 0, 4096), 0);
	for (unsigned ms = 0; ms < 10000 && peer.got == 0; ms++) {
		rig_run_ms(&peer.rig, 1);
		peer_polls(&peer);
	}
	cr_assert_eq(peer.got, 1);
	cr_assert_eq(peer.got_words, 1, "one credit comes back with it");
	peer_end(&peer);
}

Test(rdma, what_came_before_the_word_is_kept_for_it)
{
	uint8_t request[RDMA_REQUEST_SIZE], bytes[WIRE_HEADER_SIZE];
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_request(&peer, request);
	cr_assert_eq(peer_connects(&peer, request, sizeof(request)), RDMA_CM_EVENT_ESTABLISHED);
	peer_sends(&peer, bytes, message(bytes, 0, 0), 0);
	rig_run_ms(&peer.rig, 100);
	cr_assert_eq(peer.rig.slice[0].received, 0);
	peer_word(&peer, RDMA_WORD_UP);
	cr_assert(rig_until(&peer.rig, &peer.rig.slice[0].received, 1));
	cr_assert_eq(peer.rig.slice[0].bad, 0);
	peer_end(&peer);
}

/* A message of these bytes and this immediate data ends the link so. */
static void send_is_refused(const void *bytes, size_t len, uint32_t word, int err, const char *says)
{
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_up_by_rdma(&peer);
	peer_sends(&peer, bytes, len, word);
	peer_is_lost(&peer, err, says);
	peer_end(&peer);
}

Test(rdma, immediate_data_that_are_none_end_the_link)
{
	uint8_t bytes[WIRE_HEADER_SIZE];

	send_is_refused(bytes, message(bytes, 0, 0), RDMA_SLOTS + 1, -PANGEA_EWIRE,
			"its immediate data are none");
}

Test(rdma, credits_that_nobody_took_end_the_link)
{
	send_is_refused(NULL, 0, 1, -PANGEA_EWIRE, "more credits than there are");
}

Test(rdma, a_message_that_is_shorter_than_a_header_ends_the_link)
{
	uint8_t bytes[WIRE_HEADER_SIZE];

	message(bytes, 0, 0);
	send_is_refused(bytes, 10, 0, -PANGEA_EWIRELEN, "sent nonsense");
}

Test(rdma, a_message_that_is_shorter_than_it_says_ends_the_link)
{
	uint8_t bytes[WIRE_HEADER_SIZE + 100];

	message(bytes, 0, 100);
	send_is_refused(bytes, WIRE_HEADER_SIZE + 99, 0, -PANGEA_EWIRELEN, "sent nonsense");
}

Test(rdma, a_message_of_no_type_ends_the_link)
{
	uint8_t bytes[WIRE_HEADER_SIZE];

	message(bytes, 0, 0);
	bytes[0] = 0;
	send_is_refused(bytes, WIRE_HEADER_SIZE, 0, -PANGEA_EWIRE, "sent nonsense");
}

/* What a device calls it is the device's affair. */
static void device_ends_it(struct rdma_peer *peer)
{
	cr_assert(rig_until(&peer->rig, &peer->rig.slice[0].lost[1], 1));
	cr_assert_eq(peer->rig.slice[0].received, 0);
}

Test(rdma, a_message_that_is_longer_than_a_slot_ends_the_link)
{
	static uint8_t bytes[WIRE_HEADER_SIZE + WIRE_PAYLOAD_MAX + 1];
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_up_by_rdma(&peer);
	peer_sends(&peer, bytes, sizeof(bytes), 0);
	device_ends_it(&peer);
	peer_end(&peer);
}

Test(rdma, a_send_without_immediate_data_ends_the_link)
{
	uint8_t bytes[WIRE_HEADER_SIZE];
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_up_by_rdma(&peer);
	peer_sends_plain(&peer, bytes, message(bytes, 0, 0));
	peer_is_lost(&peer, -PANGEA_EWIRE, "no send with immediate data");
	peer_end(&peer);
}

Test(rdma, a_write_ends_the_link)
{
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_up_by_rdma(&peer);
	peer_writes_nothing(&peer);
	device_ends_it(&peer);
	peer_end(&peer);
}

Test(rdma, bytes_on_the_connection_beside_it_are_a_violation)
{
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_up_by_rdma(&peer);
	peer_word(&peer, 'z');
	peer_is_lost(&peer, -PANGEA_EPROTOCOL, "spoke on its TCP connection");
	peer_end(&peer);
}

Test(rdma, a_peer_that_gives_no_credits_back_is_lost_after_the_silence)
{
	struct rdma_peer peer;

	peer_prepare(&peer, TRANSPORT_AUTO);
	peer.rig.silence_ms = 500;
	peer_calls_prepared(&peer);
	peer_up_by_rdma(&peer);
	for (unsigned i = 0; i < RDMA_SLOTS + 8; i++)
		cr_assert_eq(rig_send(&peer.rig, 0, 1, i, 4096), 0);
	cr_assert_eq(peer.rig.slice[0].transport->ops->backlog(peer.rig.slice[0].transport, 1), 8);
	peer_is_lost(&peer, -PANGEA_EPEERLOST, "and 8 messages wait for it");
	peer_polls(&peer);
	cr_assert_eq(peer.got, RDMA_SLOTS, "no more than it has receives for");
	peer_end(&peer);
}

Test(rdma, credits_that_come_back_let_what_waits_go)
{
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_up_by_rdma(&peer);
	for (unsigned i = 0; i < RDMA_SLOTS + 8; i++)
		cr_assert_eq(rig_send(&peer.rig, 0, 1, i, i % 2 ? 4096 : 0), 0);
	for (unsigned ms = 0; ms < 10000 && peer.got < RDMA_SLOTS; ms++) {
		rig_run_ms(&peer.rig, 1);
		peer_polls(&peer);
	}
	cr_assert_eq(peer.got, RDMA_SLOTS);
	peer_sends(&peer, NULL, 0, RDMA_SLOTS);
	for (unsigned ms = 0; ms < 10000 && peer.got < RDMA_SLOTS + 8; ms++) {
		rig_run_ms(&peer.rig, 1);
		peer_polls(&peer);
	}
	cr_assert_eq(peer.got, RDMA_SLOTS + 8);
	peer_end(&peer);
}

Test(rdma, a_peer_whose_queue_pair_is_gone_does_not_answer)
{
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_up_by_rdma(&peer);
	peer_pair_destroy(&peer);
	cr_assert_eq(rig_send(&peer.rig, 0, 1, 0, 4096), 0);
	peer_is_lost(&peer, -PANGEA_EPEERLOST,
		     "slice 1 does not answer over RDMA: transport retry");
	peer_end(&peer);
}

Test(rdma, the_end_of_the_connection_beside_it_is_the_peers)
{
	struct rdma_peer peer;

	peer_calls(&peer, TRANSPORT_AUTO);
	peer_up_by_rdma(&peer);
	shutdown(peer.fd, SHUT_WR);
	peer_is_lost(&peer, -PANGEA_EPEERLOST, "slice 1 closed the connection");
	peer_end(&peer);
}
