package faults

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"switchboard/internal/domain"
	"switchboard/internal/simulator/cloudapi"
	"switchboard/internal/simulator/telegram"
	"switchboard/internal/simulator/whatsapp"
	"switchboard/internal/testkit"
)

// F2: kill -9 a worker at each state of a send, on each kind of channel. Telegram and the Cloud API recognise no repetition, so
// none is made: what may have left is of unknown fate, which the operators see, and which they decide about. What certainly has
// not left is sent. WhatsApp Web recognises a message by its id: it is sent again under the same one, and shown once. The chat
// goes on behind it.
//
//	queued ──► claimed ─► │ ─► received ──► in effect ─► │ ─► answered ─► │ ─► settled
//	             the way to the provider                      the way to the database
//
// Each state has an organization of its own, and each round kills one worker.
func TestFaultF2_KillWhileSending(t *testing.T) {
	quick(t)
	rounds, clients := sized(1, 5), 5
	w := newWorld(t, plan{organizations: 5, audited: true, linked: true})
	before := w.atRest()
	h := w.herd(clients)
	w.connect(h, clients)
	queued, claimed, received, inEffect, answered := w.orgs[0], w.orgs[1], w.orgs[2], w.orgs[3], w.orgs[4]
	for range rounds {
		sends := w.killOnTheWayOut(queued, claimed)
		sends = append(sends, w.killOnTheWayBack(received, inEffect, answered)...)
		for _, s := range sends {
			w.requireFate(s)
		}
		w.reportLate(sends)
		w.decide(sends)
	}
	w.verdict(h)
	w.upSince(h, clients)
	w.end(h, before)
}

// send is a reply whose worker is killed, with two more behind it in its chat.
type send struct {
	entry

	state    string
	customer int
	message  int64
	behind   []entry
	fate     domain.MessageStatus // after the kill
	effects  int                  // how often the customer has got it
}

func (s *send) String() string {
	return fmt.Sprintf("%s on %s, %s", s.state, s.organization.line(s.customer).kind, s.canary())
}

// beginSends sends a reply to some customers of an organization, and waits until the database has it in a status. On a linked
// number its fate is always to be sent, once.
func (w *world) beginSends(o *organization, state string, status, fate domain.MessageStatus, effects int, to ...int) []*send {
	w.t.Helper()
	var sends []*send
	for _, customer := range to {
		e, err := w.reply(testkit.Context(w.t), o, customer)
		require.NoError(w.t, err)
		s := &send{entry: e, state: state, customer: customer, fate: fate, effects: effects}
		if customer >= onWhatsApp {
			s.fate, s.effects = domain.StatusSent, 1
		}
		for range 2 {
			later, err := w.reply(testkit.Context(w.t), o, customer)
			require.NoError(w.t, err)
			s.behind = append(s.behind, later)
		}
		sends = append(sends, s)
	}
	for _, s := range sends {
		w.awaitStatus(s.entry, status)
		s.message = w.message(s.entry).id
	}
	return sends
}

// killOnTheWayOut kills the worker while it has sends to make, and while some do not come through to the provider.
func (w *world) killOnTheWayOut(queued, claimed *organization) []*send {
	w.t.Helper()
	victim := w.workers[0]
	victim.telegram.Cut()
	victim.cloud.Cut()
	victim.whatsapp.Cut()
	sends := w.beginSends(claimed, "claimed", domain.StatusSending, domain.StatusUnknown, 0, claimed.oneOfEach()...)
	victim.pause()
	sends = append(sends, w.beginSends(queued, "queued", domain.StatusQueued, domain.StatusSent, 1, queued.oneOfEach()...)...)
	w.killWorker(victim)
	w.startWorker()
	return sends
}

// killOnTheWayBack kills the worker while a provider has a request and has not acted, has acted and not answered, and has answered
// without the database being told.
func (w *world) killOnTheWayBack(received, inEffect, answered *organization) []*send {
	w.t.Helper()
	victim := w.workers[0]
	w.awaitServing(victim) // it has just taken over, and its ways are cut soon
	sends, requests := w.holdSends(received, "received", 0, holds{telegram.FaultHang, cloudapi.FaultHang, whatsapp.FaultLose})
	acting, answers := w.holdSends(inEffect, "in effect", 1, holds{telegram.FaultAcceptHang, cloudapi.FaultAcceptHang, whatsapp.FaultNoAck})
	waiting, delays := w.holdSends(answered, "answered", 1, holds{bot: telegram.FaultDelay, cloud: cloudapi.FaultDelay})
	settling, release := w.holdSettling(victim, answered)
	victim.database.Cut()
	w.letAnswer(waiting, delays)
	waiting = append(waiting, settling)
	w.killWorker(victim)
	w.undo(victim)
	release()
	for _, f := range append(requests, answers...) {
		f.clear()
	}
	w.startWorker()
	return append(append(sends, acting...), waiting...)
}

// holds are what keeps the providers from answering.
type holds struct {
	bot   telegram.FaultKind
	cloud cloudapi.FaultKind
	phone whatsapp.FaultKind // "": nothing is sent by the linked number
}

// inFlight keeps answers back that the providers have, until they are let go; WhatsApp's is lost.
var inFlight = holds{telegram.FaultDelay, cloudapi.FaultDelay, whatsapp.FaultNoAck}

// holdSends lets operators write on the lines of an organization. A fault of each kind keeps the providers from answering until
// it is cleared; the customers get the replies so often nevertheless.
func (w *world) holdSends(o *organization, state string, effects int, h holds) ([]*send, []fault) {
	w.t.Helper()
	to := []int{0, onTelegram}
	if effects > 0 { // the Cloud API's reports come when the test says so
		w.setFault(cloudapi.Fault{Kind: cloudapi.FaultStatuses, PhoneNumberID: o.waba.number.PhoneNumberID, Count: 1})
	}
	faults := []fault{
		w.setFault(cloudapi.Fault{Kind: h.cloud, PhoneNumberID: o.waba.number.PhoneNumberID, Count: 1, Delay: time.Hour}),
		w.setFault(telegram.Fault{Kind: h.bot, Bot: o.telegram.bot.ID, Count: 1, Delay: time.Hour}),
	}
	if h.phone != "" {
		to = append(to, onWhatsApp)
		w.holdReceipts(o)
		faults = append(faults, w.setFault(whatsapp.Fault{Kind: h.phone, Number: o.linked.phone, Peer: o.customer(onWhatsApp), Count: 1}))
	}
	sends := w.beginSends(o, state, domain.StatusSending, domain.StatusUnknown, effects, to...)
	for _, f := range faults {
		f.struck()
	}
	return sends, faults
}

// letAnswer ends the delays that hold sends, and waits until the providers have answered.
func (w *world) letAnswer(sends []*send, delays []fault) {
	w.t.Helper()
	for _, f := range delays {
		f.clear()
	}
	for _, s := range sends {
		testkit.EventuallyNoError(w.t, "the provider's answer", func(ctx context.Context) error {
			found, err := w.sentAs(ctx, s.entry)
			if err == nil && (len(found) != 1 || !found[0].told && s.customer < onWhatsApp) {
				err = fmt.Errorf("the ledger has %+v", found)
			}
			return err
		})
	}
}

// requireFate checks what the next worker made of a send: once, or not known; those behind it have left.
func (w *world) requireFate(s *send) {
	w.t.Helper()
	o := s.organization
	for _, e := range s.behind {
		w.awaitSent(e)
	}
	if s.fate == domain.StatusSent {
		w.awaitSent(s.entry)
	} else {
		w.awaitStatus(s.entry, s.fate)
	}
	w.requireEffects(s)
	if s.customer >= onWhatsApp {
		w.requireOneID(s)
	}
	if s.fate != domain.StatusUnknown {
		return
	}
	ctx := testkit.Context(w.t)
	var page struct {
		Items []domain.Message `json:"items"`
	}
	require.NoError(w.t, w.rest(ctx, o, http.MethodGet, fmt.Sprintf("/api/messages?limit=100&chatId=%d", o.chats[s.customer]), nil, &page))
	listed := 0
	for _, m := range page.Items {
		if m.ID == s.message && m.Status == domain.StatusUnknown && m.Error != nil && m.Error.Message != "" {
			listed++
		}
	}
	require.Equal(w.t, 1, listed, "%s is listed as of unknown fate, with a reason", s)
	told := 0
	err := w.query(ctx, `SELECT count(*) FROM events WHERE organization_id = $1 AND name = 'message:status'
		AND (data::jsonb ->> 'messageId')::bigint = $2 AND data::jsonb ->> 'status' = 'unknown'`, []any{o.id, s.message},
		func(r pgx.Rows) error { return r.Scan(&told) })
	require.NoError(w.t, err)
	require.Equal(w.t, 1, told, "screens are told once of %s", s)
}

// requireEffects checks how often the customer has got a reply.
func (w *world) requireEffects(s *send) {
	w.t.Helper()
	found, err := w.sentAs(testkit.Context(w.t), s.entry)
	require.NoError(w.t, err)
	effects := 0
	for _, d := range found {
		if d.effect {
			effects++
		}
	}
	require.Equal(w.t, s.effects, effects, "%s: %+v", s, found)
}

// reportLate lets the Cloud API report what it did with the sends of which the product knows nothing: the mark in
// biz_opaque_callback_data tells which they are.
func (w *world) reportLate(sends []*send) {
	w.t.Helper()
	for _, s := range sends {
		if s.organization.line(s.customer).kind != domain.KindWABA || s.fate != domain.StatusUnknown || s.effects == 0 {
			continue
		}
		found, err := w.sentAs(testkit.Context(w.t), s.entry)
		require.NoError(w.t, err)
		require.NotEmpty(w.t, found[0].id)
		for _, status := range []domain.MessageStatus{domain.StatusSent, domain.StatusDelivered} {
			err := w.control(testkit.Context(w.t), "/control/messages/"+found[0].id+"/status", map[string]any{"status": status})
			require.NoError(w.t, err)
			w.awaitStatus(s.entry, status)
		}
		s.fate = domain.StatusDelivered
		require.Equal(w.t, found[0].id, w.message(s.entry).external, "%s has found its message", s)
		w.t.Logf("%s: mended by a late report", s)
	}
}

// decide sends again, as an operator would, what is still not known.
func (w *world) decide(sends []*send) {
	w.t.Helper()
	for _, s := range sends {
		if s.fate != domain.StatusUnknown {
			continue
		}
		w.retried[s.canary()]++
		require.NoError(w.t, w.rest(testkit.Context(w.t), s.organization, http.MethodPost, fmt.Sprintf("/api/messages/%d/retry", s.message), nil, nil))
		w.awaitSent(s.entry)
		s.effects++
	}
	for _, s := range sends {
		w.requireEffects(s)
		w.t.Logf("%s: reached the customer %d times, with %d retries by operators", s, s.effects, w.retried[s.canary()])
	}
}

// sentAs are the sends of a reply.
func (w *world) sentAs(ctx context.Context, e entry) ([]delivery, error) {
	all, err := w.deliveries(ctx)
	var found []delivery
	id := w.message(e).external // WhatsApp cannot tell the text of what it lost
	for _, d := range all {
		if d.text == e.canary() || d.id != "" && d.id == id {
			found = append(found, d)
		}
	}
	return found, err
}

// storedMessage is what the database has of a message.
type storedMessage struct {
	id       int64
	status   domain.MessageStatus
	external string
}

func (w *world) message(e entry) storedMessage {
	w.t.Helper()
	var m storedMessage
	err := w.query(testkit.Context(w.t), "SELECT id, status, coalesce(external_id, '') FROM messages WHERE organization_id = $1 AND content = $2",
		[]any{e.organization.id, e.canary()}, func(r pgx.Rows) error { return r.Scan(&m.id, &m.status, &m.external) })
	require.NoError(w.t, err)
	return m
}

// awaitStatus waits until a message has one of these statuses.
func (w *world) awaitStatus(e entry, statuses ...domain.MessageStatus) {
	w.t.Helper()
	want := make([]string, len(statuses))
	for i, s := range statuses {
		want[i] = string(s)
	}
	testkit.EventuallyNoError(w.t, e.canary()+" to be "+strings.Join(want, " or "), func(ctx context.Context) error {
		status, found := "", false
		err := w.query(ctx, "SELECT status, status = ANY ($3) FROM messages WHERE organization_id = $1 AND content = $2",
			[]any{e.organization.id, e.canary(), want}, func(r pgx.Rows) error { return r.Scan(&status, &found) })
		if err == nil && !found {
			err = fmt.Errorf("it is %s", status)
		}
		return err
	})
}

// awaitSent waits until a message has left, or more.
func (w *world) awaitSent(e entry) {
	w.t.Helper()
	w.awaitStatus(e, domain.StatusSent, domain.StatusDelivered, domain.StatusRead)
}
